"""Options and budgets of EraseDiff."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from msgm_bench import Choices, LogRange, Model, Multiples, OneOf, Session, WeightsOptions


class EraseDiffOptions(WeightsOptions):
    """Target, multiplier, inner loop."""

    target: Literal["auto", "relabel", "uniform", "gaussian"] = Field(
        "auto",
        description="eps_f: eps_hat of another class or prompt, U[0, 1) or N(0, I); "
        "auto: relabel where the model is conditional, else uniform",
    )
    anchor: str = Field(
        "",
        max_length=1000,
        description="of relabelled prompts; empty: the prompts' own anchors, or a caption of D_g "
        "where they name none",
    )
    noise_in_input: bool = Field(
        False, description="eps_f is the noise in x_t as well, as in the released code"
    )
    lambda_rule: Literal["fixed", "cosine"] = Field(
        "fixed", description="lambda: the number ``forget_weight``, or max(0, eta - cosine)"
    )
    forget_weight: float = Field(0.1, ge=0, description="lambda of the fixed rule")
    eta: float = Field(0.1, ge=0, le=2, description="eta of the cosine rule")
    inner_steps: int = Field(2, ge=0, description="K, descent steps on L_f that are undone")
    inner_epochs: int | None = Field(
        None, ge=1, description="K in epochs of D_f, in the place of inner_steps"
    )
    inner_interval: int = Field(1, ge=1, description="outer steps from one inner loop to the next")
    adam_moments: Literal["own", "shared"] = Field(
        "own", description="shared: inner steps move Adam's moments, as in the released code"
    )
    outer_max_grad_norm: float | None = Field(
        None, gt=0, description="largest norm of the outer gradient, beside the budget's bound"
    )
    label_dropout_split: Literal["retain", "forget"] = Field(
        "retain",
        description="split whose labels are dropped for the null class; forget: the released code",
    )

    def num_inner_steps(self, session: Session) -> int:
        """K: ``inner_steps``, or the batches of ``inner_epochs`` epochs of D_f."""
        if self.inner_epochs is None:
            return self.inner_steps
        return self.inner_epochs * math.ceil(len(session.items("forget")) / session.batch_size)

    def conflict(self, target: str, model: Model) -> str | None:
        """Reason to skip ``target`` on ``model``, or None."""
        if target == "relabel" and model.conditioning is None:
            return "target=relabel: only for conditional models (--conditional, --text)"
        if target == "relabel" and self.noise_in_input:
            return "noise_in_input=true: only where the target is a noise (target=uniform)"
        if target == "gaussian" and self.noise_in_input:
            return (
                "noise_in_input=true with target=gaussian: to predict the Gaussian noise in x_t "
                "is how D_f is learned (target=uniform)"
            )
        return None


BUDGET = {
    "steps": 288,  # of the released loops; their 640 inner steps are undone
    "batch_size": 128,
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "lr_schedule": "constant",
    "max_grad_norm": 1.0,
    "ema_decay": 0.99,
    "continue_optimizer": False,
}
RELEASED = {
    # 8 times: 2 epochs of D_f that move Adam's moments, then 36 batches of the retain set
    "finetuning": BUDGET
    | {"use_ema_warmup": False, "max_grad_norm": 1e9},  # outer_max_grad_norm clips
    "method": {
        "inner_epochs": 2,
        "inner_interval": 36,
        "adam_moments": "shared",
        "outer_max_grad_norm": 1.0,
        "label_dropout_split": "forget",
    },
}
# quick: the same weights for half the passes; lambda was chosen on digits
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {
        "method": {"inner_interval": 50, "forget_weight": 0.03},
        "text": {"method": {"forget_weight": 1.0}},
    },
    "full": {"finetuning": BUDGET},
    "paper": RELEASED,
}
SEARCH_SPACE: Mapping[str, Choices] = {
    "forget_weight": LogRange(0.003, 3.0),
    "inner_interval": OneOf((1, 10, 50)),
    "training.learning_rate": Multiples(0.1, 10.0),
}
