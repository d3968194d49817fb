"""The toy models of each track, for checks that run on all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from msgm_bench.api import Data, Model
from msgm_bench.testing.toy_text import toy_captions, toy_text_base, toy_text_model
from msgm_bench.testing.toys import toy_base, toy_images, toy_model


@dataclass(frozen=True)
class ToyTrack:
    """Data and models of a track.

    Attributes:
        name: The track, for messages.
        data: Makes the data.
        model: Makes a model with fresh weights from torch's current random state.
        base: Makes a frozen model that was trained on all of the data.
    """

    name: str
    data: Callable[[], Data]
    model: Callable[[], Model]
    base: Callable[[], Model]


UNCONDITIONAL = ToyTrack(
    "unconditional", toy_images, partial(toy_model, None), partial(toy_base, None)
)
CLASS = ToyTrack("class-conditional", toy_images, partial(toy_model, 3), partial(toy_base, 3))
TEXT = ToyTrack("text", toy_captions, toy_text_model, toy_text_base)
TOY_TRACKS = (UNCONDITIONAL, CLASS, TEXT)
