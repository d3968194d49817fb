"""Options and budgets of SFD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from msgm_bench import (
    Choices,
    Data,
    LinearRange,
    LogRange,
    Model,
    Multiples,
    OptionError,
    Prompts,
    WeightsOptions,
)
from msgm_builtin.methods.anchors import check_anchors


class SFDOptions(WeightsOptions):
    """Generator, distillation, weights."""

    alpha: float = Field(1.2, ge=0, description="alpha of the generator's loss")
    generator_sigma: float | None = Field(
        None,
        gt=0,
        description="sigma/a of the generator's noise, in halves of the data's range; none: 2.5, "
        "or the most that the process has",
    )
    sigma_range: tuple[float, float] = Field(
        (0.138, 13.0), description="sigma/a of the distillation, in halves of the data's range"
    )
    safe_class: int | Literal["next", "random"] = Field(
        "next",
        description="class of D_g that a forgotten one turns into: the next one, random ones "
        "anew in each batch, or a label; captions with next turn into the same with the anchor",
    )
    override: str = Field(
        "",
        max_length=1000,
        description="the overriding concept of prompts; empty: the prompts' own anchors",
    )
    forget_weight: float = Field(
        0.01, ge=0, description="w of forgotten classes; those of D_g have 1"
    )
    forget_fraction: float = Field(
        0.5, gt=0, lt=1, description="share of forgotten classes in a batch"
    )
    first_stage_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of the steps in which forgotten classes weigh 0"
    )
    fake_learning_rate: float = Field(1e-5, gt=0, description="learning rate of psi")
    fake_steps: int = Field(1, ge=1, description="steps of psi to one of theta")
    max_grad_value: float = Field(
        1.0, gt=0, description="largest entry of a gradient, of both networks"
    )
    reduction: Literal["sum", "mean"] = Field("sum", description="over an item's dimensions")

    def conflict(self, model: Model) -> str | None:
        """Reason to skip ``model``, or None."""
        if model.conditioning is None:
            return "sfd moves forgotten classes to the score of safe ones: it needs --conditional"
        if isinstance(model.conditioning, Prompts) and isinstance(self.safe_class, int):
            return "safe_class is of classes; for captions there is override=TEXT, or random"
        return None

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse a safe class that is not one of D_g, and concepts without an anchor.

        Raises:
            OptionError: ``safe_class`` is to be forgotten, or no class at all; or the prompts name
                no anchor, and ``override`` is empty.
        """
        if data.prompts is not None and self.safe_class == "next":
            check_anchors(data, targets, self.override)
        retain, safe = data.labels(targets)["retain"], self.safe_class
        if isinstance(safe, int) and safe not in retain:
            raise OptionError(
                f"sfd: safe_class = {safe}, which is not retained",
                ", ".join(f"{label} ({data.classes[label]})" for label in retain),
            )

    @field_validator("sigma_range")
    @classmethod
    def _ascending(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not 0 < ends[0] < ends[1]:
            raise ValueError("two positive numbers, the smaller one first")
        return ends


DRAWING_TASKS = (
    "class_generation",
    "prompt_generation",
    "prompt_attack",
    "quantised_class_generation",
    "quantised_prompt_generation",
)
UNSUPPORTED_TASKS = {
    "likelihood": "sfd leaves a one-step generator, which has no density to evaluate",
    "inpainting": "sfd leaves a one-step generator, without steps that hold known pixels",
    "reconstruction": "sfd leaves a one-step generator, which denoises pure noise only",
    "membership": "sfd leaves a one-step generator, whose noise prediction has no error",
    "noise_sensitivity": "sfd leaves a one-step generator, which has one sampler",
    "drift": "sfd leaves a one-step generator, which denoises pure noise only",
    "embedding_attack": "sfd leaves a one-step generator, whose noise prediction has no error",
    "relearning": "sfd leaves a one-step generator, which denoising cannot train on",
    "prompt_relearning": "sfd leaves a one-step generator, which denoising cannot train on",
}
PUBLISHED = {
    "finetuning": {
        "steps": 50_000,
        "batch_size": 256,  # 128 items of D_g's classes and 128 of forgotten ones
        "learning_rate": 1e-5,
        "warmup_steps": 0,
        "lr_schedule": "constant",
        "max_grad_norm": 1e9,  # max_grad_value clips
        "ema_decay": 0.9999,
        "use_ema_warmup": False,
        "continue_optimizer": False,
        "adam_betas": (0.0, 0.999),
    }
}
QUICK = {
    "finetuning": {
        "steps": 400,
        "learning_rate": 8e-4,
        "warmup_steps": 0,
        "lr_schedule": "cosine",
        "max_grad_norm": 1e9,
        "ema_decay": 0.98,
        "adam_betas": (0.0, 0.999),
    },
    "method": {"forget_weight": 1.0, "forget_fraction": 0.2, "fake_learning_rate": 1.6e-3},
}
PROMPTS = {  # of the released text-to-image script: a million images
    "finetuning": {"steps": 125_000, "batch_size": 8, "learning_rate": 1e-6, "ema_decay": 0.0},
    "method": {"alpha": 1.0, "forget_weight": 1.0, "fake_learning_rate": 3e-6},
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": QUICK,
    "full": PUBLISHED | {"text": PROMPTS},
    "paper": PUBLISHED | {"text": PROMPTS},
}
SEARCH_SPACE: Mapping[str, Choices] = {
    "alpha": LinearRange(0.8, 1.5),
    "forget_weight": LogRange(0.01, 1.0),
    "forget_fraction": LinearRange(0.1, 0.5),
    "fake_learning_rate": Multiples(0.2, 5.0),
    "training.learning_rate": Multiples(0.2, 5.0),
}
