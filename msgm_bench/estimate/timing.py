"""Times of training steps and of network evaluations on this device."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from msgm_bench.api import Model
from msgm_bench.diffusion import Noise
from msgm_bench.diffusion.divergence import hutchinson
from msgm_bench.diffusion.noise_prediction import CountedEps
from msgm_bench.estimate.measurement import (
    Reading,
    Stop,
    Stopwatch,
    TimeBudget,
    time_batch,
    time_limit,
)
from msgm_bench.estimate.records import RunEstimate, TaskEstimate, Timing, TrainingEstimate
from msgm_bench.experiment.graph import training_stage
from msgm_bench.experiment.model_io import save_model
from msgm_bench.experiment.model_stage import BASE
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.taken_models import TakeModel
from msgm_bench.experiment.training_plan import TrainingPlan
from msgm_bench.experiment.training_stages import Train
from msgm_bench.training.trainer import LOGGED_ROWS

MEASURE_SECONDS = 12.0  # all measurements; on a busy machine the start takes as long again
TRAIN_ITEMS = 256  # training items of each split in a trial


def with_times(
    estimate: RunEstimate, plan: Plan, training_plans: Sequence[TrainingPlan]
) -> RunEstimate:
    """``estimate`` with times.

    Where the request names a method, each budget is timed by its own step; else a step of the
    first budget stands for all.
    """
    timed = training_plans if estimate.method else training_plans[:1]
    copies = 1 if estimate.method else len(training_plans)
    needs_vjp = any(task.vjps for task in estimate.tasks)
    seconds = TimeBudget(MEASURE_SECONDS, 1 + needs_vjp + len(timed))
    size = max((min(task.options["batch_size"], task.items) for task in estimate.tasks), default=1)
    plain = time_evaluation(plan, size, seconds.next(), vjp=False)
    vjp = time_evaluation(plan, size, seconds.next(), vjp=True) if needs_vjp else None
    timings = [time_training_step(plan, t, seconds.next()) for t in timed] * copies
    names = [training_plan.method.name for training_plan in timed] * copies
    training = [
        with_step_timing(*row) for row in zip(estimate.training, timings, names, strict=True)
    ]
    tasks = [replace(task, seconds=drawing_seconds(task, plain, vjp)) for task in estimate.tasks]
    return replace(estimate, training=training, tasks=tasks, evaluation=plain, evaluation_vjp=vjp)


def with_step_timing(
    training: TrainingEstimate, timing: Timing, timed_method: str
) -> TrainingEstimate:
    """``training`` with seconds = steps * seconds a step * (its batch / timed batch).

    A budget in passes has steps = passes / (passes a step); a closed form, its preparation steps.
    """
    budget, seconds = training.budget, None
    steps, share = budget["steps"], budget["batch_size"] / timing.batch
    if training.closed_form:
        steps, share = timing.steps, 1.0
    elif budget["passes"]:
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


def time_training_step(plan: Plan, training_plan: TrainingPlan, limit: float) -> Timing:
    """Time steps of the trainer as in a run: real network, batch, loss, optimiser and EMA.

    Of a closed form its preparation steps. ``limit`` bounds the seconds, but for the time that
    ``torch.compile`` takes.
    """
    plan, method = subset(plan), training_plan.method
    changes = {
        "continue_optimizer": False,  # the untrained base has no optimizer's state
        "steps": min(training_plan.budget.steps, LOGGED_ROWS),  # every step is logged
        "passes": None,
    }

    preparation_steps = None

    def repeats(items: int, seconds: float) -> list[Reading]:
        budget = training_plan.budget.model_copy(update=changes | {"batch_size": items})
        stateless = type(method)(method.options)
        stage = _stage(plan, replace(training_plan, method=stateless, budget=budget))
        done = 0.0  # passes

        def on_step(step: int, total: int, values: Mapping[str, float], part: str = "", /) -> None:
            nonlocal done, preparation_steps
            if part and not method.closed_form:
                watch.restart()
                return
            preparation_steps = total if method.closed_form else None
            before, done = done, values.get("passes", done)
            watch.read(round(done - before, 6) if "passes" in values else None)

        with tempfile.TemporaryDirectory() as folder:
            needs = _placeholder_needs(plan, stage, Path(folder))
            bound = math.inf if plan.runtime.compile else seconds
            watch = Stopwatch(plan.runtime.device, bound)
            with contextlib.suppress(Stop), time_limit(bound):
                stage.run(Path(folder), needs, on_step)
        return watch.readings

    batch = 1 if method.closed_form else training_plan.budget.batch_size
    return replace(time_batch(repeats, batch, limit), steps=preparation_steps)


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


def time_evaluation(plan: Plan, batch: int, limit: float, vjp: bool) -> Timing:
    """Time an evaluation of eps_hat on a batch as in a task, for at most ``limit`` seconds.

    ``vjp`` adds a vector-Jacobian product and takes the precision of likelihoods.
    """
    runtime = plan.runtime.measuring if vjp else plan.runtime
    device = runtime.device
    model = untrained_model(plan).to(device).eval()

    def repeats(items: int, seconds: float) -> list[Reading]:
        noise = Noise(0, 0, items, device)
        x = model.process.prior_sampling(model.shape, noise)
        t = torch.full((items,), 0.5, device=device)
        estimate = hutchinson(noise.rademacher(model.shape).to(x))
        with runtime.active(), torch.no_grad():
            watch = Stopwatch(device, seconds)
            with contextlib.suppress(Stop), time_limit(seconds):
                while True:
                    estimate(CountedEps(model.eps_fn), x, t) if vjp else model.eps(x, t)
                    watch.read()
        return watch.readings

    return time_batch(repeats, batch, limit)
