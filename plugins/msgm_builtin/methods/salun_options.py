"""Options and budgets of SalUn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from msgm_bench import Choices, LinearRange, Model, Multiples, Prompts, WeightsOptions

RELABELS = ("anchor", "next_class", "random_class")


class SalUnOptions(WeightsOptions):
    """Mask, target, weight."""

    mask_fraction: float = Field(
        0.5, gt=0, le=1, description="share of the weights that may move; 1: no mask"
    )
    target: Literal[
        "auto", "anchor", "next_class", "random_class", "random_image", "noise", "ascent"
    ] = Field(
        "auto",
        description="where x_t of D_f is to lead; auto: next_class where the model is "
        "class-conditional, anchor where it takes prompts (random_class, a caption of D_g, where "
        "they have no anchor), else random_image",
    )
    anchor: str = Field(
        "", max_length=1000, description="the anchor of prompts; empty: the prompts' own anchors"
    )
    alpha: float = Field(3.07, ge=0, description="weight of L_r")
    retain_reduction: Literal["mean", "sum"] = Field(
        "mean", description="L_r over D; sum is the released code's, with alpha = 1e-3"
    )
    target_clip_value: float = Field(3.0, gt=0, description="largest entry of eps' of random_image")
    mask_reduction: Literal["sum", "mean"] = Field(
        "sum", description="over D, of the loss whose gradient is clipped for the mask"
    )
    mask_guidance: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="w of the guided outputs that the mask is of; "
        "auto: 2 where the model is class-conditional, else 0",
    )
    label_dropout: bool | Literal["auto"] = Field(
        "auto",
        description="whether c_f and c' are dropped for the null class, each by itself, as often "
        "as the labels of D_g are; auto: where the model is class-conditional",
    )

    def guidance(self) -> float:
        """w of the mask on a class-conditional model; auto is the released 2."""
        return 2.0 if self.mask_guidance == "auto" else float(self.mask_guidance)

    def conflict(self, model: Model) -> str | None:
        """Reason to skip options that need classes on a model without any, or None."""
        needs_classes = {
            f"target={self.target}": self.target in RELABELS,
            f"mask_guidance={self.mask_guidance}": self.mask_guidance not in ("auto", 0.0),
            "label_dropout=true": self.label_dropout is True,
        }
        conflicts = ", ".join(option for option, needs in needs_classes.items() if needs)
        if model.conditioning is None and conflicts:
            return f"{conflicts}: only for class-conditional models (--conditional)"
        is_text = isinstance(model.conditioning, Prompts)
        if self.target == "anchor" and not is_text:
            return "target=anchor: only for text-to-image models (--text)"
        if self.target == "next_class" and is_text:
            return "target=next_class: captions have no order (target=anchor)"
        return None


RELEASED = {
    "finetuning": {
        "steps": 1000,
        "batch_size": 128,
        "learning_rate": 1e-4,
        "warmup_steps": 0,
        "lr_schedule": "constant",
        "max_grad_norm": 1.0,
        "ema_decay": 0.0,
        "continue_optimizer": False,
    },
    "method": {"alpha": 1e-3, "retain_reduction": "sum"},
}
QUICK = {  # the mask of unguided outputs and means over D, no label dropped on D_f
    "finetuning": {"ema_decay": 0.0},
    "method": {"mask_guidance": 0.0, "mask_reduction": "mean", "label_dropout": False},
}
PROMPTS = {  # of the released text-to-image runs: five epochs of 800 images
    "finetuning": {
        "steps": 500,
        "batch_size": 8,
        "learning_rate": 1e-5,
        "max_grad_norm": 1e9,  # nothing is clipped
    },
    "method": {
        "alpha": 0.5,
        "retain_reduction": "mean",
        "mask_guidance": 7.5,
        "label_dropout": False,
    },
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": QUICK,
    "full": RELEASED | {"text": PROMPTS},
    "paper": RELEASED | {"text": PROMPTS},
}
SEARCH_SPACE: Mapping[str, Choices] = {
    "alpha": Multiples(0.1, 10.0),
    "mask_fraction": LinearRange(0.1, 1.0),
    "training.learning_rate": Multiples(0.1, 10.0),
}
