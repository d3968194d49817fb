"""How the method and its base model train: regime, budget, and what a pass is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from msgm_bench.api import (
    Backbone,
    Data,
    Method,
    Model,
    Prompts,
    Regime,
    Settings,
    Training,
    merge,
)
from msgm_bench.errors import IncompatibleError, OptionError, PluginError
from msgm_bench.experiment.components import create, parse_settings, preset_of
from msgm_bench.experiment.model_io import add_part
from msgm_bench.experiment.pretrained import reason_to_skip_base, regimes_of
from msgm_bench.experiment.skipped import Skipped
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.quarantine import errors_of
from msgm_bench.registry import registry


@dataclass(frozen=True)
class TrainingPlan:
    """A method with the regime and the budget in which it trains.

    Attributes:
        method: The method.
        regime: From fresh weights (``retrain``), or from the base model (``finetune``).
        budget: Steps and optimiser.
        pass_items: Items of a pass, N: the batch of the base model's training in the preset of
            the data, whatever the method's own batch is.
        base: How the base model is trained; None where the method has none, or has a checkpoint.
        part: Name of the part of the network that it trains; ``all``: the whole network.
    """

    method: Method
    regime: Regime
    budget: Training
    pass_items: int
    base: TrainingPlan | None = None
    part: str = "all"

    def trained_parameters(self, model: Model) -> frozenset[str]:
        """Names of the network's parameters that move; none of a part that is not added yet."""
        if self.part != "all" and self.part not in model.parts:
            return frozenset()
        return self.method.trains(model, self.regime)

    @property
    def starts_from_base(self) -> bool:
        """Whether it needs a base model: for its weights, or to look at."""
        return self.regime == "finetune" or "base" in self.method.needs

    @property
    def continues_optimizer(self) -> bool:
        """Whether it goes on with the optimiser of the base model's training."""
        return self.regime == "finetune" and self.budget.continue_optimizer


def plan_training(
    method: Method,
    spec: RunSpec,
    settings: Settings,
    preset: str,
    layers: Sequence[Mapping[str, Any]],
) -> TrainingPlan | None:
    """How ``method`` trains; None where a base checkpoint stands for the base that it would train.

    Args:
        method: The method.
        spec: The request.
        settings: The merged preset, the method's part included.
        preset: Name of the preset.
        layers: Contributions to the preset of all but the method.

    Raises:
        UsageError: The regime or the budget does not fit, or no method trains base models.
    """
    if spec.base is not None and method.trains_base:
        return None
    training = training_in_regime(method, spec, settings, pass_items_of(layers))
    if spec.base is not None or not training.starts_from_base:
        return training
    return replace(training, base=plan_base(spec, preset, layers))


def training_in_regime(
    method: Method, spec: RunSpec, settings: Settings, pass_items: int
) -> TrainingPlan:
    """The method in the regime of the request; baselines keep their own.

    Raises:
        IncompatibleError: The method does not know the regime, or has no training of its own.
        OptionError: A setting of its training is unknown or out of range.
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
    if spec.training_params and (method.baseline or method.closed_form):
        raise IncompatibleError(
            f"--training {', '.join(spec.training_params)} for the method {method.name!r}",
            "methods that train and are no baseline",
            "leave it out: a baseline trains as its preset says, a closed form not at all",
        )
    budget = settings.budget(regime == "finetune", spec.steps, passes, spec.training_params)
    return TrainingPlan(method, regime, budget, pass_items)


def with_part(training: TrainingPlan, backbone: Backbone, model: Model) -> TrainingPlan:
    """The plan with the part of the network that the method trains.

    Args:
        training: The plan.
        backbone: Adds the weights of a part that the network does not have.
        model: The model without memory for its weights; it has the part afterwards.

    Raises:
        UsageError: The network has no such part, or the regime trains the whole network.
        PluginError: The method trains parameters that the network does not have, or none.
    """
    method = training.method
    part = method.part(model, training.regime)
    if part != "all" and training.regime != "finetune":
        raise IncompatibleError(
            f"weights={part} of method {method.name!r} in the regime {training.regime!r}",
            "weights=all: a network of fresh weights is trained as a whole",
        )
    if part != "all" and training.budget.continue_optimizer:
        raise IncompatibleError(
            f"weights={part} with continue_optimizer, which has the state of all weights",
            "weights=all, or a preset without continue_optimizer",
        )
    add_part(backbone, model, part)
    names = method.trains(model, training.regime)
    unknown = sorted(names - {name for name, _ in model.network.named_parameters()})
    if unknown or not names:
        what = f"{unknown[0]!r}, which the network does not have" if unknown else "no parameter"
        raise PluginError(f"method {method.name!r} trains {what}", "names of model.network's")
    budget = training.budget.model_copy(update={"ema_decay": 0.0} if method.closed_form else {})
    return replace(training, part=part, budget=budget)


def check_drawing(spec: RunSpec, data: Data, model: Model) -> None:
    """Refuse data without items where no base draws them, or its sampler cannot.

    Raises:
        UsageError: It is one of these.
    """
    if data.drawing is None:
        return
    if spec.base is None and spec.model is None:
        raise IncompatibleError(
            f"dataset {spec.dataset!r}, which has prompts and no items, without a base that draws "
            "them",
            "--base",
            "name a base checkpoint, or a dataset with items",
        )
    sampler = registry().create("samplers", data.drawing.sampler, data.drawing.sampler_options)
    sampler.check(model)


def skip_training(
    training: TrainingPlan | None, spec: RunSpec, data: Data, model: Model
) -> Skipped | None:
    """The method with the reason why it cannot run, or None."""
    if training is None:
        return None
    method = training.method
    if training.continues_optimizer and spec.base is not None:
        reason: str | None = (
            f"{method.name} goes on with the base's optimiser, which --base does not bring"
        )
    elif data.drawing is not None and training.regime == "retrain":
        reason = f"{method.name} trains from fresh weights, and the data have no items for that"
    else:
        with errors_of(f"method {method.name!r}, skip"):
            reason = reason_to_skip_base(method, spec) or method.skip(model, training.regime)
    return None if reason is None else Skipped("methods", method.name, reason)


def check_forget_set(method: Method, model: Model, data: Data, targets: tuple[int, ...]) -> None:
    """Let a method refuse D_f, and the tokenizer the prompts that the method adds.

    Raises:
        UsageError: One of them does.
    """
    method.check_data(data, targets)
    if not isinstance(model.conditioning, Prompts):
        return
    with errors_of(f"method {method.name!r}, texts"):
        texts = [*dict.fromkeys(method.texts(model, data, targets))]
    try:
        model.conditioning.tokenizer([*texts, ""])
    except OptionError as error:
        what = f"method {method.name!r} on {', '.join(data.classes[i] for i in targets)}"
        raise OptionError(f"{what}: {error.what}", error.allowed, error.hint) from error


def pass_items_of(layers: Sequence[Mapping[str, Any]]) -> int:
    """N, the items of a pass, from the presets of all but the method."""
    return parse_settings(merge(*layers)).budget(finetune=False).batch_size


def plan_base(spec: RunSpec, preset: str, layers: Sequence[Mapping[str, Any]]) -> TrainingPlan:
    """How the base model is trained: by the first method that trains base models.

    Raises:
        IncompatibleError: No installed method does.
    """
    for cls in _methods():
        if cls.trains_base:
            return _baseline(cls, spec, preset, layers)
    raise IncompatibleError("no installed method trains a base model", "a method with trains_base")


def plan_control(
    spec: RunSpec, preset: str, layers: Sequence[Mapping[str, Any]]
) -> TrainingPlan | None:
    """How the model that never saw D_f trains, as in a run of its own; None without a method."""
    controls = (cls for cls in _methods() if cls.is_control)
    return next((_baseline(cls, spec, preset, layers) for cls in controls), None)


def _methods() -> Iterator[type[Method]]:
    return (cast(type[Method], entry.cls) for entry in registry().entries("methods"))


def _baseline(
    cls: type[Method], spec: RunSpec, preset: str, layers: Sequence[Mapping[str, Any]]
) -> TrainingPlan:
    """How a baseline is trained from fresh weights."""
    settings = parse_settings(merge(*layers, preset_of(cls, preset)))
    method = cast(Method, create(cls, settings.method, {}))
    budget = settings.budget(False, spec.steps)
    return TrainingPlan(method, method.regimes[0], budget, pass_items_of(layers))
