"""Words that anybody may have chosen, on a page of markdown."""

from __future__ import annotations

import re

from msgm_bench.storage.names import single_line

DASH = "–"
LONGEST = 1000  # letters of a stranger's text on a page


def page_text(text: object) -> str:
    """``text`` as markdown shows it letter by letter, on one line and inside a table.

    No link, image, tag, list or rule comes of it. What is longer than ``LONGEST`` letters is cut,
    a dash stands for no word at all, and ``@`` within an address of mail becomes ``(at)``.
    """
    return line_start(escaped(one_line(text))) or DASH


def page_code(text: object) -> str:
    """``text`` on one line, in code type; for lists and paragraphs, not for tables."""
    line = single_line(text) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{line}{space}{fence}"


def one_line(text: object, limit: int = LONGEST) -> str:
    """``text`` on one line with single spaces, without terminal escapes, cut at ``limit``."""
    line = " ".join(single_line(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def escaped(line: str) -> str:
    """A part of a line in which nothing is markdown."""
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*\[\]|~#$])", r"\\\1", line)
    line = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)  # nothing inside a word
    line = line.replace("://", "&#58;//")
    line = re.sub(r"(?i)\b(www)\.", r"\1&#46;", line)
    return re.sub(r"(?<=[\w.+-])@(?=[A-Za-z][\w-]*\.)", " (at) ", line)


def line_start(line: str) -> str:
    """The line, with no list and no rule at its start."""
    return re.sub(r"^(\d{0,9})([-+=.)])(?=[-+=\s]|$)", r"\1\\\2", line)
