"""Steps of small networks, captured once in a graph of the device and replayed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from msgm_bench.api import Batch, Batches, LossMethod, Method, Model
from msgm_bench.ranks import current as current_ranks

if TYPE_CHECKING:
    from msgm_bench.training.runtime import Runtime
    from msgm_bench.training.trainer import Trainer

WARM_STEPS = 3
T = TypeVar("T")
log = logging.getLogger(__name__)


class Graphs(Protocol):
    """Records the device's work of a function, and repeats it on the same memory."""

    def warm_up(self, function: Callable[[], T]) -> T:
        """Run ``function`` so that libraries allocate what they need."""

    def rehearse(self, function: Callable[[], T]) -> T:
        """Run ``function``, as ``warm_up``.

        Raises:
            RuntimeError: It makes the host wait for the device, which no graph can.
        """

    def capture(self, function: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """The result of ``function``, whose work is recorded and not done, and its replay.

        Raises:
            RuntimeError: It cannot be captured; the device works on as before.
        """


class CudaGraphs:
    """CUDA graphs of one device, each with memory of its own.

    torch registers the device's default generator with every graph: a replay draws from the seed
    that it has then, so dropout is that of an eager step.

    Source: docs.pytorch.org, CUDA semantics, whole-network capture.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def warm_up(self, function: Callable[[], T]) -> T:
        """Run ``function`` on a stream of its own, as its capture will."""
        current, side = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            result = function()
        current.wait_stream(side)
        return result

    def rehearse(self, function: Callable[[], T]) -> T:
        """Run ``function`` where each synchronisation raises."""
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            return self.warm_up(function)
        finally:
            torch.cuda.set_sync_debug_mode(mode)

    def capture(self, function: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Record ``function`` in a graph."""
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                torch.cuda.device(self.device),
                torch.cuda.graph(graph, stream=torch.cuda.Stream(self.device)),
            ):
                result = function()
        except RuntimeError:
            torch.rand(1, device=self.device)  # raises where the capture has not ended cleanly
            raise
        return result, graph.replay


@dataclass(frozen=True)
class Outcome:
    """What a step leaves: its loss, the gradient's norm, diagnostics."""

    loss: Tensor
    gradient_norm: Tensor
    recorded: dict[str, Tensor]


@dataclass(frozen=True)
class Capture:
    """A captured kind of step.

    Attributes:
        batches: The batches that it reads, in memory that stays.
        outcome: Tensors that each replay overwrites.
        replay: Repeats the device's work.
        thirds: Thirds of passes of a step, in items (``PassCounter``).
        averaged: Updates of the EMA of a step.
    """

    batches: Batches
    outcome: Outcome
    replay: Callable[[], None]
    thirds: int
    averaged: int


class CapturedSteps:
    """Steps of a method that states which of them are alike: drawn outside, then replayed.

    Batches are drawn as ever and copied to where the graph reads them; the graph holds all from
    the loss to the EMA. There is one for each kind of step (``LossMethod.step_kind``), captured
    after ``WARM_STEPS`` steps of the kind, which run one by one, and so do steps of no kind.
    What the host does in a step, passes and updates of the average, is added at each replay.

    Args:
        method: The method.
        graphs: Captures and replays.

    Attributes:
        reason: Why all steps run one by one; None while they do not.
    """

    def __init__(self, method: Method, graphs: Graphs) -> None:
        self.method, self.graphs = method, graphs
        self._warmed: Counter[Hashable] = Counter()
        self._captures: dict[Hashable, Capture] = {}
        self.reason = reason_to_run_eagerly(method)
        if self.reason:
            log.info("steps of %s run one by one: %s", method.name, self.reason)

    def update(self, session: Trainer, step: int) -> Tensor:
        """One outer step; returns its loss, which the next step of the kind overwrites.

        Args:
            session: The training, whose rates are on the device.
            step: Number of the step.
        """
        method = self.method
        if self.reason or not isinstance(method, LossMethod):
            return method.update(session, step)
        kind, batches = method.step_kind(step), method.draw(session, step)
        if kind is None:
            return method.descend(session, batches, step)
        if kind not in self._captures:
            loss = self._first_steps(session, method, kind, batches, step)
            if loss is not None:
                return loss
        return self._replay(session, self._captures[kind], batches)

    def _first_steps(
        self,
        session: Trainer,
        method: LossMethod,
        kind: Hashable,
        batches: Batches,
        step: int,
    ) -> Tensor | None:
        """The loss of a step before the capture; None once the kind is captured."""

        def descend() -> Tensor:
            return method.descend(session, batches, step)

        self._warmed[kind] += 1
        if self._warmed[kind] < WARM_STEPS:
            return self.graphs.warm_up(descend)
        before = counters(session)
        cuda = [session.device] if session.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(cuda):  # whatever replaces this step draws the same
                if self._warmed[kind] == WARM_STEPS:
                    return self.graphs.rehearse(descend)
                self._captures[kind] = self._capture(session, method, batches, step)
            return None
        except RuntimeError as error:
            set_counters(session, *before)
            self.reason = str(error).partition("\n")[0] or type(error).__name__
            log.warning("steps of %s run one by one: %s", method.name, self.reason)
            return descend()

    def _capture(
        self, session: Trainer, method: LossMethod, batches: Batches, step: int
    ) -> Capture:
        """Capture a step, which is not done; the host's counters stay."""
        static, (thirds, averaged) = copy_of(batches), counters(session)

        def function() -> Outcome:
            known, method.recorded = method.recorded, {}
            try:
                with session.captured():
                    loss = method.descend(session, static, step)
                return Outcome(loss, session.gradient_norm, method.recorded)
            finally:
                method.recorded = known

        outcome, replay = self.graphs.capture(function)
        after = counters(session)
        set_counters(session, thirds, averaged)
        return Capture(static, outcome, replay, after[0] - thirds, after[1] - averaged)

    def _replay(self, session: Trainer, capture: Capture, batches: Batches) -> Tensor:
        """One step on ``batches``: the device's part replayed, the host's part beside it."""
        outcome, (thirds, averaged) = capture.outcome, counters(session)
        torch._foreach_copy_(list(tensors(capture.batches)), list(tensors(batches)))
        session.set_rates()
        with session.known_move():
            capture.replay()
            increment_version(session.parameters)
        set_counters(session, thirds + capture.thirds, averaged + capture.averaged)
        session.gradient_norm = outcome.gradient_norm
        self.method.recorded |= outcome.recorded
        return outcome.loss


def counters(session: Trainer) -> tuple[int, int]:
    """What the host counts in a step: thirds of passes in items, updates of the average."""
    return session.passes.thirds, session.ema.count


def set_counters(session: Trainer, thirds: int, averaged: int) -> None:
    """Undo, or go on from, ``counters``."""
    session.passes.thirds, session.ema.count = thirds, averaged


def captured_steps(method: Method, model: Model, runtime: Runtime) -> CapturedSteps | None:
    """The captured steps of ``method``, where ``runtime`` captures those of ``model``.

    The processes of a launcher run each step one by one: no graph holds another process's work.
    """
    if current_ranks().count > 1 or not runtime.captures(model):
        return None
    return CapturedSteps(method, CudaGraphs(runtime.device))


def reason_to_run_eagerly(method: Method) -> str | None:
    """Why no step of ``method`` can be captured, or None.

    The class that states kinds of steps must know the loss: a subclass with another loss, which
    may depend on the step in another way, has to state them again.
    """
    cls = type(method)
    if not isinstance(method, LossMethod) or cls.update is not LossMethod.update:
        return "it draws and descends in one function, update"
    places = {
        name: next(i for i, parent in enumerate(cls.__mro__) if name in vars(parent))
        for name in ("loss", "step_kind")
    }
    if places["step_kind"] > places["loss"]:
        return "it does not state which steps are alike (step_kind)"
    return None


def tensors(batches: Batches) -> Iterator[Tensor]:
    """All tensors of ``batches``, in one order."""
    for batch in batches.drawn.values():
        values = (getattr(batch, field.name) for field in fields(Batch))
        yield from (value for value in values if value is not None)
    yield from batches.noise.values()


def copy_of(batches: Batches) -> Batches:
    """``batches`` in memory of their own, one tensor for each field."""

    def copied(batch: Batch) -> Batch:
        values = {field.name: getattr(batch, field.name) for field in fields(Batch)}
        clones: dict[str, Any] = {k: v if v is None else v.clone() for k, v in values.items()}
        return Batch(**clones)

    drawn = {split: copied(batch) for split, batch in batches.drawn.items()}
    noise = {name: value.clone() for name, value in batches.noise.items()}
    return replace(batches, drawn=drawn, noise=noise)
