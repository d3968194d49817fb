"""How the method and its base model train: regime, budget, and what a pass is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from msgm_bench.api import DataStats, Method, Model, Regime, Settings, Training, merge
from msgm_bench.errors import IncompatibleError
from msgm_bench.experiment.components import create, parse_settings, preset_of
from msgm_bench.experiment.model_io import check_model
from msgm_bench.experiment.pretrained import regimes_of, unused
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.registry import registry


@dataclass(frozen=True)
class TrainingPlan:
    """A method with the regime and the budget in which it trains.

    ``pass_items`` are the items of a pass, N: the batch of the base model's training in the
    preset of the data, whatever the method's own batch is.
    """

    method: Method
    regime: Regime
    budget: Training
    pass_items: int

    @property
    def starts_from_base(self) -> bool:
        """Whether it needs a base model: for its weights, or to look at."""
        return self.regime == "finetune" or "base" in self.method.needs

    @property
    def continues(self) -> bool:
        """Whether it goes on with the optimiser of the base model's training."""
        return self.regime == "finetune" and self.budget.continue_optimizer


def training_of(
    spec: RunSpec, info: DataStats, preset: str, shared: list[Mapping[str, Any]]
) -> tuple[Settings, TrainingPlan | None]:
    """The merged preset and how the method trains; None where a model from elsewhere stands.

    A given base stands for the method that would train the base.

    Raises:
        UsageError: The method, its options, its budget or the model do not fit.
    """
    if spec.model is not None:
        check_model(Path(spec.model), info)
        return parse_settings(merge(*shared)), None
    chosen = registry().entry("methods", spec.method).cls
    settings = parse_settings(merge(*shared, preset_of(chosen, preset)))
    method = cast(Method, create(chosen, settings.method, spec.params))
    if spec.base is not None and method.trains_base:
        return settings, None
    return settings, in_regime(method, spec, settings, pass_items_of(shared))


def skip_of(trained: TrainingPlan | None, spec: RunSpec, model: Model) -> str | None:
    """Why the method cannot run, or None."""
    if trained is None:
        return None
    if trained.continues and spec.base is not None:
        return (
            f"{trained.method.name} goes on with the base's optimiser, which --base does not bring"
        )
    return unused(trained.method, spec) or trained.method.skip(model, trained.regime)


def pass_items_of(layers: list[Mapping[str, Any]]) -> int:
    """N, the items of a pass, from the presets of all but the method."""
    return parse_settings(merge(*layers)).budget(finetune=False).batch_size


def in_regime(method: Method, spec: RunSpec, settings: Settings, pass_items: int) -> TrainingPlan:
    """The method in the regime that was asked for; baselines keep their own.

    Raises:
        IncompatibleError: The method does not know the regime.
    """
    allowed = regimes_of(method, spec)
    regime = spec.regime or allowed[0]
    if regime not in allowed:
        if not method.baseline:
            where = "" if spec.base is None else " from a given base"
            raise IncompatibleError(
                f"method {method.name!r} in the regime {regime!r}{where}", ", ".join(allowed)
            )
        regime = allowed[0]
    passes = None if method.baseline else spec.passes
    budget = settings.budget(regime == "finetune", spec.steps, passes)
    return TrainingPlan(method, regime, budget, pass_items)


def base_of(
    trained: TrainingPlan | None, spec: RunSpec, preset: str, layers: list[Mapping[str, Any]]
) -> TrainingPlan | None:
    """How the base model is trained, where the method starts from or looks at one.

    Raises:
        IncompatibleError: No installed method trains base models.
    """
    if trained is None or not trained.starts_from_base:
        return None
    for entry in registry().entries("methods"):
        cls = cast(type[Method], entry.cls)
        if cls.trains_base:
            settings = parse_settings(merge(*layers, preset_of(cls, preset)))
            method = cast(Method, create(cls, settings.method, {}))
            budget = settings.budget(False, spec.steps)
            return TrainingPlan(method, method.regimes[0], budget, pass_items_of(layers))
    raise IncompatibleError("no installed method trains a base model", "a method with trains_base")
