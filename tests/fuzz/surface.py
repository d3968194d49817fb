"""Surfaces: kinds of untrusted files, with valid files that are made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Surface:
    """A kind of untrusted file.

    Attributes:
        name: What it is.
        build: Writes the sound files into an empty folder.
        file: The file that is spoiled, a pattern below the folder.
        kind: ``json``, ``result``, ``yaml``, ``safetensors`` or ``bytes``.
        commands: What reads it, given the folder.
        sound: Exit code where nothing is spoiled.
    """

    name: str
    build: Callable[[Path], object]
    file: str
    kind: str
    commands: Callable[[Path], list[list[str]]]
    sound: int = 0


_MADE: dict[Callable[[Path], object], Path] = {}
PLACE: list[Path] = []  # where things are made once; set by the test


def once(build: Callable[[Path], object]) -> Path:
    """The folder in which ``build`` has written; it runs once a process."""
    if build not in _MADE:
        place = PLACE[0] / str(len(_MADE))
        place.mkdir()
        build(place)
        _MADE[build] = place
    return _MADE[build]
