"""A third-party plugin, copied into a distribution of its own and never imported from here.

Registers a dataset, three methods and a metric, listens to every life-cycle hook, and does as its
environment says:

    PROBE_LOG         file to which each event is appended, one JSON list a line
    PROBE_KILL        ``SIGNAL|stage|step``: send SIGNAL to this process there; the step
                         ``end`` is the moment when the stage has ended
    PROBE_SLOW        seconds that every step takes longer
    PROBE_CHECKPOINT  seconds between two checkpoints
"""

from __future__ import annotations

import json
import os
import signal
import time

import torch
from pydantic import Field

from msgm_bench import (
    Data,
    Dataset,
    DivergenceError,
    Examples,
    LossMethod,
    Method,
    Metric,
    MetricProtocol,
    Options,
    Row,
    dsm_loss,
    hookimpl,
)
from msgm_bench.training import trainer

if "PROBE_CHECKPOINT" in os.environ:
    trainer.CHECKPOINT_SECONDS = float(os.environ["PROBE_CHECKPOINT"])


class Pair(Dataset):
    """Two clouds in the plane."""

    name = "pair"
    default_preset = "quick"
    presets = {
        "quick": {
            "training": {"steps": 10, "batch_size": 32},
            "backbone": {"network": "mlp", "width": 16, "depth": 1},
            "judge": {"name": "nearest"},
            "tasks": {"likelihood": {"divergence": "exact"}},
        }
    }

    def load(self) -> Data:
        """Draw."""
        y = torch.arange(200) % 2
        x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) + 4.0 * y[:, None]
        half = Examples(x[:100], y[:100]), Examples(x[100:], y[100:])
        return Data(*half, classes=("near", "far"), protocol="pair@1")


class SteadyOptions(Options):
    """One option."""

    weight: float = Field(1.0, gt=0, le=10, description="factor of the loss")


class Steady(LossMethod[SteadyOptions]):
    """Denoising score matching on what is kept, in both regimes."""

    name = "steady"
    regimes = ("retrain", "finetune")
    needs = frozenset({"retain"})

    def loss(self, model, batches, step):
        """The loss, times the weight."""
        return self.options.weight * dsm_loss(model, batches.retain)


class ExplosiveOptions(Options):
    """When."""

    at: int = Field(5, ge=0, description="step of the explosion")


class Explosive(LossMethod[ExplosiveOptions]):
    """As steady, until its loss is not a number any more."""

    name = "explosive"
    regimes = ("retrain", "finetune")
    needs = frozenset({"retain"})

    def loss(self, model, batches, step):
        """The loss, or NaN."""
        loss = dsm_loss(model, batches.retain)
        return loss * float("nan") if step == self.options.at else loss


class PickyOptions(Options):
    """What goes wrong."""

    fault: str = Field("skip", description="skip, trespass, stop or crash")


class Picky(LossMethod[PickyOptions]):
    """Refuses VE models, trespasses on the forget data, or stops, as it is told."""

    name = "picky"
    regimes = ("retrain", "finetune")
    needs = frozenset({"retain"})

    def skip(self, model, regime):
        """A reason, where it is told to have one."""
        return "it does not like this model" if self.options.fault == "skip" else None

    def loss(self, model, batches, step):
        """The loss."""
        return dsm_loss(model, batches.retain)

    def update(self, session, step):
        """Go wrong."""
        if self.options.fault == "trespass":
            session.batch("forget", step)
        if self.options.fault == "stop":
            raise DivergenceError("this leads nowhere")
        if self.options.fault == "crash":
            raise ZeroDivisionError("a plugin's mistake")
        return super().update(session, step)


class Spread(Metric):
    """Standard deviation of the samples."""

    name = "spread"
    task = "generation"
    tasks = ("generation",)

    def protocol(self, context, task):
        """The sampler."""
        return MetricProtocol(name="spread", settings=task.protocol(context))

    def measure(self, context, task, artifact):
        """One row."""
        x = artifact["x"]
        return [
            Row(
                task=task.name,
                metric=self.name,
                split="samples",
                protocol=self.protocol(context, task).id,
                value=float(x.std()) if x.isfinite().all() else None,
                reason=None if x.isfinite().all() else "not all samples are finite",
                unit="1",
                n=len(x),
            )
        ]


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """Pair."""
    return [Pair]


@hookimpl
def register_methods() -> list[type[Method]]:
    """Three."""
    return [Steady, Explosive, Picky]


@hookimpl
def register_metrics() -> list[type[Metric]]:
    """Spread."""
    return [Spread]


def _tell(*event) -> None:
    if "PROBE_LOG" in os.environ:
        with open(os.environ["PROBE_LOG"], "a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def _maybe_kill(stage: str, step: int | str) -> None:
    name, where, when = os.environ.get("PROBE_KILL", "||").split("|")
    if (where, when) == (stage, str(step)):
        os.kill(os.getpid(), getattr(signal, name))


@hookimpl
def run_started(spec, folder):
    """Told."""
    _tell("run_started", spec["method"])


@hookimpl
def stage_started(stage, total):
    """Told."""
    _tell("stage_started", stage, total)


@hookimpl
def step_ended(stage, step, total, values):
    """Told, slowed down, killed."""
    _tell("step_ended", stage, step)
    time.sleep(float(os.environ.get("PROBE_SLOW", "0")))
    _maybe_kill(stage, step)


@hookimpl
def stage_ended(stage, cached):
    """Told, killed."""
    _tell("stage_ended", stage, cached)
    _maybe_kill(stage, "end")


@hookimpl
def metric_computed(row):
    """Told."""
    _tell("metric_computed", row.metric)


@hookimpl
def run_ended(result):
    """Told."""
    _tell("run_ended", result.status)


@hookimpl
def run_failed(reason):
    """Told."""
    _tell("run_failed", reason)
