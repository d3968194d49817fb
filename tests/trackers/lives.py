"""Lives of runs for trackers, told through the hooks as a process tells them."""

from __future__ import annotations

import contextlib
import json

import pluggy

from msgm_bench import hookspecs
from msgm_bench.api import Result, Row, SpecRecord

SPEC = SpecRecord(
    dataset="toy",
    forget=["3", "7"],
    backbone="vesde",
    method="obt",
    params={"weight": 0.5, "layers": ["a", "b"]},
    regime="finetune",
    preset="quick",
    seed=1,
    settings={"training": {"steps": 20, "learning_rate": 1e-3}},
)
PROTOCOLS = {name: {"hash": "00", "settings": {}} for name in ("ur@1", "nll@1", "elbo@1")}
ROWS = [
    {"task": "generation", "metric": "ur", "split": "samples", "protocol": "ur@1", "value": 12.5,
     "unit": "%", "n": 200, "low": 9.25, "high": 16.0, "direction": "down"},
    {"task": "likelihood", "metric": "nll", "split": "retain", "protocol": "nll@1", "value": -1.75,
     "unit": "nats", "n": 100, "direction": "down", "reason": "no interval"},
    {"task": "likelihood", "metric": "nll", "split": "retain", "protocol": "elbo@1", "value": 2.0,
     "unit": "nats", "n": 100, "direction": "down", "reason": "no interval"},
    {"task": "likelihood", "metric": "nll", "split": "forget", "protocol": "nll@1", "value": None,
     "unit": "nats", "n": 0, "direction": "up", "reason": "nothing to measure"},
]  # fmt: skip
RESULT = Result(status="ok", spec=SPEC, metrics=[Row(**row) for row in ROWS], protocols=PROTOCOLS)
VALUES = {
    "generation/ur/samples": 12.5,
    "generation/ur/samples.low": 9.25,
    "generation/ur/samples.high": 16.0,
    "likelihood/nll/retain/nll_1": -1.75,
    "likelihood/nll/retain/elbo_1": 2.0,
}
"""What services have of ``RESULT``."""


def loss(step):
    """The loss of a step."""
    return 1.0 / step


class Life:
    """A process in which a tracker hears of a run.

    Args:
        tracker: The tracker, made anew as each process does.
        folder: The run folder.
    """

    def __init__(self, tracker, folder):
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        manager.register(tracker)
        self.hook, self.folder = manager.hook, str(folder)
        self.hook.run_started(spec=SPEC.model_dump(), folder=self.folder)

    def train(self, first, last, key="a1", stage="train obt"):
        """Train from the step behind ``first`` to ``last``; every second step has values."""
        self.hook.stage_started(stage=stage, key=key, total=20, done=first)
        for step in range(first + 1, last + 1):
            values = {"loss": loss(step), "gradient norm": 2.0 * step} if step % 2 == 0 else {}
            self.hook.step_ended(stage=stage, step=step, total=20, values=values)
        return self

    def end(self):
        """End the run, and the process."""
        self.hook.run_ended(result=RESULT, folder=self.folder)
        return self.leave()

    def fail(self, reason="diverged"):
        """Fail the run, and end the process."""
        self.hook.run_failed(spec=SPEC.model_dump(), folder=self.folder, reason=reason)
        return self.leave()

    def leave(self, stopped=False):
        """End the process."""
        self.hook.job_ended(stopped=stopped)
        return self


def curve(first, last):
    """The losses that a training has logged, by step."""
    return {step: loss(step) for step in range(first + 1, last + 1) if step % 2 == 0}


def jsonl_curves(path):
    """Losses by stage and step, as the tracker jsonl has them."""
    curves = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text("utf-8").splitlines():
            event = json.loads(line)
            if event["event"] == "step_ended" and "loss" in event["values"]:
                steps = curves.setdefault(event["stage"], {})
                steps[event["step"]] = event["values"]["loss"]
    return curves


def jsonl_rows(path):
    """Measured values by task, metric and split, as the tracker jsonl has them."""
    rows = {}
    for line in path.read_text("utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "metric_computed" and event["row"]["value"] is not None:
            row = event["row"]
            rows["/".join((row["task"], row["metric"], row["split"]))] = row["value"]
    return rows
