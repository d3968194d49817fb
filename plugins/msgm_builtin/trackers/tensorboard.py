"""Event files of TensorBoard."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from msgm_bench import Options, Result, Tracker, hookimpl
from msgm_builtin.extra import check_installed
from msgm_builtin.trackers.append import check_appendable
from msgm_builtin.trackers.values import finite, plain, result_values


class TensorboardOptions(Options):
    """The folder."""

    logdir: str = Field(
        "tensorboard", min_length=1, description="folder, relative to the command's"
    )


class Tensorboard(Tracker[TensorboardOptions]):
    """Writes event files of TensorBoard: a folder for each run, and one in it for each stage.

    Values of the result, with the ends of their intervals, are scalars of the run's own folder at
    step 0, and its request is a text. What a resumed run logs takes the place of later steps in
    older files.
    """

    name = "tensorboard"
    citation = "https://www.tensorflow.org/tensorboard"

    def __init__(self, options: TensorboardOptions | None = None) -> None:
        super().__init__(options)
        check_installed("tensorboard", "tracker", self.name)
        self.logdir = Path(self.options.logdir).expanduser()
        check_appendable(self.logdir / "events", self.name, "logdir")
        self.run = self.logdir
        self.first: dict[str, int] = {}
        self.writers: dict[str, Any] = {}
        self.open = contextlib.ExitStack()

    @hookimpl
    def run_started(self, spec: Mapping[str, Any], folder: str) -> None:
        """Leave the run before."""
        self._leave()
        self.run = self.logdir / Path(folder).name

    @hookimpl
    def stage_started(self, stage: str) -> None:
        """Begin anew behind what is done of the stage."""
        self._leave()

    @hookimpl
    def step_ended(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Write the scalars, if any."""
        name = plain(stage).replace("/", "_")
        self.first.setdefault(name, step)
        if numbers := finite(values):
            self._write(name, step, numbers)

    @hookimpl
    def run_ended(self, result: Result, folder: str) -> None:
        """Write the values and the request."""
        self.run = self.logdir / Path(folder).name
        self._leave()
        self._write("", 0, result_values(result))
        text = json.dumps(result.spec.model_dump(mode="json"), indent=4)
        self._writer("").add_text("spec", "    " + text.replace("\n", "\n    "), 0)
        self._leave()

    @hookimpl
    def run_failed(self) -> None:
        """Close the files."""
        self._leave()

    @hookimpl
    def job_ended(self) -> None:
        """Close the files."""
        self._leave()

    def _write(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        writer = self._writer(stage)
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def _writer(self, stage: str) -> Any:
        """The open file of a stage, whose steps supersede those of older files from here on."""
        from torch.utils.tensorboard import SummaryWriter

        if stage not in self.writers:
            first = self.first.get(stage, 0)
            writer = SummaryWriter(str(self.run / stage), purge_step=first)
            self.open.callback(writer.close)
            self.writers[stage] = writer
        return self.writers[stage]

    def _leave(self) -> None:
        """Close all files."""
        self.first, self.writers = {}, {}
        self.open.close()


@hookimpl
def register_trackers() -> Sequence[type[Tracker]]:
    """TensorBoard."""
    return [Tensorboard]
