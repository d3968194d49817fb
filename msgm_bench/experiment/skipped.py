"""What does not apply to a run, with the reason: one record for methods, tasks and metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Skipped:
    """A plugin that does not apply to a run.

    Attributes:
        kind: ``methods``, ``tasks`` or ``metrics``.
        name: Its name.
        reason: Why it does not apply.
    """

    kind: str
    name: str
    reason: str


def reasons(skipped: Iterable[Skipped], *kinds: str) -> dict[str, str]:
    """Reason by name, of these kinds; of every kind where none is named."""
    return {skip.name: skip.reason for skip in skipped if not kinds or skip.kind in kinds}
