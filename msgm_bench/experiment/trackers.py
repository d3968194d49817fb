"""Trackers that are switched on by name, in whatever process a run happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgm_bench.api import parse_options
from msgm_bench.registry import registry

Choice = tuple[str, Mapping[str, Any]]
"""Name and options of a tracker; picklable, so that a worker can make its own."""


def check_trackers(choices: Sequence[Choice]) -> None:
    """Refuse unknown trackers and options before anything runs.

    Raises:
        UsageError: There is no such tracker, or it has no such option.
        PluginError: Two plugins have a tracker of one name.
    """
    for name, options in choices:
        parse_options(registry().entry("trackers", name).cls, options)


@contextlib.contextmanager
def active_trackers(choices: Sequence[Choice]) -> Iterator[None]:
    """Register trackers for the life-cycle hooks of this process inside the block."""
    manager = registry().manager
    with contextlib.ExitStack() as stack:
        for name, options in choices:
            tracker = registry().create("trackers", name, options)
            registry().listen(tracker, f"tracker {name!r}")
            stack.callback(manager.unregister, tracker)
        yield
