"""The toy models of each track, for checks that run on all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from msgm_bench.api import Data, Judge, Model
from msgm_bench.testing.toy_text import (
    ToyTextJudge,
    toy_captions,
    toy_text_base,
    toy_text_model,
)
from msgm_bench.testing.toys import ToyJudge, toy_base, toy_images, toy_model


@dataclass(frozen=True)
class ToyTrack:
    """Data and models of a track.

    Attributes:
        name: The track, for messages.
        data: Makes the data; takes the number of images and their size.
        judge: Makes a judge of the data.
        model: Makes a model with fresh weights from torch's current random state; takes its data.
        base: Makes a frozen model that was trained on all of the data.
    """

    name: str
    data: Callable[..., Data]
    judge: Callable[[], Judge]
    model: Callable[..., Model]
    base: Callable[[], Model]


UNCONDITIONAL, CLASS = (
    ToyTrack(name, toy_images, ToyJudge.create, partial(toy_model, K), partial(toy_base, K))
    for name, K in (("unconditional", None), ("class-conditional", 3))
)
TEXT = ToyTrack("text", toy_captions, ToyTextJudge.create, toy_text_model, toy_text_base)
TOY_TRACKS = (UNCONDITIONAL, CLASS, TEXT)
