"""Trackers that are switched on by name, in whatever process a run happens."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgm_bench.api import Tracker
from msgm_bench.errors import MsgmBenchError
from msgm_bench.hookspecs import hookimpl
from msgm_bench.quarantine import errors_of, with_owner
from msgm_bench.registry import registry

log = logging.getLogger(__name__)

Choice = tuple[str, Mapping[str, Any]]
"""Name and options of a tracker; picklable, so that a worker can make its own."""


def check_trackers(choices: Sequence[Choice]) -> None:
    """Refuse trackers that cannot work, before anything runs.

    Raises:
        UsageError: There is no such tracker, it has no such option, or an extra is not installed.
        StorageError: A file cannot be written.
        PluginError: Two plugins have a tracker of one name, or it cannot be made.
    """
    for name, options in choices:
        _create(name, options)


@contextlib.contextmanager
def active_trackers(choices: Sequence[Choice]) -> Iterator[None]:
    """Register trackers for the life-cycle hooks of this process inside the block.

    A tracker that fails is a warning: the run is worth more than its log.
    """
    manager = registry().manager
    with contextlib.ExitStack() as stack:
        for name, options in choices:
            tracker, guard = _create(name, options), _Guard()
            registry().listen(tracker, f"tracker {name!r}", guard.wrap)
            stack.callback(manager.unregister, tracker)
            manager.register(guard)
            stack.callback(manager.unregister, guard)
        try:
            yield
        except BaseException:
            manager.hook.job_ended(stopped=True)
            raise
        manager.hook.job_ended(stopped=False)


def _create(name: str, options: Mapping[str, Any]) -> Tracker:
    """A tracker, made with its options."""
    with errors_of(f"tracker {name!r}"):
        tracker: Tracker = registry().create("trackers", name, options)
    return tracker


class _Guard:
    """Lets a tracker fail alone: it hears nothing after that until the next run starts.

    A server that is gone would hold up every step.
    """

    def __init__(self) -> None:
        self.is_lost = False

    @hookimpl(tryfirst=True)
    def run_started(self) -> None:
        """Try the tracker again."""
        self.is_lost = False

    def wrap(self, hook: Callable[..., Any], owner: str) -> Callable[..., Any]:
        """``hook``, whose failure is a warning that names ``owner``."""
        owned = with_owner(hook, owner)

        @functools.wraps(hook)
        def call(*arguments: Any) -> None:
            if self.is_lost:
                return
            try:
                owned(*arguments)
            except MsgmBenchError as error:
                self.is_lost = True
                log.warning("%s\nthis tracker hears nothing more of this run, which goes on", error)

        return call
