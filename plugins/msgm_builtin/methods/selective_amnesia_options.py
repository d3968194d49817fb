"""Options and budgets of Selective Amnesia."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from msgm_bench import Choices, LogRange, Multiples, WeightsOptions


class SelectiveAmnesiaOptions(WeightsOptions):
    """Weights and generated items."""

    gamma: float = Field(1.0, ge=0, description="weight of the classes of D_g")
    ewc_weight: float = Field(10.0, ge=0, description="lambda, weight of the distance to the base")
    samples_per_class: int = Field(500, ge=1, description="items that the base draws of each class")
    fisher_timesteps: int = Field(1000, ge=1, description="times t of an item in F")
    sampler: Literal["heun", "ancestral"] = Field(
        "heun", description="how the base draws: the ODE, or the reverse chain as released"
    )
    nfe: int = Field(99, ge=1, description="most network evaluations of a generated item")
    guidance: float = Field(
        0.0,
        ge=0,
        description="w of (1 + w) eps_c - w eps_null where a class-conditional base draws",
    )
    label_dropout: bool = Field(
        True, description="whether classes of replayed items are dropped for the null class"
    )


BUDGET = {
    "steps": 20_000,
    "batch_size": 128,
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "lr_schedule": "constant",
    "ema_decay": 0.9999,
    "continue_optimizer": False,
}
RELEASED = {
    "finetuning": BUDGET | {"use_ema_warmup": False},
    "method": {"sampler": "ancestral", "nfe": 1000, "guidance": 2.0, "label_dropout": False},
}
QUICK = {"ewc_weight": 0.5, "samples_per_class": 100, "fisher_timesteps": 25, "nfe": 49}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"method": QUICK},
    "full": {"finetuning": BUDGET},
    "paper": RELEASED,
}
SEARCH_SPACE: Mapping[str, Choices] = {
    "gamma": LogRange(0.3, 10.0),
    "ewc_weight": Multiples(0.1, 10.0),
    "training.learning_rate": Multiples(0.1, 10.0),
}
