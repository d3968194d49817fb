"""Rows of a result as a markdown table: the one in reports and on model cards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgm_bench.api import Row
from msgm_bench.storage import markdown_text
from msgm_bench.storage.markdown import DASH

WARNING = "⚠"  # behind a value with a stamp


def _value(row: Row) -> str:
    if row.value is None:
        return DASH
    return f"{row.value:.4g}" + (f" {WARNING}" if row.stamp else "")


def _interval(row: Row) -> str:
    return "" if row.low is None or row.high is None else f"{row.low:.4g} to {row.high:.4g}"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "task": lambda row: row.task,
    "metric": lambda row: row.metric,
    "split": lambda row: row.split,
    "value": _value,
    "95 % interval": _interval,
    "unit": lambda row: row.unit,
    "n": lambda row: str(row.n),
    "protocol": lambda row: row.protocol,
}
NUMBERS = ("value", "n")  # flush right


def metric_table(rows: Iterable[Row], columns: Sequence[str] = tuple(COLUMNS)) -> list[str]:
    """Lines of a markdown table, in which no text is markdown.

    Args:
        rows: Rows of a result.
        columns: Names among ``COLUMNS``.
    """
    rule = ["---:" if name in NUMBERS else "---" for name in columns]
    body = [[markdown_text(COLUMNS[name](row)) for name in columns] for row in rows]
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *body)]
    return [lines[0], f"|{'|'.join(rule)}|", *lines[1:]]
