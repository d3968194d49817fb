"""What the page of a method's runs on a board shows: every row of every seed, and commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgm_bench.api import Result, Row
from msgm_bench.boards.markdown import ARROWS, number
from msgm_bench.boards.pages import BoardPage
from msgm_bench.boards.trust import level_of, read_trust
from msgm_bench.report.stated_command import stated_command
from msgm_bench.storage.markdown import DASH

RowKey = tuple[str, str, str, str]
DIGITS = 4  # significant ones of a value


@dataclass(frozen=True)
class SeedView:
    """A run.

    Attributes:
        seed: Its seed.
        status: ``ok``, ``failed`` or ``skipped``.
        reason: Why it is not ok.
        command: The command that repeats it.
        digest: SHA-256 of its result.
        trust: Its trust level.
        seconds: Wall time, or None.
        file: The file of the result in the board's archive.
    """

    seed: int
    status: str
    reason: str
    command: str
    digest: str
    trust: str
    seconds: float | None
    file: str


@dataclass(frozen=True)
class MeasuredLine:
    """A row over the seeds.

    Attributes:
        metric: ``metric`` of the rows.
        split: Their ``split``.
        protocol: Their protocol.
        unit: Unit and arrow.
        n: Items of a result.
        values: The value of each seed, with its interval.
        remarks: Reasons and stamps.
    """

    metric: str
    split: str
    protocol: str
    unit: str
    n: int
    values: Sequence[str]
    remarks: Sequence[str]


@dataclass(frozen=True)
class RunView:
    """The runs of a method on a board.

    Attributes:
        method: Its name.
        seeds: The runs by seed.
        tasks: The rows of each task.
    """

    method: str
    seeds: Sequence[SeedView]
    tasks: Sequence[tuple[str, Sequence[MeasuredLine]]]


def run_view(page: BoardPage, method: str) -> RunView:
    """The runs of a method on a board."""
    results = [result for result in page.results if result.spec.method == method]
    records = read_trust(page.folder)
    seeds = [_seed(result, level_of(records, result)) for result in results]
    tables = [{row.key: row for row in result.metrics} for result in results]
    keys: dict[RowKey, None] = dict.fromkeys(key for table in tables for key in table)
    tasks: dict[str, list[MeasuredLine]] = {}
    for key in keys:
        tasks.setdefault(key[0], []).append(_line([table.get(key) for table in tables]))
    return RunView(method, seeds, list(tasks.items()))


def _seed(result: Result, trust: str) -> SeedView:
    facts = result.provenance
    wall = facts.get("wall_seconds")
    return SeedView(
        result.spec.seed,
        result.status,
        result.reason or "",
        stated_command(result),
        result.digest,
        trust,
        float(wall) if isinstance(wall, int | float) else None,
        f"{result.spec.method}-s{result.spec.seed}.json",
    )


def _line(cells: Sequence[Row | None]) -> MeasuredLine:
    rows = [row for row in cells if row is not None]
    first = rows[0]
    words = ("" if first.unit == "1" else first.unit, ARROWS.get(first.direction, ""))
    remarks = (text for row in rows for text in (row.reason, row.stamp) if text)
    return MeasuredLine(
        first.metric,
        first.split,
        first.protocol,
        " ".join(filter(None, words)),
        first.n,
        [_value(row) for row in cells],
        list(dict.fromkeys(remarks)),
    )


def _value(row: Row | None) -> str:
    if row is None or row.value is None:
        return DASH
    if row.low is None or row.high is None:
        return short(row.value)
    return f"{short(row.value)} [{short(row.low)}, {short(row.high)}]"


def short(value: float) -> str:
    """A value with four significant digits, and no more decimals than four."""
    if value == 0 or abs(value) >= 10**DIGITS:
        return number(value, 0)
    decimals = next(d for d in range(DIGITS + 1) if d == DIGITS or abs(value) >= 10 ** (3 - d))
    return number(value, decimals)


def runs_of(page: BoardPage) -> Iterator[RunView]:
    """The runs of each method of a board that has any, in the order of the page."""
    for row in page.ranked:
        view = run_view(page, row.method)
        if view.seeds:
            yield view
