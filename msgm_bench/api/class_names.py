"""Names of classes as users type them: indices of classes, and lists of names as text."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence

from msgm_bench.errors import OptionError, did_you_mean, shorten

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
MAX_LISTED_NAMES = 40


def indices(classes: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Indices of ``names`` among ``classes``, in order.

    A text is first read as one name, then as a list at its commas (``split_names``). One name that
    is no class is read with its quotes, too. A name is the equal class, else the only class that is
    equal in any case, else (where no class has a number for a name) the class of that index.

    Raises:
        OptionError: An unknown class, or a text with two readings.
    """
    if len(names) == 1 and names[0] not in classes and join_names(names) in classes:
        names = [join_names(names)]
    parts = [index for name in names for index in _of_text(classes, name)]
    whole = None if len(names) < 2 else _match(classes, join_names(names))
    if whole is None:
        missing = next((part for part in parts if isinstance(part, str)), None)
        if missing is not None:
            raise _unknown(classes, missing)
        return tuple(sorted({int(part) for part in parts}))
    if not any(isinstance(part, str) for part in parts):
        text = join_names(names)
        quoted = ",".join(_quoted(name) for name in names)
        raise OptionError(
            f"{text!r} is the name of a class, and a list of the names of others",
            f"{_quoted(text)} for the one, {quoted} for the others",
        )
    return (whole,)


def split_names(text: str) -> tuple[str, ...]:
    """Names of a list in one text: ``cat, dog`` or ``"tench, Tinca tinca",dog``, as in CSV."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True))
    except csv.Error:
        return (text,)
    return tuple(part for row in rows for part in row if part.strip())


def join_names(names: Sequence[str]) -> str:
    """The list as one text, from which ``parse_names`` makes the same names."""
    return ",".join(
        _quoted(name) if set(name) & set(',"\r\n') or name != name.strip() else name
        for name in names
    )


def comma_list(names: Sequence[str]) -> str:
    """The list as one text with blanks, for people."""
    return ", ".join(join_names([name]) for name in names)


def parse_names(text: str) -> tuple[str, ...]:
    """The names of a text that is a list beyond doubt, else the text alone.

    A text with blanks after its commas may be one name (``tench, Tinca tinca``): only the classes
    can tell.
    """
    names = split_names(text)
    return names if not names or join_names(names) == text else (text,)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _of_text(classes: Sequence[str], text: str) -> list[int | str]:
    """Indices that a text stands for; a name that is no class as it is."""
    whole = _match(classes, text)
    if whole is not None:
        return [whole]
    matches = ((_match(classes, part), part) for part in split_names(text) or (text,))
    return [part if index is None else index for index, part in matches]


def _match(classes: Sequence[str], name: str) -> int | None:
    """Index of the class that ``name`` stands for, or None."""
    for equal in (str, str.strip, _folded):
        same = [i for i, known in enumerate(classes) if equal(known) == equal(name)]
        if len(same) == 1:
            return same[0]
    if any(NUMBER.fullmatch(known.strip()) for known in classes):
        return None
    numbers = {str(i): i for i in range(len(classes))}
    return numbers.get(name.strip())


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


def _unknown(classes: Sequence[str], name: str) -> OptionError:
    folded = [_folded(known) for known in classes]
    if folded.count(_folded(name)) > 1:
        same = [known for known, fold in zip(classes, folded, strict=True) if fold == _folded(name)]
        return OptionError(f"{shorten(name)!r} may be any of several classes", comma_list(same))
    more = len(classes) - MAX_LISTED_NAMES
    allowed = comma_list(classes[:MAX_LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")
    near = did_you_mean(_folded(name), folded)
    return OptionError(f"the dataset has no class {shorten(name)!r} to forget{near}", allowed)
