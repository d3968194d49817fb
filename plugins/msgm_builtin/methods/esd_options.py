"""Options and budgets of ESD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from msgm_bench import Choices, LogRange, Multiples, OneOf, WeightsOptions


class ESDOptions(WeightsOptions):
    """Weights, target, states."""

    eta: float = Field(1.0, ge=0, description="strength of the negative guidance")
    erase_from: Literal["null", "class"] = Field(
        "null", description="start of the negative guidance: eps*_null, or eps*_c as released"
    )
    state_source: Literal["trajectory", "noised"] = Field(
        "trajectory", description="x_t: on the model's trajectory to c_f, or noised items"
    )
    retain_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the distance from the base for conditions of D_g at the same x_t",
    )
    guidance: float = Field(
        2.0, ge=0, description="w of (1 + w) eps_c - w eps_null on the trajectory and for items"
    )
    trajectory_steps: int = Field(50, ge=1, description="steps of a whole trajectory")
    samples_per_class: int = Field(
        500, ge=1, description="items of each class or concept to be noised"
    )
    nfe: int = Field(99, ge=1, description="most network evaluations of such an item")


PUBLISHED = {
    "finetuning": {
        "steps": 200,
        "batch_size": 1,
        "learning_rate": 5e-5,
        "warmup_steps": 0,
        "lr_schedule": "constant",
        "ema_decay": 0.0,
        "continue_optimizer": False,
    }
}
QUICK = {  # steps of its own, and the embeddings of D_g's classes as they were
    "finetuning": {"steps": 200, "learning_rate": 0.02, "warmup_steps": 0, "ema_decay": 0.0},
    "method": {"weights": "class", "trajectory_steps": 10},
}
QUICK_PROMPTS = {  # ESD-x, with a term that holds what is to be kept
    "finetuning": {"steps": 150, "learning_rate": 3e-4},
    "method": {"weights": "auto", "trajectory_steps": 5, "retain_weight": 3.0},
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": QUICK | {"text": QUICK_PROMPTS},
    "full": PUBLISHED,
    "paper": PUBLISHED,
}
SEARCH_SPACE: Mapping[str, Choices] = {
    "eta": LogRange(0.3, 5.0),
    "retain_weight": OneOf((0.0, 1.0, 3.0, 10.0)),
    "training.learning_rate": Multiples(0.1, 10.0),
}
