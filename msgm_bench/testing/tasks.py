"""What a task keeps: artifacts that depend on the seed and the items, and on nothing else."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msgm_bench.api import Artifact, ModelContext, Task
from msgm_bench.errors import UsageError
from msgm_bench.evaluation.artifacts import ARTIFACT, draw_artifact
from msgm_bench.storage.tensors import load_tensors
from msgm_bench.testing.checks import Check, require
from msgm_bench.testing.plugins import PLUGIN_CHECKS, variations
from msgm_bench.testing.toy_tracks import TOY_TRACKS, UNCONDITIONAL, ToyTrack
from msgm_bench.testing.toys import CPU, SEED, toy_context

SMALL = 6  # items of a split, and evaluations a sample
CHUNK = 4
ROUNDING = 1e-2
"""How far chunks of other sizes may change an item: float32 sums, and adaptive solvers."""


class _Killed(Exception):  # noqa: N818 - not an error but an event
    """Stands for a kill between two chunks."""


@dataclass(frozen=True, eq=False)
class TaskCase:
    """A task under check; options that make it small are filled in where it has them."""

    cls: type[Task]
    options: Mapping[str, Any] | None = None

    def obstacle(self) -> str | None:
        """Nothing: the models are made here."""
        return None

    @functools.cached_property
    def trials(self) -> list[_Trial]:
        """One for each of the toy models, one a track, that it takes."""
        trials = []
        for track in TOY_TRACKS:
            context = small_context(track)
            task = small(self.cls, self.options)
            if task.skip(context.model) is not None:
                continue
            task = task.with_model_defaults(context.model)
            task.check(context.model)
            task.check_data(context.data, context.targets)
            label = self.cls.name if track is UNCONDITIONAL else f"{self.cls.name} ({track.name})"
            trials.append(_Trial(label, task, context))
        names = ", ".join(track.name for track in TOY_TRACKS)
        assert trials, f"{self.cls.name}: skips the models of all tracks ({names})"
        return trials


@dataclass(frozen=True, eq=False)
class _Trial:
    """A task on one toy model."""

    label: str
    task: Task
    context: ModelContext

    @functools.cached_property
    def total(self) -> int:
        """Number of items."""
        total = self.task.total(self.context)
        assert isinstance(total, int), f"{self.label}: total is {total!r}, not a positive number"
        assert total > 0, f"{self.label}: total is {total}, not a positive number"
        return total

    def draw(self) -> Artifact:
        """All items."""
        return self.task.draw(self.context, 0, self.total)

    @functools.cached_property
    def artifact(self) -> Artifact:
        """All items, drawn once."""
        torch.manual_seed(0)
        return self.draw()


def _of_all(function: Callable[[_Trial], str | None]) -> Callable[[TaskCase], str | None]:
    """``function`` on every trial; the reason to skip it where all have one."""

    def check(case: TaskCase) -> str | None:
        reasons = [function(trial) for trial in case.trials]
        return None if None in reasons else reasons[0]

    return check


def small(cls: type[Task], options: Mapping[str, Any] | None = None) -> Task:
    """The task with few items and few evaluations, unless ``options`` say otherwise."""
    limits = {"batch_size": CHUNK, "nfe": 4 * SMALL, "rtol": 1e-2, "atol": 1e-2}
    known = {key: value for key, value in limits.items() if key in cls.options_type.model_fields}
    task = cls.create(known | dict(options or {}))
    return cls.create(known | task.options.limit_samples(SMALL) | dict(options or {}))


def small_context(track: ToyTrack, count: int = 96) -> ModelContext:
    """A toy model under evaluation on ``count`` images of 8x8, a quarter of them held out.

    Its base model has other weights.
    """
    data, judge = track.data(count, size=8), track.judge()
    judge.fit(data, SEED, CPU)
    torch.manual_seed(SEED)
    model, base = (track.model(data).eval().requires_grad_(False) for _ in range(2))
    return replace(toy_context(data=data, judge=judge, model=model), base=base)


def _check_items(trial: _Trial) -> None:
    for name, values in trial.artifact.items():
        label, shape = f"{trial.label}: {name!r}", tuple(values.shape)
        counted = values.ndim > 0 and len(values) == trial.total
        assert counted, f"{label} of {trial.total} items has shape {shape}"
        assert not values.requires_grad, f"{label} carries a graph"
        nan = values.is_floating_point() and bool(torch.isnan(values).any())
        assert not nan, f"{label} of a sound model is not a number"


def _check_size(trial: _Trial) -> str | None:
    task = trial.task
    limit_samples = task.options.limit_samples(SMALL // 2)
    if not limit_samples:
        return "--samples has nothing to limit"
    shorter = type(task)(task.options.model_copy(update=limit_samples))
    costs = [t.cost(trial.context.model) for t in (shorter, task)]
    cheaper = None not in costs and costs[0].nfe < costs[1].nfe  # type: ignore[union-attr]
    fewer = shorter.total(trial.context) < trial.total
    assert fewer or cheaper, f"{trial.label}: --samples does not make it shorter"
    return None


def _check_seed(trial: _Trial) -> None:
    label, task, whole = trial.label, trial.task, trial.artifact
    torch.manual_seed(1)
    again = trial.draw()
    same = all(torch.equal(again[name], whole[name]) for name in whole)
    assert same, f"{label}: drawn again, the items are others: all noise comes from context.seed"
    if task.uses().get("samplers"):
        context = replace(trial.context, seed=trial.context.seed + 1)
        other = task.draw(context, 0, trial.total)
        varied = any(not _alike(other[name], whole[name]) for name in whole)
        assert varied, f"{label}: another seed draws the same items"


def _check_chunks(trial: _Trial) -> None:
    total, task, context = trial.total, trial.task, trial.context
    split = [task.draw(context, start, min(5, total - start)) for start in range(0, total, 5)]
    for name, values in trial.artifact.items():
        joined = torch.cat([part[name] for part in split])
        assert _alike(joined, values) or name == "nfe", (
            f"{trial.label}: {name!r} of an item depends on the chunk in which it is drawn"
        )


def _check_weights(trial: _Trial) -> None:
    model = trial.context.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trial.draw()
    after = model.state_dict()
    still = all(torch.equal(before[name], after[name]) for name in before)
    assert still, f"{trial.label}: drawing changes the model's weights"
    assert not model.training, f"{trial.label}: drawing leaves the model in training mode"


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(
        a.double(), b.double(), rtol=ROUNDING, atol=ROUNDING
    )


def _check_resume(trial: _Trial) -> None:
    label, task, context = trial.label, trial.task, trial.context

    def silent(done: int, total: int, values: Mapping[str, float], part: str = "", /) -> None:
        pass

    def killing(done: int, total: int, values: Mapping[str, float], part: str = "", /) -> None:
        raise _Killed

    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        draw_artifact(task, context, Path(first), silent)
        try:
            draw_artifact(task, context, Path(second), killing)
        except _Killed:
            draw_artifact(task, context, Path(second), silent)
        a, b = (load_tensors(Path(place) / ARTIFACT) for place in (first, second))
    same = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert same, f"{label}: killed and resumed, it ends with another artifact"


def _check_protocol(trial: _Trial) -> None:
    label, task, context, artifact = trial.label, trial.task, trial.context, trial.artifact
    settings = task.protocol(context)
    text = json.dumps(settings, sort_keys=True, allow_nan=False)
    again = json.dumps(task.protocol(context), sort_keys=True)
    assert text == again, f"{label}: its protocol changes from call to call"
    assert "batch_size" not in settings, f"{label}: its protocol holds batch_size, which is no part"
    for option, other in variations(task):
        assert isinstance(other, Task)
        try:
            other.check(context.model)
            other.check_data(context.data, context.targets)
        except UsageError:
            continue
        if other.protocol(context) == settings:
            drawn = other.draw(context, 0, other.total(context))
            same = all(_alike(drawn[name], artifact[name]) for name in artifact)
            assert same, f"{label}: option {option!r} changes what is drawn, not its protocol"


def _check_cost(trial: _Trial) -> str | None:
    cost = trial.task.cost(trial.context.model)
    if cost is None or "nfe" not in trial.artifact or cost.assumed:
        return "its options do not fix the evaluations of an item"
    spent = int(trial.artifact["nfe"].max())
    message = f"{trial.label}: an item took {spent} evaluations, its cost says {cost.nfe}"
    assert spent <= cost.nfe, message
    return None


def _check_preview(trial: _Trial) -> str | None:
    pictures = trial.task.preview(trial.context, trial.artifact)
    for caption, images in pictures.items():
        if images.ndim == 2 and images.shape[1] == 2:
            continue  # points
        label = f"{trial.label}: picture {caption!r}"
        assert images.ndim == 4, f"{label} has shape {tuple(images.shape)}"
        inside = bool(((images >= 0) & (images <= 1)).all())
        assert inside, f"{label} leaves [0, 1]"
    return None if pictures else "it has no preview"


TASK_CHECKS: tuple[Check[TaskCase], ...] = (
    *PLUGIN_CHECKS,
    Check("items", "tensors of as many items as it counts, without NaN", _of_all(_check_items)),
    Check("size", "--samples makes it shorter", _of_all(_check_size)),
    Check("seed", "the same seed draws the same items, another one others", _of_all(_check_seed)),
    Check("chunks", "an item does not depend on the chunk it is drawn in", _of_all(_check_chunks)),
    Check("weights", "drawing changes nothing of the model", _of_all(_check_weights)),
    Check("resume", "killed and resumed, it ends with the same artifact", _of_all(_check_resume)),
    Check("protocol", "JSON that changes with what is drawn", _of_all(_check_protocol)),
    Check("cost", "no item takes more evaluations than it says", _of_all(_check_cost)),
    Check("preview", "images in [0, 1], or points in the plane", _of_all(_check_preview)),
)


def check_task(cls: type[Task], options: Mapping[str, Any] | None = None) -> None:
    """What a task must keep on the toy models: unconditional, class-conditional, text-to-image.

    ``draw`` gives tensors of ``count`` items that depend on the seed and on their positions: not
    on torch's global generator, not on the chunks in which they are drawn. A killed run resumes to
    the same artifact. Drawing changes no weight. ``--samples`` makes it shorter. The protocol is
    JSON, stays the same, does not hold ``batch_size``, and changes with every option that changes
    what is drawn; pictures are [0, 1] images; no item costs more than ``cost`` says.

    Args:
        cls: The task.
        options: Its options; those that make it small are filled in where it has them.
    """
    require(TASK_CHECKS, TaskCase(cls, options))
