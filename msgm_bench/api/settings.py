"""Presets: sparse settings of plugins, and their merge into the settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from msgm_bench.api.plugin import Options, Plugin, option_error
from msgm_bench.errors import OptionError, PluginError, did_you_mean, shorten

Preset = Literal["quick", "full", "paper"]
PRESETS: tuple[Preset, ...] = ("quick", "full", "paper")
Decay = Annotated[float, Field(ge=0, lt=1)]


class Training(Options):
    """Budget and optimiser of one training stage."""

    steps: int = Field(10_000, ge=1, description="optimiser steps")
    passes: int | None = Field(
        None, ge=1, description="passes through networks, preparation included, not steps"
    )
    batch_size: int = Field(128, ge=1, description="items a step and split, over all devices")
    learning_rate: float = Field(2e-4, gt=0, description="Adam's step size after the warm-up")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    lr_schedule: Literal["constant", "cosine"] = Field(
        "constant", description="after the warm-up; cosine: half a period, down to 0"
    )
    max_grad_norm: float = Field(1.0, gt=0, description="largest L2 norm of a gradient")
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="decay of the weights' moving average; 0: no average"
    )
    use_ema_warmup: bool = Field(
        True,
        description="true: in update n the average's decay is min(ema_decay, (1 + n)/(10 + n)); "
        "false: it is constant, and the average starts at the weights before the first step",
    )
    adam_betas: tuple[Decay, Decay] = Field(
        (0.9, 0.999), description="Adam's decay rates of the first and the second moment"
    )
    label_dropout_prob: float = Field(
        0.1,
        ge=0,
        le=1,
        description="probability that a class-conditional model sees the null class",
    )
    continue_optimizer: bool = Field(
        False,
        description="fine-tuning continues with the base training's raw weights, Adam's state and "
        "average, without a new warm-up; not from a base of --base",
    )


STATED = tuple(name for name in Training.model_fields if name not in ("steps", "passes"))
"""Settings that a run may state for its method's training (--training)."""


class Settings(Options):
    """Settings of a run from the presets of all its plugins, before the user's options.

    ``finetuning`` overrides ``training`` in the finetune regime; ``backbone``, ``method``,
    ``judge``, ``tasks`` and ``metrics`` hold defaults for the options of those plugins; ``text``
    holds what takes the place of these settings on text-to-image models (``on_track``).
    """

    training: dict[str, Any] = {}
    finetuning: dict[str, Any] = {}
    backbone: dict[str, Any] = {}
    method: dict[str, Any] = {}
    judge: dict[str, Any] = {}
    tasks: dict[str, dict[str, Any]] = {}
    metrics: dict[str, dict[str, Any]] = {}
    text: dict[str, Any] = {}

    def budget(
        self,
        finetune: bool,
        steps: int | None = None,
        passes: int | None = None,
        stated: Mapping[str, Any] | None = None,
    ) -> Training:
        """The training budget of a regime; ``steps``, ``passes``, ``stated`` replace the preset's.

        Raises:
            OptionError: A preset, ``steps``, ``passes`` or one of ``stated`` is out of range or
                none of ``STATED``, or a training from new weights has ``continue_optimizer``.
        """
        check_stated(stated or {})
        chosen = merge(self.training, self.finetuning if finetune else {}, stated or {})
        if chosen.get("continue_optimizer") and not finetune:
            raise OptionError(
                "continue_optimizer in a training from new weights", "in its finetuning"
            )
        overrides = {"steps": steps, "passes": passes}
        chosen |= {name: value for name, value in overrides.items() if value is not None}
        try:
            return Training.model_validate(chosen)
        except ValidationError as error:
            raise option_error("training", Training, chosen, error) from error


def check_stated(stated: Mapping[str, Any]) -> None:
    """Refuse settings of training that a run cannot state.

    Raises:
        OptionError: One is none of ``STATED``.
    """
    for key in stated:
        if key not in STATED:
            near = did_you_mean(str(key), STATED)
            own = f"it is --{key} of the run" if key in Training.model_fields else ""
            raise OptionError(
                f"training has no setting {shorten(str(key))!r} to state{near}",
                ", ".join(STATED),
                own,
            )


def check_presets(cls: type[Plugin]) -> None:
    """Refuse presets with unknown settings; their names are free.

    Raises:
        PluginError: A setting is unknown or out of range.
    """
    for name, preset in cls.presets.items():
        try:
            for text in (False, True):
                settings = Settings.model_validate(on_track(preset, text))
                for finetune in (False, True):
                    settings.budget(finetune)
        except ValidationError as error:
            wrong = option_error(f"preset {name!r}", Settings, preset, error)
            raise PluginError(f"{cls.name}: {wrong.what}", wrong.allowed) from error
        except OptionError as error:
            where = f"{cls.name}: preset {name!r}, {error.what}"
            raise PluginError(where, error.allowed) from error


def on_track(preset: Mapping[str, Any], text: bool) -> dict[str, Any]:
    """A preset with its part ``text`` merged into it, for text-to-image models, or without it."""
    settings = {key: value for key, value in preset.items() if key != "text"}
    return merge(settings, preset.get("text", {})) if text else settings


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries, the later ones on top."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = merged.get(key)
            nested = isinstance(value, Mapping) and isinstance(below, Mapping)
            merged[key] = merge(below, value) if nested else value  # type: ignore[arg-type]
    return merged
