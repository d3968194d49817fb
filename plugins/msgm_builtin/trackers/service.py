"""Trackers of services that have runs of their own."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgm_bench import OptionsT, Result, Tracker, digest, hookimpl
from msgm_builtin.trackers.ledger import Ledger
from msgm_builtin.trackers.values import finite, plain, result_values


class ServiceTracker(Tracker[OptionsT], ABC):
    """Logs each run as one at a service, which goes on when the run resumes.

    A run at the service is opened when there is something to log. A stage that is trained again
    by other code or options begins another one. Scalars are ``STAGE/NAME`` over the stage's own
    steps, values of the result ``TASK/METRIC/SPLIT``.
    """

    def __init__(self, options: OptionsT | None = None) -> None:
        super().__init__(options)
        self.spec: Mapping[str, Any] = {}
        self.folder, self.key = "", ""
        self.ledger: Ledger | None = None

    def place(self) -> Any:
        """What tells the place where it logs from others: its options."""
        return self.options.model_dump(mode="json")

    @abstractmethod
    def begin(self, id: str, title: str) -> str:
        """Open the run with this id, or a new one where ``id`` is empty; its id."""

    @abstractmethod
    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Log finite scalars of a step."""

    @abstractmethod
    def log_result(self, values: Mapping[str, float], facts: Mapping[str, str]) -> None:
        """Log the values of a result, and what is text: its status and reason."""

    @abstractmethod
    def end(self, status: str) -> None:
        """Close the run that is open: it is ``ok``, ``failed`` or ``stopped``."""

    @hookimpl
    def run_started(self, spec: Mapping[str, Any], folder: str) -> None:
        """Leave the run before, if its process said no more of it."""
        self._leave("stopped")
        self.spec, self.folder, self.key = spec, folder, ""

    @hookimpl
    def stage_started(self, key: str) -> None:
        """Note the key, of the stage and of its parts."""
        self.key = key

    @hookimpl
    def step_ended(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Log the scalars, if any, of a step that is not logged."""
        numbers, name = finite(values), plain(stage)
        if not numbers:
            return
        with self._forgetful():
            ledger = self._open(name)
            if not ledger.has(name, step):
                self.log(name, step, numbers)
                ledger.add(name, self.key, step)

    @hookimpl
    def run_ended(self, result: Result, folder: str) -> None:
        """Log the values, and close."""
        facts = {"status": result.status, "reason": result.reason or "", "digest": result.digest}
        self._end(result.spec.model_dump(), folder, result_values(result), facts)

    @hookimpl
    def run_failed(self, spec: Mapping[str, Any], folder: str, reason: str) -> None:
        """Log the reason, and close."""
        self._end(spec, folder, {}, {"status": "failed", "reason": reason})

    @hookimpl
    def job_ended(self, stopped: bool) -> None:
        """Close what is open: the run goes on in another job or command."""
        self._leave("stopped" if stopped else "ok")

    def _end(
        self,
        spec: Mapping[str, Any],
        folder: str,
        values: Mapping[str, float],
        facts: Mapping[str, str],
    ) -> None:
        if folder != self.folder:
            self.run_started(spec, folder)
        with self._forgetful():
            self._open()
            self.log_result(values, facts)
        self._leave("failed" if facts["status"] == "failed" else "ok")

    def _open(self, stage: str = "") -> Ledger:
        """The ledger of the open run, which is another one for another training of ``stage``."""
        ledger = self.ledger
        if ledger is not None and ledger.is_other(stage, self.key):
            self._leave("stopped")
            ledger = None
        if ledger is None:
            ledger = Ledger(self.name, digest(self.place())[:8], self.folder)
            try:
                self._begin(ledger, stage)
            except BaseException:
                ledger.close()
                raise
        self.ledger = ledger
        return ledger

    def _begin(self, ledger: Ledger, stage: str) -> None:
        """Open the run of a ledger, or a new one."""
        number = f" ({ledger.number + 1})" if ledger.number else ""
        known = "" if ledger.is_other(stage, self.key) else ledger.id
        id = self.begin(known, Path(self.folder).name + number)
        if id != known:
            ledger.begin(id)

    @contextlib.contextmanager
    def _forgetful(self) -> Iterator[None]:
        """A block whose failure leaves no run open: the next one has a service that may work."""
        try:
            yield
        except BaseException:
            ledger, self.ledger = self.ledger, None
            if ledger is not None:
                ledger.close()
            raise

    def _leave(self, status: str) -> None:
        """Close the run that is open, if any."""
        ledger, self.ledger = self.ledger, None
        if ledger is not None:
            try:
                self.end(status)
            finally:
                ledger.close()
