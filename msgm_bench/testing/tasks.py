"""What a task keeps: artifacts that depend on the seed and the items, and on nothing else."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from msgm_bench.api import Artifact, ModelContext, Task
from msgm_bench.errors import UsageError
from msgm_bench.evaluation.artifacts import ARTIFACT, draw_artifact
from msgm_bench.testing.plugins import check_plugin, variations
from msgm_bench.testing.toys import SEED, toy_images, toy_model, toy_subject

SMALL = 6  # items of a split, and evaluations a sample
CHUNK = 4
ROUNDING = 1e-2
"""How far chunks of other sizes may change an item: float32 sums, and adaptive solvers."""


class _Killed(Exception):  # noqa: N818 - not an error but an event
    """Stands for a kill between two chunks."""


def check_task(cls: type[Task], options: Mapping[str, Any] | None = None) -> None:
    """What a task must keep on the toy model, unconditional and class-conditional in turn.

    ``draw`` gives tensors of ``count`` items that depend on the seed and on their positions: not
    on torch's global generator, not on the chunks in which they are drawn. A killed run resumes to
    the same artifact. Drawing changes no weight. ``--samples`` makes it shorter. The protocol is
    JSON, stays the same, does not hold ``batch_size``, and changes with every option that changes
    what is drawn; pictures are [0, 1] images; no item costs more than ``cost`` says.

    Args:
        cls: The task.
        options: Its options; those that make it small are filled in where it has them.
    """
    check_plugin(cls)
    tried = 0
    for classes in (None, 3):
        context = small_subject(classes)
        task = small(cls, options)
        if task.skip(context.model) is not None:
            continue
        tried += 1
        task = task.with_model_defaults(context.model)
        task.check(context.model)
        task.check_data(context.data, context.targets)
        _check(f"{cls.name}{' (class-conditional)' if classes else ''}", task, context)
    assert tried, f"{cls.name}: skips unconditional and class-conditional models alike"


def small(cls: type[Task], options: Mapping[str, Any] | None = None) -> Task:
    """The task with few items and few evaluations, unless ``options`` say otherwise."""
    limits = {"batch_size": CHUNK, "nfe": 4 * SMALL, "rtol": 1e-2, "atol": 1e-2}
    known = {key: value for key, value in limits.items() if key in cls.options_type.model_fields}
    task = cls.create(known | dict(options or {}))
    return cls.create(known | task.options.limit_samples(SMALL) | dict(options or {}))


def small_subject(classes: int | None, count: int = 96) -> ModelContext:
    """A toy model under evaluation on ``count`` images of 8x8, a quarter of them held out."""
    data = toy_images(count, size=8)
    torch.manual_seed(SEED)
    return toy_subject(classes, data=data, model=toy_model(classes, data).requires_grad_(False))


def _check(label: str, task: Task, context: ModelContext) -> None:
    before = {name: value.clone() for name, value in context.model.state_dict().items()}
    artifact = _check_draw(label, task, context)
    _check_resume(label, task, context)
    after = context.model.state_dict()
    still = all(torch.equal(before[name], after[name]) for name in before)
    assert still, f"{label}: drawing changes the model's weights"
    assert not context.model.training, f"{label}: drawing leaves the model in training mode"
    _check_protocol(label, task, context, artifact)
    _check_cost(label, task, context, artifact)
    _check_pictures(label, task, context, artifact)


def _check_draw(label: str, task: Task, context: ModelContext) -> Artifact:
    total = task.total(context)
    assert isinstance(total, int), f"{label}: total is {total!r}, not a positive number"
    assert total > 0, f"{label}: total is {total}, not a positive number"
    limit_samples = task.options.limit_samples(SMALL // 2)
    if limit_samples:
        shorter = type(task)(task.options.model_copy(update=limit_samples)).total(context)
        assert shorter < total, f"{label}: --samples does not make it shorter"
    torch.manual_seed(0)
    whole = task.draw(context, 0, total)
    for name, values in whole.items():
        counted = values.ndim > 0 and len(values) == total
        assert counted, f"{label}: {name!r} of {total} items has shape {tuple(values.shape)}"
        assert not values.requires_grad, f"{label}: {name!r} carries a graph"
        nan = values.is_floating_point() and bool(torch.isnan(values).any())
        assert not nan, f"{label}: {name!r} of a sound model is not a number"
    torch.manual_seed(1)
    again = task.draw(context, 0, total)
    same = all(torch.equal(again[name], whole[name]) for name in whole)
    assert same, f"{label}: drawn again, the items are others: all noise comes from subject.seed"
    split = [task.draw(context, start, min(5, total - start)) for start in range(0, total, 5)]
    for name, values in whole.items():
        joined = torch.cat([part[name] for part in split])
        assert _alike(joined, values) or name == "nfe", (
            f"{label}: {name!r} of an item depends on the chunk in which it is drawn"
        )
    other = task.draw(replace(context, seed=context.seed + 1), 0, total)
    if task.uses().get("samplers"):
        varied = any(not _alike(other[name], whole[name]) for name in whole)
        assert varied, f"{label}: another seed draws the same items"
    return whole


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(
        a.double(), b.double(), rtol=ROUNDING, atol=ROUNDING
    )


def _check_resume(label: str, task: Task, context: ModelContext) -> None:
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
        a, b = (load_file(Path(place) / ARTIFACT) for place in (first, second))
    same = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert same, f"{label}: killed and resumed, it ends with another artifact"


def _check_protocol(label: str, task: Task, context: ModelContext, artifact: Artifact) -> None:
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


def _check_cost(label: str, task: Task, context: ModelContext, artifact: Artifact) -> None:
    cost = task.cost(context.model)
    if cost is None or "nfe" not in artifact or cost.assumed:
        return
    spent = int(artifact["nfe"].max())
    assert spent <= cost.nfe, f"{label}: an item took {spent} evaluations, its cost says {cost.nfe}"


def _check_pictures(label: str, task: Task, context: ModelContext, artifact: Artifact) -> None:
    for caption, images in task.preview(context, artifact).items():
        if images.ndim == 2 and images.shape[1] == 2:
            continue  # points
        assert images.ndim == 4, f"{label}: picture {caption!r} has shape {tuple(images.shape)}"
        inside = bool(((images >= 0) & (images <= 1)).all())
        assert inside, f"{label}: picture {caption!r} leaves [0, 1]"
