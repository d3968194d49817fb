"""How long real steps and real evaluations take on this device: what estimates rest on."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from msgm_bench.api import Model
from msgm_bench.diffusion import Noise
from msgm_bench.diffusion.divergence import hutchinson
from msgm_bench.diffusion.noise_prediction import CountedEps
from msgm_bench.errors import MsgmBenchError
from msgm_bench.estimate.records import RunEstimate, TaskEstimate, Timing, TrainingEstimate
from msgm_bench.experiment.graph import training_stage
from msgm_bench.experiment.model_io import save_model
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.training_plan import TrainingPlan
from msgm_bench.training.trainer import LOGGED_ROWS

FEW = 4  # items of the first, small trial
REPEATS = 5  # the first of which warms up
SECONDS = 20.0  # after which two repeats are enough
LONGEST = 40.0  # after which one is; a batch that seems to take longer is measured in part
START = 120.0  # within which there must be a step
KEPT = 256  # items of each split that a trial trains on

Work = Callable[[int], list[float]]
"""Seconds of several repeats on so many items, the first one to warm up."""


class _Over(Exception):  # noqa: N818 - not an error but an event
    """There was enough to see, or the time is up."""


def estimated(told: RunEstimate, plan: Plan, trained: Sequence[TrainingPlan]) -> RunEstimate:
    """The outline with times: each budget's where a method was named, else by the first's step."""
    measured = trained if told.method else trained[:1]
    paces = [step_pace(plan, each) for each in measured] * (1 if told.method else len(trained))
    names = [each.method.name for each in measured] * (1 if told.method else len(trained))
    training = [paced(*row) for row in zip(told.training, paces, names, strict=True)]
    size = max((min(task.options["batch_size"], task.items) for task in told.tasks), default=1)
    plain = evaluation_pace(plan, size, vjp=False)
    vjp = evaluation_pace(plan, size, vjp=True) if any(t.vjps for t in told.tasks) else None
    tasks = [replace(task, seconds=drawing(task, plain, vjp)) for task in told.tasks]
    return replace(told, training=training, tasks=tasks, evaluation=plain, evaluation_vjp=vjp)


def paced(stint: TrainingEstimate, pace: Timing, by: str) -> TrainingEstimate:
    """Steps times the time of a step, in proportion to the batch.

    A budget of passes is as many steps as it has of what a step takes.
    """
    seconds, steps, share = None, stint.budget["steps"], stint.budget["batch_size"] / pace.batch
    if stint.budget["passes"]:
        steps = stint.budget["passes"] / (pace.passes * share) if pace.passes else None
    if pace.seconds is not None and steps is not None:
        seconds = steps * pace.seconds * share
    return replace(stint, pace=pace, paced_by=by, seconds=seconds)


def drawing(task: TaskEstimate, plain: Timing, vjp: Timing | None) -> float | None:
    """Items times evaluations times their time, ``vjps`` products to each."""
    if task.nfe is None or plain.seconds is None:
        return None
    seconds = plain.seconds
    if task.vjps:
        if vjp is None or vjp.seconds is None:
            return None
        seconds += task.vjps * (vjp.seconds - plain.seconds)
    return task.items * task.nfe * seconds / plain.batch


def pace(work: Work, batch: int) -> Timing:
    """Time ``work`` on a whole batch, or on a part of one that would take minutes."""
    items = min(FEW, batch)
    try:
        seconds = _settled(work(items))
        whole = seconds * batch / items
        more = batch if whole <= LONGEST else int(batch * SECONDS / whole)
        if more > items:
            items = more
            seconds = _settled(work(items))
    except torch.OutOfMemoryError:
        return Timing(None, batch, items, f"{items} items do not fit into the device's memory")
    except MsgmBenchError as error:
        return Timing(None, batch, items, error.what)
    except _Over:
        return Timing(None, batch, items, f"not one step within {START:g} s")
    return Timing(seconds * batch / items, batch, items)


def enough(seconds: Sequence[float]) -> bool:
    """Whether there were repeats enough: two at least, unless the first took very long."""
    return (
        len(seconds) >= REPEATS
        or sum(seconds[:1]) > LONGEST
        or (len(seconds) > 1 and sum(seconds) > SECONDS)
    )


def _settled(seconds: list[float]) -> float:
    """The mean, without the first where there are more."""
    later = seconds[1:] or seconds
    return sum(later) / len(later)


def step_pace(plan: Plan, trained: TrainingPlan) -> Timing:
    """Steps of the trainer as a run takes them: real network, batch, loss, optimiser and EMA."""
    plan = few(plan)
    passes: list[float] = []  # after each step
    changes = {
        "continue_optimizer": False,  # the base has learned nothing
        "steps": min(trained.budget.steps, LOGGED_ROWS),  # each is logged, with its passes
        "passes": None,
    }

    def work(items: int) -> list[float]:
        seconds: list[float] = []
        passes.clear()
        budget = trained.budget.model_copy(update=changes | {"batch_size": items})
        method = type(trained.method)(trained.method.options)  # without what it remembers
        stage = training_stage(plan, replace(trained, method=method, budget=budget))

        def on_step(step: int, total: int, values: Mapping[str, float], part: str = "", /) -> None:
            seconds.append(clock.lap())
            passes.extend([values["passes"]] if "passes" in values else [])
            if enough(seconds):
                raise _Over

        watch = contextlib.nullcontext() if plan.runtime.compile else limited(START)
        with tempfile.TemporaryDirectory() as folder, watch:
            started = trained.starts_from_base
            needs = {"base": _fresh_base(plan, Path(folder))} if started else {}
            clock = Clock(plan.runtime.device)
            with contextlib.suppress(_Over):
                stage.run(Path(folder), needs, on_step)
        if not seconds:
            raise _Over
        return seconds

    found = pace(work, trained.budget.batch_size)
    if not passes or found.seconds is None:
        return found
    a_step = passes[0] if len(passes) == 1 else (passes[-1] - passes[0]) / (len(passes) - 1)
    return replace(found, passes=a_step * found.batch / found.measured)


def _fresh_base(plan: Plan, folder: Path) -> Path:
    """A base model that has learned nothing, for methods that look at one."""
    base = folder / "base"
    base.mkdir()
    save_model(base, fresh(plan), plan.backbone, plan.loaded.stats)
    return base


def fresh(plan: Plan) -> Model:
    """A model with some weights or other."""
    with torch.random.fork_rng(devices=[]):
        return plan.backbone.build(plan.loaded.stats)


def few(plan: Plan) -> Plan:
    """The plan with a few training items of each split."""
    data = plan.data
    forget = data.members(data.train, plan.targets)
    chosen = [torch.nonzero(mask).flatten()[:KEPT] for mask in (forget, ~forget)]
    part = replace(data, train=data.train[torch.cat(chosen)])
    return replace(plan, loaded=replace(plan.loaded, data=part))


def evaluation_pace(plan: Plan, batch: int, vjp: bool) -> Timing:
    """One evaluation of eps_hat on a batch as tasks make it; with a Jacobian product if asked."""
    runtime = plan.runtime.measuring if vjp else plan.runtime  # likelihoods are measured
    device = runtime.device
    model = fresh(plan).to(device).eval()

    def work(items: int) -> list[float]:
        noise = Noise(0, 0, items, device)
        x = model.process.prior_sampling(model.shape, noise)
        t = torch.full((items,), 0.5, device=device)
        estimate = hutchinson(noise.rademacher(model.shape).to(x))
        seconds: list[float] = []
        with runtime.active(), torch.no_grad():
            clock = Clock(device)
            while not enough(seconds):
                estimate(CountedEps(model.eps_fn), x, t) if vjp else model.eps(x, t)
                seconds.append(clock.lap())
        return seconds

    return pace(work, batch)


class Clock:
    """Seconds between laps, after all that the device has been asked to do is done."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.last = self._now()

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self.last = self.last, self._now()
        return self.last - before

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic()


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Stop whatever evaluates a network after so long, a set-up of hours, say."""
    end = time.monotonic() + seconds

    def look(module: nn.Module, inputs: Any) -> None:
        if time.monotonic() > end:
            raise _Over

    handle = nn.modules.module.register_module_forward_pre_hook(look)
    try:
        yield
    finally:
        handle.remove()
