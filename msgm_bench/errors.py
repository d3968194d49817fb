"""Errors that a user can act on: what is wrong, what is allowed, what to do next."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

NAME_LIMIT = 80  # letters of a name in a message
_INVISIBLE = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")  # controls, formats, lone surrogates, breaks
_BREAKS = "\n\t"


class MsgmBenchError(Exception):
    """Base of every error that the command line shows without a traceback.

    Args:
        what: What is wrong, or has happened.
        allowed: Values that are accepted.
        hint: What to do next.
    """

    def __init__(self, what: str, allowed: str = "", hint: str = "") -> None:
        super().__init__(what, allowed, hint)
        self.what, self.allowed, self.hint = what, allowed, hint

    def __str__(self) -> str:
        """The parts that are not empty, one a line, without terminal escapes."""
        parts = (self.what, self.allowed and f"allowed: {self.allowed}", self.hint)
        return clean("\n".join(part for part in parts if part))


class UsageError(MsgmBenchError):
    """The request itself is wrong; the command line exits with 2."""


class OptionError(UsageError):
    """An option is unknown, out of range or of the wrong type."""


class UnknownNameError(UsageError):
    """A name that no plugin registers; the message has the nearest registered name."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        super().__init__(
            f"unknown {kind} {shorten(name)!r}{did_you_mean(name, names)}",
            ", ".join(names) or "none is registered",
            hint,
        )


class IncompatibleError(UsageError):
    """A method, backbone, regime or dataset that do not go together."""


class PluginError(MsgmBenchError):
    """A plugin is broken, or two plugins claim one name."""


class DivergenceError(MsgmBenchError):
    """Training has values that are not finite, or beyond a method's own threshold."""


class StorageError(MsgmBenchError):
    """A folder cannot be written, a disk is full, or a stored file is damaged."""


class RankError(MsgmBenchError):
    """Another process of the same run has ended, or does not answer."""


class RefusedError(MsgmBenchError):
    """A submission contradicts itself, this program or the board."""


def joined(errors: Sequence[MsgmBenchError]) -> MsgmBenchError:
    """One error that says what each of ``errors`` says; a single one is itself."""
    if len(errors) == 1:
        return errors[0]
    kind = UsageError if all(isinstance(error, UsageError) for error in errors) else MsgmBenchError
    return kind("\n".join(map(str, errors)))


def shorten(text: str, limit: int = NAME_LIMIT) -> str:
    """``text``, cut to ``limit`` letters with an ellipsis at the end."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name[:NAME_LIMIT], list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def key_at(location: Sequence[int | str], values: object) -> str:
    """The dotted key in ``values`` for a location of pydantic.

    Where a value may be of several types, pydantic puts the name of the type into the location,
    which is no key and is skipped. A last part that is not in ``values`` is the missing key.
    """
    keys, rest = [], values
    for i, part in enumerate(location):
        mapping = isinstance(rest, Mapping)
        try:
            rest = rest[part]  # type: ignore[index]
        except (LookupError, TypeError):  # a mapping's own error for a key, any other's for a name
            if not mapping or i < len(location) - 1:
                continue
        keys.append(str(part))
    return ".".join(keys)


def clean(text: str) -> str:
    r"""``text`` with every control and invisible character but line break and tab as ``\x1b``.

    Terminal escapes, bidirectional overrides and lone surrogates become visible and harmless.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter
        if letter in _BREAKS or unicodedata.category(letter) not in _INVISIBLE
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
