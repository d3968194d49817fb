"""A third-party plugin, copied into a distribution of its own and never imported from here.

A task that looks at base, judge and control and trains copies of the model, and its metric.
KILL_COPY is the number of the step of a copy's training at which this process is killed.
"""

from __future__ import annotations

import itertools
import os
import signal

import torch
from pydantic import Field

from msgm_bench import (
    Metric,
    MetricProtocol,
    Noise,
    Row,
    Task,
    TaskOptions,
    Training,
    derive_seed,
    dsm_loss,
    hookimpl,
)
from msgm_bench.training import trainer

if "KILL_COPY" in os.environ:
    trainer.CHECKPOINT_SECONDS = -1.0  # a checkpoint after every step

STEPS = itertools.count()  # of all copies


class ProbedOptions(TaskOptions):
    """Sizes."""

    batch_size: int = Field(1, ge=1, description="units a chunk")
    units: int = Field(2, ge=1, description="copies that are trained")
    steps: int = Field(4, ge=1, description="steps of a copy")


class Probed(Task[ProbedOptions]):
    """Weights of two trained copies a unit, and what base, model and judge say of one batch."""

    name = "probed"
    needs_base = True
    needs_judge = True
    trains = True
    has_control = True

    def total(self, context):
        """Units."""
        return self.options.units

    def draw(self, context, start, count):
        """Unit by unit."""
        parts = [self.unit(context, i) for i in range(start, start + count)]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    def unit(self, context, i):
        """Two copies, one after the other."""
        noise = Noise(derive_seed(context.seed, self.name), i, 1, context.device)
        x, t = noise.normal((2,)), noise.uniform(())
        with torch.no_grad():
            values = {
                "base": context.base.eps(x, t)[0],
                "model": context.model.eps(x, t)[0],
                "judge": context.judge.predict(context.forget.x[:8]).classes,
            }
        for copy in range(2):
            trained = self.train(context, derive_seed(context.seed, self.name, i, copy))
            with torch.no_grad():
                values[f"copy{copy}"] = trained.eps(x, t)[0]
        return values

    def train(self, context, seed):
        """A copy."""

        def loss(model, batch):
            if next(STEPS) == int(os.environ.get("KILL_COPY", "-1")):
                os.kill(os.getpid(), signal.SIGKILL)
            return dsm_loss(model, batch)

        budget = Training(steps=self.options.steps, batch_size=8, ema_decay=0.0)
        return context.trainer(loss, context.forget, budget, seed)


class Distance(Metric):
    """Distances between what the model and its references say."""

    name = "distance"
    tasks = ("probed",)

    def protocol(self, context, task):
        """The task's options."""
        return MetricProtocol(name="distance", settings=task.protocol(context))

    def measure(self, context, task, artifact):
        """Distance to the base, to the control, and between the copies and the model."""
        pairs = {
            "to_base": (artifact["model"], artifact["base"]),
            "to_control": (artifact["model"], context.control.get("model")),
            "bases": (artifact["base"], context.control.get("base")),
            "copied": (artifact["copy0"], artifact["model"]),
            "copies": (artifact["copy0"], artifact["copy1"]),
        }
        return [self.row(context, task, name, *pair) for name, pair in pairs.items()]

    def row(self, context, task, name, a, b):
        """One row."""
        return Row(
            task=task.name,
            metric=name,
            split="samples",
            protocol=self.protocol(context, task).id,
            value=None if b is None else float((a - b).abs().max()),
            reason="no control" if b is None else None,
            unit="1",
            n=len(a),
            direction="up",
        )


@hookimpl
def register_tasks() -> list[type[Task]]:
    """Probed."""
    return [Probed]


@hookimpl
def register_metrics() -> list[type[Metric]]:
    """Distance."""
    return [Distance]
