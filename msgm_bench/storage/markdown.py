"""Untrusted text in markdown: no part of it becomes markup."""

from __future__ import annotations

import re

from msgm_bench.errors import shorten
from msgm_bench.storage.names import single_line

DASH = "–"
MAX_LETTERS = 1000  # of a text on a page


def markdown_text(text: object) -> str:
    """``text`` as markdown that shows it letter by letter, on one line and inside a table.

    It makes no link, image, tag, list or rule. A text longer than ``LONGEST`` letters is cut,
    a dash stands for no word at all, and ``@`` within an address of mail becomes ``(at)``.
    """
    return escape_line_start(escape_markdown(one_line(text))) or DASH


def markdown_code(text: object) -> str:
    """``text`` on one line as code; for lists and paragraphs, not for tables."""
    line = single_line(text) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{line}{space}{fence}"


def one_line(text: object, limit: int = MAX_LETTERS) -> str:
    """``text`` on one line with single spaces, without terminal escapes, cut at ``limit``."""
    line = " ".join(single_line(text).split())
    return shorten(line, limit)


def escape_markdown(line: str) -> str:
    """A part of a line with every markdown character escaped."""
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*\[\]|~#$])", r"\\\1", line)
    line = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)  # nothing inside a word
    line = line.replace("://", "&#58;//")
    line = re.sub(r"(?i)\b(www)\.", r"\1&#46;", line)
    return re.sub(r"(?<=[\w.+-])@(?=[A-Za-z][\w-]*\.)", " (at) ", line)


def escape_line_start(line: str) -> str:
    """The line with the mark of a list or a rule at its start escaped."""
    return re.sub(r"^(\d{0,9})([-+=.)])(?=[-+=\s]|$)", r"\1\\\2", line)
