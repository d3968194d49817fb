"""Times of training steps and of network evaluations on this device."""

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
from msgm_bench.experiment.model_stage import BASE
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.taken_models import TakeModel
from msgm_bench.experiment.training_plan import TrainingPlan
from msgm_bench.experiment.training_stages import Train
from msgm_bench.training.trainer import LOGGED_ROWS

TRIAL_ITEMS = 4  # batch of the first, small trial
REPEATS = 5  # the first of them warms up
REPEAT_SECONDS = 20.0  # two repeats are enough after this time
LONGEST_REPEAT = 40.0  # one repeat is enough after this time; longer batches are timed in part
START_LIMIT = 120.0  # seconds within which the first step must end
TRAIN_ITEMS = 256  # training items of each split in a trial

Repeats = Callable[[int], list[float]]
"""Seconds of several repeats on a batch of that many items; the first repeat warms up."""


class _Stop(Exception):  # noqa: N818 - not an error but an event
    """The measurement has enough repeats, or its time is up."""


def with_times(
    estimate: RunEstimate, plan: Plan, training_plans: Sequence[TrainingPlan]
) -> RunEstimate:
    """``estimate`` with times.

    Where the request names a method, each budget is timed by its own step; else a step of the
    first budget stands for all.
    """
    timed = training_plans if estimate.method else training_plans[:1]
    copies = 1 if estimate.method else len(training_plans)
    timings = [time_training_step(plan, training_plan) for training_plan in timed] * copies
    names = [training_plan.method.name for training_plan in timed] * copies
    training = [
        with_step_timing(*row) for row in zip(estimate.training, timings, names, strict=True)
    ]
    size = max((min(task.options["batch_size"], task.items) for task in estimate.tasks), default=1)
    plain = time_evaluation(plan, size, vjp=False)
    vjp = time_evaluation(plan, size, vjp=True) if any(t.vjps for t in estimate.tasks) else None
    tasks = [replace(task, seconds=drawing_seconds(task, plain, vjp)) for task in estimate.tasks]
    return replace(estimate, training=training, tasks=tasks, evaluation=plain, evaluation_vjp=vjp)


def with_step_timing(
    training: TrainingEstimate, timing: Timing, timed_method: str
) -> TrainingEstimate:
    """``training`` with seconds = steps * seconds a step * (its batch / timed batch).

    A budget in passes has steps = passes / (passes a step).
    """
    budget, seconds = training.budget, None
    steps, share = budget["steps"], budget["batch_size"] / timing.batch
    if budget["passes"]:
        steps = budget["passes"] / (timing.passes * share) if timing.passes else None
    if timing.seconds is not None and steps is not None:
        seconds = steps * timing.seconds * share
    return replace(training, step_timing=timing, timed_method=timed_method, seconds=seconds)


def drawing_seconds(task: TaskEstimate, plain: Timing, vjp: Timing | None) -> float | None:
    """Seconds = items * nfe * (seconds a plain evaluation + vjps * seconds a product).

    None where one of them is unknown.
    """
    if task.nfe is None or plain.seconds is None:
        return None
    seconds = plain.seconds
    if task.vjps:
        if vjp is None or vjp.seconds is None:
            return None
        seconds += task.vjps * (vjp.seconds - plain.seconds)
    return task.items * task.nfe * seconds / plain.batch


def time_batch(repeats: Repeats, batch: int) -> Timing:
    """Time ``repeats`` on a whole batch, or on a part of a batch that takes minutes."""
    items = min(TRIAL_ITEMS, batch)
    try:
        seconds = mean_after_warmup(repeats(items))
        whole = seconds * batch / items
        more = batch if whole <= LONGEST_REPEAT else int(batch * REPEAT_SECONDS / whole)
        if more > items:
            items = more
            seconds = mean_after_warmup(repeats(items))
    except torch.OutOfMemoryError:
        return Timing(None, batch, items, f"{items} items do not fit into the device's memory")
    except MsgmBenchError as error:
        return Timing(None, batch, items, error.what)
    except _Stop:
        return Timing(None, batch, items, f"not one step within {START_LIMIT:g} s")
    return Timing(seconds * batch / items, batch, items)


def has_enough_repeats(seconds: Sequence[float]) -> bool:
    """Whether the repeats suffice: at least two, unless the first one takes very long."""
    return (
        len(seconds) >= REPEATS
        or sum(seconds[:1]) > LONGEST_REPEAT
        or (len(seconds) > 1 and sum(seconds) > REPEAT_SECONDS)
    )


def mean_after_warmup(seconds: list[float]) -> float:
    """Mean without the first repeat, which warms up; a single repeat is its own mean."""
    timed = seconds[1:] or seconds
    return sum(timed) / len(timed)


def time_training_step(plan: Plan, training_plan: TrainingPlan) -> Timing:
    """Time steps of the trainer as in a run: real network, batch, loss, optimiser and EMA."""
    plan = subset(plan)
    passes: list[float] = []  # totals after each step
    changes = {
        "continue_optimizer": False,  # the untrained base has no optimizer's state
        "steps": min(training_plan.budget.steps, LOGGED_ROWS),  # every step is logged
        "passes": None,
    }

    def repeats(items: int) -> list[float]:
        seconds: list[float] = []
        passes.clear()
        budget = training_plan.budget.model_copy(update=changes | {"batch_size": items})
        method = type(training_plan.method)(training_plan.method.options)  # without its state
        stage = _stage(plan, replace(training_plan, method=method, budget=budget))

        def on_step(step: int, total: int, values: Mapping[str, float], part: str = "", /) -> None:
            seconds.append(clock.elapsed())
            passes.extend([values["passes"]] if "passes" in values else [])
            if has_enough_repeats(seconds):
                raise _Stop

        limit = contextlib.nullcontext() if plan.runtime.compile else time_limit(START_LIMIT)
        with tempfile.TemporaryDirectory() as folder, limit:
            needs = _placeholder_needs(plan, stage, Path(folder))
            clock = Clock(plan.runtime.device)
            with contextlib.suppress(_Stop):
                stage.run(Path(folder), needs, on_step)
        if not seconds:
            raise _Stop
        return seconds

    timing = time_batch(repeats, training_plan.budget.batch_size)
    if not passes or timing.seconds is None:
        return timing
    step_passes = passes[0] if len(passes) == 1 else (passes[-1] - passes[0]) / (len(passes) - 1)
    return replace(timing, passes=step_passes * timing.batch / timing.measured)


def _stage(plan: Plan, training: TrainingPlan) -> Train:
    """The stage of a training; its base, where it has one, is a placeholder."""
    base = TakeModel(Path(), plan.backbone, plan.loaded.stats)
    return training_stage(plan, training, base if training.starts_from_base else None)


def _placeholder_needs(plan: Plan, stage: Train, folder: Path) -> dict[str, Path]:
    """Folders of what a training needs: an untrained base model, and zeros for made items."""
    if stage.base is None:
        return {}
    model, needs = untrained_model(plan), {name: folder / name for name in stage.needs}
    for path in needs.values():
        path.mkdir()
    save_model(needs[BASE], model, plan.backbone, plan.loaded.stats)
    for items in stage.items:
        items.write_placeholder(needs[items.name], model)
    return needs


def untrained_model(plan: Plan) -> Model:
    """A model with random weights; torch's global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        return plan.backbone.build(plan.loaded.stats)


def subset(plan: Plan) -> Plan:
    """``plan`` with at most ``TRAIN_ITEMS`` training items of each split."""
    data = plan.data
    forget = data.members(data.train, plan.targets)
    indices = [torch.nonzero(mask).flatten()[:TRAIN_ITEMS] for mask in (forget, ~forget)]
    part = replace(data, train=data.train[torch.cat(indices)])
    return replace(plan, loaded=replace(plan.loaded, data=part))


def time_evaluation(plan: Plan, batch: int, vjp: bool) -> Timing:
    """Time an evaluation of eps_hat on a batch as in a task.

    ``vjp`` adds a vector-Jacobian product and takes the precision of likelihoods.
    """
    runtime = plan.runtime.measuring if vjp else plan.runtime
    device = runtime.device
    model = untrained_model(plan).to(device).eval()

    def repeats(items: int) -> list[float]:
        noise = Noise(0, 0, items, device)
        x = model.process.prior_sampling(model.shape, noise)
        t = torch.full((items,), 0.5, device=device)
        estimate = hutchinson(noise.rademacher(model.shape).to(x))
        seconds: list[float] = []
        with runtime.active(), torch.no_grad():
            clock = Clock(device)
            while not has_enough_repeats(seconds):
                estimate(CountedEps(model.eps_fn), x, t) if vjp else model.eps(x, t)
                seconds.append(clock.elapsed())
        return seconds

    return time_batch(repeats, batch)


class Clock:
    """Seconds between two readings, each after the device has finished its queue."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.last = self._now()

    def elapsed(self) -> float:
        """Seconds since the last reading."""
        before, self.last = self.last, self._now()
        return self.last - before

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic()


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop the block at its first network evaluation after ``seconds``, a set-up of hours, say."""
    end = time.monotonic() + seconds

    def check(module: nn.Module, inputs: Any) -> None:
        if time.monotonic() > end:
            raise _Stop

    handle = nn.modules.module.register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()
