"""From names that anybody may have chosen to places: a path, a line of a terminal or a page."""

from __future__ import annotations

import re
import unicodedata

from msgm_bench.errors import clean

PATH_LIMIT = 60  # letters; with a hash behind it, below every file system's 255 bytes


def path_part(text: str, limit: int = PATH_LIMIT) -> str:
    """``text`` as a part of a file's name: lower case, readable, never a path.

    Letters and numerals of any language stay, and ``+ - _ .`` inside; all else becomes ``_``. Two
    texts may give one part: put a hash of the whole beside it.
    """
    letters = unicodedata.normalize("NFC", text).lower()
    safe = re.sub(r"[^\w+.-]", "_", letters).strip("._-")
    while len(safe.encode("utf-8")) > limit:
        safe = safe[:-1]
    return safe.rstrip("._-") or "_"


def single_line(text: object) -> str:
    """``text`` on one line and without terminal escapes."""
    return clean(" ".join(str(text).splitlines()))


def page_text(text: object) -> str:
    """``text`` on one line as a page of markdown shows it letter by letter, in a table too."""
    line = single_line(" ".join(str(text).split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", line)


def page_code(text: object) -> str:
    """``text`` on one line, in the code type of a page of markdown."""
    line = single_line(text) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{line}{space}{fence}"
