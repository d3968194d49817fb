"""Options of UCE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from msgm_bench import Choices, LogRange, Options
from msgm_text.methods.subject_tokens import TokenChoice


class UCEOptions(Options):
    """Weights of the three terms, anchors, prompts and their tokens."""

    lamb: float = Field(0.5, gt=0, description="lambda, weight of |W' - W|^2")
    erase_scale: float = Field(1.0, ge=0, description="weight of each erased token")
    preserve_scale: float = Field(1.0, ge=0, description="weight of each preserved token")
    anchor: str = Field(
        "", max_length=1000, description="what is read instead; empty: the prompts' own anchors"
    )
    prompts: Literal["concepts", "captions"] = Field(
        "concepts",
        description="where tokens come from: the names of all concepts, or the captions of D_f "
        "and D_g",
    )
    tokens: TokenChoice = Field(
        "last",
        description="last: the last token of each name; all: of erased prompts all from there on, "
        "of preserved prompts all",
    )


# a small text encoder, which was trained on whole captions, knows no lone name
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"method": {"prompts": "captions", "tokens": "all"}}
}
SEARCH_SPACE: Mapping[str, Choices] = {
    "lamb": LogRange(0.01, 10.0),
    "erase_scale": LogRange(0.1, 10.0),
    "preserve_scale": LogRange(0.1, 10.0),
}
