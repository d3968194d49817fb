"""Unlearning methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field
from torch import Tensor, nn

from msgm_bench.api.data import Data
from msgm_bench.api.model import Model
from msgm_bench.api.plugin import Options, OptionsT, Plugin, parse_options
from msgm_bench.api.search_space import Choices, check_search_space
from msgm_bench.api.session import SPLITS, Batch, Batches, Session
from msgm_bench.api.settings import check_presets, on_track
from msgm_bench.diffusion import per_item
from msgm_bench.errors import OptionError, PluginError, did_you_mean

Regime = Literal["retrain", "finetune"]
REGIMES: tuple[Regime, ...] = get_args(Regime)
NEEDS = (*SPLITS, "base")


class WeightsOptions(Options):
    """The part of the network that a method trains, for methods that start from the base."""

    weights: str = Field(
        "auto",
        pattern=r"^[a-z0-9][a-z0-9_:.-]*$",
        max_length=64,
        description="part of the network that moves: all, or one that the backbone names, such as "
        "cross or lora:4; auto: all but a text encoder",
    )


class Method(Plugin[OptionsT], ABC):
    """An unlearning method.

    Attributes:
        regimes: Regimes that it supports, the default first: ``retrain`` starts from new
            weights, ``finetune`` from the base model.
        needs: Splits that it reads (``all``, ``retain``, ``forget``), and ``base`` for a frozen
            copy of the base model. Any other access is an error.
        baseline: Whether it is a reference row of every comparison, in both regimes.
        trains_base: Whether it trains the base model of fine-tuning.
        is_control: Whether its models never saw D_f, so that attacks on them are the control of
            attacks on others.
        closed_form: Whether all of its work is done in preparation steps: there is no training
            step, no optimiser and no average.
        unsupported_tasks: Tasks that its models cannot do, with the reason (a one-step
            generator has no likelihood).
        search_space: What a tuning may choose: choices of its options, by name, and of settings
            of its training, by ``training.`` and the name.
    """

    regimes: ClassVar[tuple[Regime, ...]] = ("retrain",)
    needs: ClassVar[frozenset[str]] = frozenset({"retain", "forget"})
    baseline: ClassVar[bool] = False
    trains_base: ClassVar[bool] = False
    is_control: ClassVar[bool] = False
    closed_form: ClassVar[bool] = False
    unsupported_tasks: ClassVar[Mapping[str, str]] = {}
    search_space: ClassVar[Mapping[str, Choices]] = {}

    def __init__(self, options: OptionsT | None = None) -> None:
        super().__init__(options)
        self.recorded: dict[str, Tensor] = {}

    @classmethod
    def validate(cls) -> None:
        """Refuse unknown regimes and needs, and contradictions between attributes.

        Raises:
            PluginError: Regimes, needs, ``unsupported_tasks``, presets or the search space are
                wrong.
        """
        super().validate()
        _check_words(cls, "regimes", cls.regimes, REGIMES)
        _check_words(cls, "needs", cls.needs, NEEDS)
        if not cls.regimes:
            raise PluginError(f"method {cls.name!r} has no regime", ", ".join(REGIMES))
        if not cls.baseline and cls.needs - {"base"} == {"all"}:
            raise PluginError(
                f"method {cls.name!r} needs all of D and nothing else: what it makes is the same "
                "whatever is to be forgotten",
                "retain, forget, or all beside forget",
                "a reference row has baseline = True",
            )
        if cls.closed_form and (cls.regimes != ("finetune",) or cls.trains_base):
            raise PluginError(
                f"method {cls.name!r} is a closed form with regimes {', '.join(cls.regimes)}",
                'regimes = ("finetune",): it edits the weights of the base model',
            )
        if cls.trains_base and (cls.regimes[0] != "retrain" or "base" in cls.needs):
            raise PluginError(
                f"method {cls.name!r} trains the base model, from {cls.regimes[0]} and with needs "
                f"{', '.join(sorted(cls.needs))}",
                'regimes = ("retrain", ...), and no "base" among its needs',
            )
        if cls.is_control and (not cls.baseline or cls.needs != {"retain"}):
            raise PluginError(
                f"method {cls.name!r} is a control and needs {', '.join(sorted(cls.needs))}",
                'baseline = True and needs = frozenset({"retain"}): it never sees D_f',
            )
        wordless = [task for task, reason in dict(cls.unsupported_tasks).items() if not reason]
        if wordless:
            raise PluginError(
                f"method {cls.name!r} gives no reason why it does not support {wordless[0]!r}"
            )
        _check_presets(cls)
        check_search_space(cls)

    def part(self, model: Model, regime: Regime) -> str:
        """Name of the part of the network that it trains: by its option ``weights``, or ``all``.

        ``auto`` is ``unet`` where ``model`` has that part and starts from the base, else ``all``.
        """
        weights = getattr(self.options, "weights", "all")
        if weights != "auto":
            return str(weights)
        return "unet" if regime == "finetune" and "unet" in model.parts else "all"

    def trains(self, model: Model, regime: Regime) -> frozenset[str]:
        """Names of the network's parameters that may move; all others are frozen.

        Raises:
            OptionError: The network has no such part.
        """
        return model.part(self.part(model, regime))

    def skip(self, model: Model, regime: Regime) -> str | None:
        """Reason to skip the method for this model and regime, or None."""
        return None

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse a forget set before anything is trained; not called if ``skip`` has a reason.

        Raises:
            UsageError: The method cannot forget these classes with these options.
        """

    def texts(self, model: Model, data: Data, targets: Sequence[int]) -> Sequence[str]:
        """Prompts that the text encoder is to read beside the data's own, by the options.

        They are tokenised before anything is trained; not called for models without prompts.

        Args:
            model: The model without its weights.
            data: The data, with their prompts.
            targets: Concept indices of D_f.
        """
        return ()

    def required_task_options(self, model: Model) -> Mapping[str, Mapping[str, Any]]:
        """Options that its models require of tasks, by task; they override presets and user.

        Example: the only sampler that can draw from a one-step generator. Stored with the model,
        and part of the protocol of every value. The weights of ``model`` may be on ``meta``.
        """
        return {}

    def setup(self, session: Session) -> None:
        """Create networks, optimisers and buffers; called at the start and again on resume."""

    def num_preparation_steps(self, session: Session) -> int:
        """Number of steps before step 0 (batches of a mask, a Fisher diagonal, generated data)."""
        return 0

    def preparation_step(self, session: Session, i: int) -> None:
        """Preparation step ``i``, from 0; the model is in evaluation mode.

        Registered state survives a kill: a resumed run continues with the next step.
        """

    @abstractmethod
    def update(self, session: Session, step: int) -> Tensor:
        """One outer step; returns its loss, a scalar, for the log. Never called if closed_form."""

    def record(self, **values: Tensor) -> None:
        """Log scalar diagnostics of this step; the trainer reads them at logged steps alone."""
        self.recorded |= {name: value.detach() for name, value in values.items()}

    def check(self, recorded: Mapping[str, float]) -> None:
        """Check the diagnostics of a logged step.

        Raises:
            DivergenceError: The training has diverged.
        """


def _check_words(
    cls: type[Method], field: str, words: Iterable[str], allowed: Sequence[str]
) -> None:
    if isinstance(words, str) or not isinstance(words, Iterable):
        raise PluginError(f"method {cls.name!r} has {field} = {words!r}", "a collection of words")
    for word in words:
        if word not in allowed:
            near = did_you_mean(str(word), allowed)
            raise PluginError(
                f"method {cls.name!r} has {word!r} among its {field}{near}", ", ".join(allowed)
            )


def _check_presets(cls: type[Method]) -> None:
    check_presets(cls)
    for name, preset in cls.presets.items():
        try:
            for text in (False, True):
                parse_options(cls, on_track(preset, text).get("method", {}))
        except OptionError as error:
            where = f"preset {name!r} of method {cls.name!r}: {error.what}"
            raise PluginError(where, error.allowed) from error


class LossMethod(Method[OptionsT]):
    """A method with one loss; the trainer does everything else.

    A step has two parts: ``draw`` makes its random numbers, ``descend`` takes them to the weights.
    On a GPU a small network's steps are captured and replayed, where ``step_kind`` states which
    steps are alike.
    """

    @abstractmethod
    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """The scalar loss.

        Args:
            model: The model being trained.
            batches: ``batches.retain``, ``batches.forget`` and ``batches.all``: a batch of each
                split that ``needs`` declares.
            step: Index of the step, from 0.
        """

    def transform_gradients(self, model: nn.Module) -> None:
        """Change the gradients in place, before they are clipped."""

    def step_kind(self, step: int) -> Hashable | None:
        """A name of the steps that differ from ``step`` in their batches alone; None: no others.

        ``loss`` of two steps of one kind is the same function of model and batches: it reads
        nothing back from the device, and draws nothing but dropout.
        """
        return None

    def draw(self, session: Session, step: int) -> Batches:
        """The batches of a step, and whatever else is random in it."""
        drawn = {split: session.batch(split, step) for split in SPLITS if split in self.needs}
        return Batches(self.name, drawn)

    def descend(self, session: Session, batches: Batches, step: int) -> Tensor:
        """Minimise ``loss`` on ``batches``; returns it."""
        loss = self.loss(session.model, batches, step)
        session.minimise(loss, self.transform_gradients)
        return loss.detach()

    def update(self, session: Session, step: int) -> Tensor:
        """``draw``, then ``descend``."""
        return self.descend(session, self.draw(session, step), step)


def dsm_loss(model: Model, batch: Batch) -> Tensor:
    """E w(t) ||eps_hat(x_t, t[, c]) - eps||^2 / D: denoising score matching, a scalar.

    w = 1, or what ``Model.loss_weight`` gives for a network that predicts v. With w = 1 equal to
    E sigma^2 ||s - grad log p_0t||^2 / D, with D the dimensions of an item.

    Source: MSGM, arXiv:2412.07229, equation 3 with lambda = sigma^2.
    """
    error = model.eps(batch.x_t, batch.t, batch.condition) - batch.eps
    if model.prediction_type == "epsilon":
        return error.square().mean()
    return (per_item(model.loss_weight(batch.t), error) * error.square()).mean()
