"""Life-cycle events as lines of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from msgm_bench import Options, Result, Row, Tracker, hookimpl
from msgm_builtin.trackers.append import append, check_appendable


class JsonLinesOptions(Options):
    """File and amount."""

    path: str = Field(
        "events.jsonl", min_length=1, description="file, relative to the folder of the command"
    )
    log_interval: int = Field(
        100, ge=1, description="steps between two lines of a stage; its last step has one too"
    )


class JsonLines(Tracker[JsonLinesOptions]):
    """Appends a line of JSON to a file for every event of every run.

    Each line has ``time`` (UTC), ``event`` (the hook's name), ``run`` (the run's folder) and the
    hook's arguments. Numbers that are not finite are null. Several processes may append to one
    file: a line is one write.
    """

    name = "jsonl"
    citation = "https://jsonlines.org"

    run = ""

    def __init__(self, options: JsonLinesOptions | None = None) -> None:
        super().__init__(options)
        self.path = Path(self.options.path).expanduser()
        check_appendable(self.path, self.name)

    @hookimpl
    def run_started(self, spec: Mapping[str, Any], folder: str) -> None:
        """Write the resolved request."""
        self.run = folder
        self.write("run_started", spec=spec)

    @hookimpl
    def stage_started(self, stage: str, key: str, total: int, done: int) -> None:
        """Write the number of steps, and of those that are done."""
        self.write("stage_started", stage=stage, key=key, total=total, done=done)

    @hookimpl
    def step_ended(self, stage: str, step: int, total: int, values: Mapping[str, float]) -> None:
        """Write every ``log_interval`` steps, and wherever there are values."""
        if values or step == total or step % self.options.log_interval == 0:
            self.write("step_ended", stage=stage, step=step, total=total, values=values)

    @hookimpl
    def stage_ended(self, stage: str, key: str, seconds: float, cached: bool) -> None:
        """Write the duration, and whether the stage was cached."""
        self.write("stage_ended", stage=stage, key=key, seconds=seconds, cached=cached)

    @hookimpl
    def metric_computed(self, row: Row) -> None:
        """Write the row."""
        self.write("metric_computed", row=row.model_dump(mode="json"))

    @hookimpl
    def run_ended(self, result: Result, folder: str) -> None:
        """Write the status; the result itself is in the folder."""
        self.run = folder
        self.write("run_ended", status=result.status, reason=result.reason)

    @hookimpl
    def run_failed(self, spec: Mapping[str, Any], folder: str, reason: str) -> None:
        """Write the reason."""
        self.run = folder
        self.write("run_failed", spec=spec, reason=reason)

    def write(self, event: str, **values: Any) -> None:
        """Append one line.

        Raises:
            StorageError: The file cannot be written.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = {"time": now, "event": event, "run": self.run, **json_value(values)}
        line = json.dumps(record, allow_nan=False, ensure_ascii=False, default=str) + "\n"
        append(self.path, line, self.name)


def json_value(value: Any) -> Any:
    """``value`` for JSON: numbers that are not finite are null, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): json_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@hookimpl
def register_trackers() -> Sequence[type[Tracker]]:
    """Lines of JSON."""
    return [JsonLines]
