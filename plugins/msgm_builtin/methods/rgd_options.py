"""Options and budgets of RGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from msgm_bench import Choices, Examples, LogRange, Model, Multiples, Prompts, WeightsOptions


class RGDOptions(WeightsOptions):
    """Projection, truncation, coreset."""

    retain_weight: float = Field(5.0, ge=0, description="lambda, weight of g_r'")
    alpha: float = Field(
        0.1,
        gt=0,
        description="bound of x0_hat's squared error in L_f, (half the range)^2; with "
        "truncation=batch of the mean of eps_hat's",
    )
    truncation: Literal["pixel", "batch"] = Field(
        "pixel", description="what has no gradient past alpha: a pixel of x0_hat, or all of L_f"
    )
    grouping: Literal["auto", "class", "prompt", "kmeans", "random"] = Field(
        "auto",
        description="groups of D_g; auto: prompt in text-to-image models, class where items have "
        "one label, else kmeans",
    )
    items_per_group: int = Field(50, ge=1, description="items of each group in the coreset")
    n_clusters: int = Field(10, ge=1, description="number of groups of kmeans and of random")
    retain_items: Literal["set", "batch"] = Field(
        "set", description="g_r is the mean over the whole coreset, or over a batch of it"
    )

    def grouping_of(self, examples: Examples, model: Model | None = None) -> str:
        """``grouping``, with auto resolved for these items and this model."""
        if self.grouping != "auto":
            return self.grouping
        if model is not None and isinstance(model.conditioning, Prompts):
            return "prompt"
        return "class" if examples.y.ndim == 1 else "kmeans"


PUBLISHED = {
    "finetuning": {
        "steps": 782,  # 50 kimg
        "batch_size": 64,
        "learning_rate": 1e-5,
        "warmup_steps": 0,
        "lr_schedule": "constant",
        "max_grad_norm": 1e9,  # nothing is clipped
        "ema_decay": 0.0,
        "continue_optimizer": False,
    }
}
PROMPTS = {  # of the paper's text-to-image runs: one epoch of 800 images
    "finetuning": {"steps": 100, "batch_size": 8},
    "method": {
        "retain_weight": 1.6,
        "alpha": 1.5,
        "truncation": "batch",
        "items_per_group": 1,
        "retain_items": "batch",
    },
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"finetuning": {"ema_decay": 0.0}, "method": {"retain_items": "batch"}},
    "full": PUBLISHED | {"text": PROMPTS},
    "paper": PUBLISHED | {"text": PROMPTS},
}
SEARCH_SPACE: Mapping[str, Choices] = {
    "retain_weight": LogRange(0.3, 30.0),
    "alpha": Multiples(0.1, 10.0),
    "training.learning_rate": Multiples(0.1, 10.0),
}
