"""Runs at an MLflow server, or in a database or folder of it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from msgm_bench import Options, Tracker, hookimpl
from msgm_builtin.extra import check_installed, require
from msgm_builtin.trackers.service import ServiceTracker
from msgm_builtin.trackers.values import plain

PARAMETER_LETTERS = 500  # as many as every version takes
STATES = {"ok": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MlflowOptions(Options):
    """Where runs go."""

    uri: str | None = Field(
        None,
        min_length=1,
        description="server (http://HOST:5000) or database (sqlite:///mlflow.db); "
        "by default MLflow's own choice, which MLFLOW_TRACKING_URI changes",
    )
    experiment: str = Field("msgm-bench", min_length=1, description="experiment of the runs")


class Mlflow(ServiceTracker[MlflowOptions]):
    """Logs runs at an MLflow server.

    Scalars are metrics over the steps of their stage; values of the result, with the ends of their
    intervals, are metrics, too. Options are parameters, ``method.``, ``backbone.``, ``dataset.``
    and ``training.`` before their names.
    """

    name = "mlflow"
    citation = "https://mlflow.org/docs/latest/ml/tracking"

    def __init__(self, options: MlflowOptions | None = None) -> None:
        super().__init__(options)
        check_installed("mlflow", "tracker", self.name)
        self.client: Any = None
        self.id = ""

    def begin(self, id: str, title: str) -> str:
        """Create a run, or go on with one."""
        mlflow = require("mlflow", "tracker", self.name)
        if self.client is None:
            self.client = mlflow.MlflowClient(self.options.uri)
        if id and self._exists(mlflow, id):
            self.client.update_run(id, status="RUNNING")
            self.id = id
            return id
        tags = {"folder": self.folder, "mlflow.source.name": "msgm-bench"}
        self.id = str(
            self.client.create_run(self._experiment(mlflow), run_name=title, tags=tags).info.run_id
        )
        for name, value in parameters(self.spec).items():
            self.client.log_param(self.id, name, value)
        return self.id

    def _exists(self, mlflow: Any, id: str) -> bool:
        """Whether nobody has deleted a run."""
        try:
            return bool(self.client.get_run(id).info.lifecycle_stage == "active")
        except mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def _experiment(self, mlflow: Any) -> str:
        """The id of the experiment, which is created where there is none."""
        name = self.options.experiment
        with contextlib.suppress(mlflow.MlflowException):  # another worker's is there by now
            if self.client.get_experiment_by_name(name) is None:
                self.client.create_experiment(name)
        return str(self.client.get_experiment_by_name(name).experiment_id)

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Log a batch of metrics."""
        self._log({f"{stage}/{name}": value for name, value in values.items()}, step)

    def log_result(self, values: Mapping[str, float], facts: Mapping[str, str]) -> None:
        """Log the values as metrics, facts as tags."""
        self._log(values, 0)
        for name, text in facts.items():
            self.client.set_tag(self.id, name, text)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        entities = require("mlflow.entities", "tracker", self.name)
        now = int(time.time() * 1000)
        metrics = [entities.Metric(name, value, now, step) for name, value in values.items()]
        for start in range(0, len(metrics), 500):  # a request takes at most 1000
            self.client.log_batch(self.id, metrics=metrics[start : start + 500])

    def end(self, status: str) -> None:
        """Close the run."""
        self.client.set_terminated(self.id, STATES[status])


def parameters(spec: Mapping[str, Any]) -> dict[str, str]:
    """The request as flat texts: dataset, method, ..., and each option of theirs."""
    groups = {
        "method": spec.get("params"),
        "backbone": spec.get("backbone_params"),
        "dataset": spec.get("dataset_params"),
        "training": spec.get("settings", {}).get("training"),
    }
    plain_names = ("dataset", "forget", "backbone", "method", "regime", "preset", "seed", "base")
    values = {name: spec[name] for name in plain_names if spec.get(name) is not None}
    for group, options in groups.items():
        values |= {f"{group}.{name}": value for name, value in (options or {}).items()}
    texts = {k: v if isinstance(v, str) else json.dumps(v, default=str) for k, v in values.items()}
    return {plain(name): text[:PARAMETER_LETTERS] for name, text in texts.items()}


@hookimpl
def register_trackers() -> Sequence[type[Tracker]]:
    """MLflow."""
    return [Mlflow]
