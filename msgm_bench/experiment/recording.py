"""Samples along a training, drawn from noise that all methods and all steps share."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch

from msgm_bench.api import EvalContext, Model, Task
from msgm_bench.api.progress import ProgressCallback
from msgm_bench.cache.entry import read_record
from msgm_bench.cache.stage import Stage
from msgm_bench.evaluation.context import model_context
from msgm_bench.experiment.cache_key import task_identity
from msgm_bench.experiment.model_io import copy_model
from msgm_bench.experiment.model_stage import BASE, MODEL, ModelStage
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.training_stages import LOG, Train
from msgm_bench.ranks import current as current_ranks
from msgm_bench.storage import copy_file, read_text
from msgm_bench.storage.tensors import load_tensors, save_tensors
from msgm_bench.training import Trainer

RECORDING = "recording"
RECORD = "record "  # begins the names of these stages
STEP = "step"
FILE = "recorded-{:04d}.safetensors"


@dataclass(frozen=True, eq=False, kw_only=True)
class RecordTraining(Train):
    """Train as ``Train`` does, to the same weights, and draw samples on the way.

    A set is drawn before the first step, after each ``count``-th of the budget, and at the end,
    from a copy of the model with the averaged weights. What the training draws depends on its own
    seeds and steps alone, so that its weights are those of ``Train`` to the last bit.

    Attributes:
        count: Sets of samples beside the first.
        task: Draws a set; its artifact is small.
        context: Data and judge; the judge is not fitted.
        sample_seed: Seed of all evaluation noise.
    """

    count: int
    task: Task
    context: EvalContext
    sample_seed: int

    @classmethod
    def of(
        cls, trained: Train, count: int, task: Task, context: EvalContext, sample_seed: int
    ) -> Self:
        """The training ``trained`` with samples on the way."""
        own = {field.name: getattr(trained, field.name) for field in fields(trained)}
        return cls(**own, count=count, task=task, context=context, sample_seed=sample_seed)

    @property
    def name(self) -> str:
        """``record METHOD``."""
        return f"{RECORD}{self.training.method.name}"

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Those of the training, and what is drawn how often."""
        return {
            **super().inputs,
            "count": self.count,
            "task": task_identity(self.task),
            "sample_seed": self.sample_seed,
        }

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Train, write what ``Train`` writes, and the sets of samples; the last is the outcome's.

        Of several processes the first one draws.
        """
        super().run(work, needs, report)
        if current_ranks().rank:
            return
        base = {} if self.part_of is None else {BASE: needs[BASE]}
        model = self.load({MODEL: work, **base}, self.runtime.device)
        last = json.loads(read_text(work / LOG).splitlines()[-1])
        self._draw(model, work, self.count, int(last[STEP]))

    def observe(self, trainer: Trainer, work: Path, report: ProgressCallback) -> ProgressCallback:
        """The callback that draws; the set before the first step is drawn at once.

        A set that an earlier, killed attempt left is the same, and stays.
        """
        model = _copy(trainer)
        if not (work / FILE.format(0)).exists():
            self._draw(model, work, 0, 0)

        def on_step(done: int, total: int, values: Mapping[str, float], part: str = "", /) -> None:
            report(done, total, values, part)
            index = self.count * done // max(1, total)
            if part or index >= self.count or (work / FILE.format(index)).exists():
                return
            _load_average(model, trainer)
            self._draw(model, work, index, done)

        return on_step

    def _draw(self, model: Model, work: Path, index: int, step: int) -> None:
        """Draw a set from a model, and leave torch's generators as they are."""
        device = self.runtime.device
        context = model_context(self.context, model.eval(), self.sample_seed)
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            self.runtime.active(),
            torch.no_grad(),
        ):
            drawn = self.task.draw(context, 0, self.task.total(context))
            artifact = {name: x.cpu() for name, x in drawn.items()}
            rows = self.task.preview(context, artifact)
        tensors = {f"{i:06d}/{caption}": x for i, (caption, x) in enumerate(rows.items())}
        save_tensors(work / FILE.format(index), tensors | {STEP: torch.tensor(step)})


@dataclass(frozen=True, eq=False)
class TakeRecorded(ModelStage):
    """Take the model of a training that was recorded: the one that ``trained`` would make.

    Its key is that of ``trained``, so that all that follows is computed once, whether a training
    was recorded or not.

    Attributes:
        trained: The training, without samples on the way.
        recording: The same with them.
    """

    trained: ModelStage
    recording: RecordTraining

    @property
    def name(self) -> str:
        """The training's."""
        return self.trained.name

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """The training's."""
        return self.trained.inputs

    @cached_property
    def key(self) -> str:
        """The training's."""
        return self.trained.key

    @property
    def part_of(self) -> Stage | None:
        """The stage of the base model, where the weights hold a part of the network alone."""
        return self.trained.part_of

    @property
    def needs(self) -> Mapping[str, Stage]:
        """The recorded training."""
        return {RECORDING: self.recording}

    def seconds(self, elapsed: float, needs: Mapping[str, Path]) -> float:
        """Time of the training, samples on the way included."""
        record = read_record(needs[RECORDING])
        return elapsed if record is None else elapsed + record.seconds

    def run(self, work: Path, needs: Mapping[str, Path], report: ProgressCallback) -> None:
        """Copy weights, card, assets and log."""
        copy_model(needs[RECORDING], work)
        copy_file(needs[RECORDING] / LOG, work / LOG)


def recording_of(plan: Plan, trained: ModelStage, context: EvalContext) -> RecordTraining | None:
    """The training of a run's model with samples on the way, where its request has them."""
    task = plan.recorded_task
    if task is None or not isinstance(trained, Train):
        return None
    spec = plan.spec
    return RecordTraining.of(trained, spec.record_samples, task, context, spec.seeds["sample"])


def recorded_sets(folder: Path) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """Step and rows by caption of each set of a recorded training, in their order.

    Raises:
        StorageError: A file of the folder is damaged.
    """
    for path in sorted(folder.glob(FILE.replace("{:04d}", "*"))):
        tensors = load_tensors(path)
        step = int(tensors.pop(STEP))
        yield step, {name.partition("/")[2]: x for name, x in sorted(tensors.items())}


def _copy(trainer: Trainer) -> Model:
    """A copy of the trainer's model that shares all but what the training moves."""
    model, moving = trainer.model, set(trainer.ema.tensors)
    frozen = [p for name, p in model.network.named_parameters() if name not in moving]
    shared = [*frozen, model.process, model.codec]
    copied = copy.deepcopy(model, {id(part): part for part in shared})
    _load_average(copied, trainer)
    return copied


@torch.no_grad()
def _load_average(model: Model, trainer: Trainer) -> None:
    """Copy the averaged weights, or the present ones where there is no average."""
    average, own = trainer.ema.tensors, model.network.state_dict()
    present = trainer.model.network.state_dict()
    for name in average:
        own[name].copy_(average[name] if trainer.budget.ema_decay else present[name])
