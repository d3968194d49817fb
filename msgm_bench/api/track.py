"""Tracks: what the models of a run take beside x_t and t. Tracks are never compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationInfo

Track = Literal["unconditional", "class", "text"]
_NAMES: Mapping[Track, str] = {
    "unconditional": "unconditional",
    "class": "class-conditional",
    "text": "text-to-image",
}


def track_name(track: Track) -> str:
    """The models of a track in words: unconditional, class-conditional, text-to-image."""
    return _NAMES[track]


def track_of(conditional: bool, text: bool) -> Track:
    """The track of models that take a class (``conditional``), a prompt (``text``) or neither."""
    if text:
        return "text"
    return "class" if conditional else "unconditional"


def _without_classes(text: bool, info: ValidationInfo) -> bool:
    if text and info.data.get("conditional"):
        raise ValueError("true only without `conditional`: a model takes a class or a prompt")
    return text


TextFlag = Annotated[bool, AfterValidator(_without_classes)]
"""A field ``text`` after the field ``conditional``, of which one at most is true."""
