"""Readings of repeated work: wall time beside CPU time, within a limit of seconds."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from msgm_bench.errors import MsgmBenchError
from msgm_bench.estimate.records import Timing

TRIAL_ITEMS = 4  # batch of the first, small trial
REPEATS = 12  # after the first, which warms up: whole periods of steps at every 2nd, 3rd, 4th, 6th
ENOUGH_SECONDS = 0.2  # shorter repeats go on, by as many again, until they take this long


class Stop(Exception):  # noqa: N818 - not an error but an event
    """The measurement has enough repeats, or its time is up."""


@dataclass(frozen=True)
class Reading:
    """Times of one repeat.

    Attributes:
        seconds: Wall time.
        process_seconds: CPU time of all threads of this process.
        thread_seconds: CPU time of the measuring thread; wall time where it waits for a GPU.
        passes: Passes of a training step; only repeats with equal passes are alike.
    """

    seconds: float
    process_seconds: float
    thread_seconds: float
    passes: float | None = None


Repeats = Callable[[int, float], list[Reading]]
"""Readings of work on a batch of that many items, for at most that many seconds; the first repeat
warms up."""


def time_batch(repeats: Repeats, batch: int, limit: float) -> Timing:
    """Time ``repeats`` on a whole batch, or on a part of one that takes longer than ``limit``.

    Args:
        repeats: The work.
        batch: Items of a whole batch.
        limit: Seconds for all repeats: half of them for the trial with few items.
    """
    items, end = min(TRIAL_ITEMS, batch), time.monotonic() + limit
    try:
        readings = some(repeats(items, limit / 2))
        left, twice = end - time.monotonic(), 2 * summary(readings).seconds * batch / items
        more = batch if twice <= left else int(batch * left / twice)
        if more > items:
            with contextlib.suppress(Stop):  # the trial stands
                readings, items = some(repeats(more, left)), more
    except torch.OutOfMemoryError:
        return Timing(None, batch, items, f"{items} items do not fit into the device's memory")
    except MsgmBenchError as error:
        return Timing(None, batch, items, error.what)
    except Stop:
        return Timing(None, batch, items, f"not one step within {limit / 2:.2g} s")
    least, scale = summary(readings), batch / items
    return Timing(
        least.seconds * scale,
        batch,
        items,
        passes=None if least.passes is None else least.passes * scale,
        process_seconds=least.process_seconds * scale,
        share=share(least),
    )


def some(readings: list[Reading]) -> list[Reading]:
    """``readings``.

    Raises:
        Stop: There is none.
    """
    if not readings:
        raise Stop
    return readings


def summary(readings: Sequence[Reading]) -> Reading:
    """Mean over the kinds of repeats of the least of each kind; the first repeat warms up.

    Another process that takes turns with this one makes repeats longer and never shorter.
    Training steps of unequal passes are kinds of their own, as often as they are there.
    """
    timed = readings[1:] or readings
    least = {
        passes: min((r for r in timed if r.passes == passes), key=lambda r: r.seconds)
        for passes in {r.passes for r in timed}
    }
    counts, n = Counter(r.passes for r in timed), len(timed)
    mean = [
        sum(counts[passes] * times(reading)[i] for passes, reading in least.items()) / n
        for i in range(3)
    ]
    known = [r.passes for r in timed if r.passes is not None]
    seconds, process_seconds, thread_seconds = mean
    passes = sum(known) / len(known) if known else None
    return Reading(seconds, process_seconds, thread_seconds, passes)


def times(reading: Reading) -> tuple[float, float, float]:
    """Wall time, CPU time of the process, CPU time of the thread."""
    return reading.seconds, reading.process_seconds, reading.thread_seconds


def share(least: Reading) -> float:
    """Share of a core's time that the measuring thread had: 1 on a quiet machine.

    The thread waits where others take its core, and where they take that of a thread whose part
    of the work it needs.
    """
    return min(1.0, least.thread_seconds / least.seconds) if least.seconds else 1.0


class Stopwatch:
    """Readings of successive repeats, each after the device has finished its queue.

    Args:
        device: The device.
        limit: Seconds after which one repeat is enough.
    """

    def __init__(self, device: torch.device, limit: float) -> None:
        self.device, self.end = device, time.monotonic() + limit
        self.readings: list[Reading] = []
        self._last = self._now()

    def read(self, passes: float | None = None) -> None:
        """End a repeat and begin the next.

        Raises:
            Stop: There are enough repeats, or the time is up.
        """
        before, self._last = self._last, self._now()
        wall, process, thread = (b - a for a, b in zip(before, self._last, strict=True))
        self.readings.append(Reading(wall, process, thread, passes))
        if self._last[0] > self.end or has_enough(self.readings):
            raise Stop

    def restart(self) -> None:
        """Begin a repeat: what was done since the last reading does not count."""
        self._last = self._now()

    def _now(self) -> tuple[float, float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.monotonic(), time.process_time(), time.monotonic()
        return time.monotonic(), time.process_time(), time.thread_time()


def has_enough(readings: Sequence[Reading]) -> bool:
    """Whether the repeats after the first are whole periods, and take long enough together."""
    n = len(readings) - 1
    return (
        n > 0 and n % REPEATS == 0 and sum(reading.seconds for reading in readings) > ENOUGH_SECONDS
    )


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop the block at its first network evaluation after ``seconds``, a set-up of hours, say."""
    end = time.monotonic() + seconds

    def check(module: nn.Module, inputs: Any) -> None:
        if time.monotonic() > end:
            raise Stop

    handle = nn.modules.module.register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


class TimeBudget:
    """Seconds that several measurements share: each may take an equal part of what is left.

    Args:
        seconds: Seconds of all measurements.
        measurements: Their number.
    """

    def __init__(self, seconds: float, measurements: int) -> None:
        self.end, self.left = time.monotonic() + seconds, measurements

    def next(self) -> float:
        """Seconds of the next measurement."""
        part = (self.end - time.monotonic()) / self.left
        self.left -= 1
        return max(0.0, part)
