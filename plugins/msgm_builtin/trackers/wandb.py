"""Runs at Weights & Biases."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from msgm_bench import Options, Tracker, UsageError, hookimpl
from msgm_builtin.extra import require
from msgm_builtin.trackers.service import ServiceTracker

log = logging.getLogger(__name__)


class WandbOptions(Options):
    """Where runs go."""

    project: str = Field("msgm-bench", min_length=1, description="project of the runs")
    entity: str | None = Field(None, description="user or team; by default that of the login")
    group: str | None = Field(None, description="group of the runs; by default the dataset")
    mode: Literal["online", "offline"] | None = Field(
        None,
        description="offline: write to the folder alone, for `wandb sync`; "
        "by default what WANDB_MODE says, else online",
    )
    dir: str = Field(
        ".", min_length=1, description="folder of the folder wandb, relative to the command's"
    )
    finish_timeout: float = Field(
        120.0,
        gt=0,
        exclude=True,
        description="seconds to wait for the upload at the end; the rest stays on disk",
    )


class Wandb(ServiceTracker[WandbOptions]):
    """Logs runs at Weights & Biases.

    Each stage has its own steps, ``STAGE/step``. The request is the run's configuration; the
    values of the result, with the ends of their intervals, are its summary.
    """

    name = "wandb"
    citation = "https://docs.wandb.ai"

    def __init__(self, options: WandbOptions | None = None) -> None:
        super().__init__(options)
        self.wandb = require("wandb", "tracker", self.name)
        self.run: Any = None
        self.mode = self.options.mode or os.environ.get("WANDB_MODE", "online")
        if self.mode == "online" and not self.wandb.login(prompt=False, verify=False):
            raise UsageError(
                "the tracker 'wandb' has no login for Weights & Biases",
                hint="`wandb login`, or WANDB_API_KEY, or -x wandb.mode=offline",
            )

    def place(self) -> Any:
        """Its options, and whether it is online."""
        return [super().place(), self.mode]

    def begin(self, id: str, title: str) -> str:
        """Open or resume a run, beside others of this process."""
        options = self.options
        folder = Path(options.dir).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        self.run = self.wandb.init(
            id=id or secrets.token_hex(4),
            name=title,
            project=options.project,
            entity=options.entity,
            group=options.group or self.spec.get("dataset"),
            job_type=self.spec.get("method"),
            config={"spec": dict(self.spec), "folder": self.folder},
            mode=self.mode,
            dir=str(folder),
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",
            settings=self.wandb.Settings(
                silent=True, console="off", finish_timeout=options.finish_timeout
            ),
        )
        self.stages: set[str] = set()
        log.info("wandb run %s: %s", self.run.id, self.run.url or self.run.dir)
        return str(self.run.id)

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Log over the stage's own steps."""
        if stage not in self.stages:
            self.stages.add(stage)
            self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        row = {f"{stage}/{name}": value for name, value in values.items()}
        self.run.log(row | {f"{stage}/step": step})

    def log_result(self, values: Mapping[str, float], facts: Mapping[str, str]) -> None:
        """Update the summary."""
        self.run.summary.update({**values, **facts})

    def end(self, status: str) -> None:
        """Upload what is left, for a limited time."""
        run, self.run = self.run, None
        run.finish(exit_code=0 if status == "ok" else 1)


@hookimpl
def register_trackers() -> Sequence[type[Tracker]]:
    """Weights & Biases."""
    return [Wandb]
