"""Untrusted names as parts of paths and as lines of a terminal."""

from __future__ import annotations

import re
import unicodedata

from msgm_bench.errors import clean

PATH_LIMIT = 60  # letters; with a hash behind it, below every file system's 255 bytes


def path_part(text: str, limit: int = PATH_LIMIT) -> str:
    """``text`` as a part of a file's name: lower case, readable, never a path.

    Letters and numerals of any language stay, and ``+ - _ .`` inside; other letters become ``_``.
    Two texts may have the same part, so callers put a hash of the text beside it.
    """
    letters = unicodedata.normalize("NFC", text).lower()
    safe = re.sub(r"[^\w+.-]", "_", letters).strip("._-")
    while len(safe.encode("utf-8")) > limit:
        safe = safe[:-1]
    return safe.rstrip("._-") or "_"


def single_line(text: object) -> str:
    """``text`` on one line and without terminal escapes."""
    return clean(" ".join(str(text).splitlines()))
