"""What a service has of a run, so that a resumed run goes on where its log ends."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgm_bench.storage import claim, read_text
from msgm_builtin.trackers.append import append

FOLDER = ".tracked"  # beside the run folders
MIB = 2**20


class Ledger:
    """The id of a run at a service, and the last step of each training that is logged there.

    It is a file beside the run folder, which every worker sees: lines of JSON, of which the last
    ones hold. While a process logs, it holds the ledger; another process of the same run, such as
    one that trains the judge meanwhile, has a second ledger, and so a second run at the service.

    Args:
        tracker: Name of the tracker.
        place: What tells one place where it logs from others.
        folder: The run folder.
    """

    def __init__(self, tracker: str, place: str, folder: str) -> None:
        self.tracker, self.number = tracker, 0
        self._held = contextlib.ExitStack()
        self._steps: dict[str, tuple[str, int]] = {}
        self.id = ""
        run = Path(folder)
        while not self._hold(run.parent / FOLDER, f"{run.name}.{tracker}-{place}"):
            self.number += 1
        self._read()

    def _hold(self, folder: Path, name: str) -> bool:
        """Hold the ledger with the current number, unless another process does."""
        self.path = folder / f"{name}-{self.number}.jsonl"
        lock = self.path.with_suffix(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
        held = contextlib.ExitStack()
        if not held.enter_context(claim(lock)):
            held.close()
            return False
        self._held = held
        return True

    def _read(self) -> None:
        """Read what is logged; a line that a kill cut short does not count."""
        if not self.path.exists():
            return
        for line in read_text(self.path, limit=64 * MIB).splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._note(json.loads(line))

    def _note(self, record: Mapping[str, Any]) -> None:
        if "id" in record:
            self.id, self._steps = str(record["id"]), {}
        else:
            self._steps[record["stage"]] = (record["key"], int(record["step"]))

    def begin(self, id: str) -> None:
        """Note the id of a run that has just begun at the service."""
        self._append({"id": id})

    def is_other(self, stage: str, key: str) -> bool:
        """Whether another training of the stage, by other code or options, is logged."""
        return self._steps.get(stage, (key, 0))[0] != key

    def has(self, stage: str, step: int) -> bool:
        """Whether a step of a stage is logged."""
        return step <= self._steps.get(stage, ("", 0))[1]

    def add(self, stage: str, key: str, step: int) -> None:
        """Note that a step is logged."""
        self._append({"stage": stage, "key": key, "step": step})

    def _append(self, record: Mapping[str, Any]) -> None:
        self._note(record)
        append(self.path, json.dumps(record) + "\n", self.tracker)

    def close(self) -> None:
        """Leave the ledger to other processes."""
        self._held.close()
