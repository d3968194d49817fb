"""Names of rows in the tables of ``explain`` and ``diff``, and notes on rows without a value."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgm_bench.cli.terminal import echo

if TYPE_CHECKING:
    from msgm_bench.api import Row

COLUMN = 16  # letters of a column for names in a table of 80
REASON = 160  # letters of a reason in a note; `explain RUN METRIC` has all of them


class RowLabels:
    """Tells rows apart: with the protocol where task, metric and split repeat.

    Args:
        rows: All rows of a table.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._counts = Counter((row.task, row.metric, row.split) for row in rows)

    def protocol(self, row: Row) -> str:
        """The row's protocol without its version; empty where nothing else is called the same."""
        from msgm_bench.boards.protocols import name_without_version

        is_repeated = self._counts[row.task, row.metric, row.split] > 1
        return name_without_version(row.protocol) if is_repeated else ""

    def value(self, row: Row) -> str:
        """Metric and split, and the protocol on lines of its own."""
        return "\n".join((f"{row.metric} {row.split}", *fold_protocol(self.protocol(row))))

    def whole(self, row: Row) -> str:
        """Task, metric and split, and the protocol on a line of its own."""
        text = f"{row.task} {row.metric} {row.split}"
        return "\n".join(filter(None, (text, self.protocol(row))))


def fold_protocol(name: str) -> list[str]:
    """The name of a protocol on lines of about ``COLUMN`` letters, broken behind slashes alone."""
    lines: list[str] = []
    for part in re.findall("[^/]*/|[^/]+", name):
        if lines and len(lines[-1] + part) <= COLUMN:
            lines[-1] += part
        else:
            lines.append(part)
    return lines


def print_missing(reasons: Iterable[tuple[str, str]]) -> None:
    """Print why rows have no value, each reason once beside all rows that it holds for.

    Args:
        reasons: Label of a row, and the reason.
    """
    from msgm_bench.cli.tables import print_grid
    from msgm_bench.errors import shorten
    from msgm_bench.storage import single_line

    labels: dict[str, list[str]] = {}
    for label, reason in reasons:
        labels.setdefault(shorten(single_line(reason), REASON), []).append(label)
    if labels:
        echo("No value:")
        print_grid(("\n".join(names), reason) for reason, names in labels.items())
        echo()
