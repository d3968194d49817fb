"""Options and budgets of Concept Ablation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from msgm_bench import Choices, LogRange, Multiples, OneOf, WeightsOptions


class CAOptions(WeightsOptions):
    """Weights, anchor, target, retain term, generated items."""

    anchor: str = Field(
        "", max_length=1000, description="what is drawn instead; empty: the prompts' own anchors"
    )
    target: Literal["model", "noise"] = Field(
        "model", description="the model's prediction for the anchor, or the noise in x_t"
    )
    retain_weight: float = Field(1.0, ge=0, description="lambda, weight of L_r")
    num_items: int = Field(1000, ge=1, description="items that the base draws for anchors")
    nfe: int = Field(99, ge=1, description="most network evaluations of such an item")
    guidance: float = Field(
        6.5, ge=0, description="w of (1 + w) eps_c - w eps_null, with which they are drawn"
    )


PUBLISHED = {
    "finetuning": {
        "steps": 100,
        "batch_size": 8,
        "learning_rate": 1.6e-5,  # 2e-6 for each of 8 items
        "warmup_steps": 0,
        "lr_schedule": "constant",
        "max_grad_norm": 1.0,
        "ema_decay": 0.0,
        "continue_optimizer": False,
    }
}
QUICK = {
    "finetuning": {"ema_decay": 0.0},
    "method": {"num_items": 256, "nfe": 25, "guidance": 2.0},
}
PRESETS: Mapping[str, Mapping[str, Any]] = {"quick": QUICK, "full": PUBLISHED, "paper": PUBLISHED}
SEARCH_SPACE: Mapping[str, Choices] = {
    "retain_weight": LogRange(0.1, 10.0),
    "target": OneOf(("model", "noise")),
    "training.learning_rate": Multiples(0.1, 10.0),
}
