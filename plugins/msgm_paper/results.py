"""Results on the disk, and what those of one cell come to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from msgm_bench import Interval, Result, Row, UsageError, digest, seeds_interval

RESULT = "result.json"


@dataclass(frozen=True)
class Found:
    """What lies under some folders.

    Attributes:
        results: Valid results, in the order of their paths; copies count once.
        broken: Files that are no results, and why.
    """

    results: tuple[Result, ...] = ()
    broken: dict[Path, str] = field(default_factory=dict)


def gather(folders: Sequence[str]) -> Found:
    """Every ``result.json`` under ``folders``, which may be files themselves.

    Raises:
        UsageError: A folder is not there.
    """
    missing = [folder for folder in folders if not Path(folder).exists()]
    if missing:
        raise UsageError(
            f"no such folder: {', '.join(missing)}", "--out folders of runs", "check --runs"
        )
    found: dict[str, Result] = {}
    broken: dict[Path, str] = {}
    for path in dict.fromkeys(path for folder in folders for path in _files(Path(folder))):
        try:
            result = Result.model_validate_json(path.read_bytes())
        except OSError as error:
            broken[path] = error.strerror or str(error)
        except ValidationError as error:
            first = error.errors()[0]
            broken[path] = ": ".join([*map(str, first["loc"]), first["msg"]])
        else:
            found.setdefault(result.model_dump_json(exclude={"provenance"}), result)
    return Found(tuple(found.values()), broken)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob(RESULT))


@dataclass(frozen=True)
class Measured:
    """What one way of running comes to, over its seeds.

    Attributes:
        interval: Value and 95 % interval, over the items of one seed or over several seeds; None
            where a seed has no value.
        n: Items of each seed, the fewest.
        seeds: Seeds.
        preset: The preset.
        reason: Why there is no value.
    """

    interval: Interval | None
    n: int
    seeds: tuple[int, ...]
    preset: str
    reason: str = ""


def variant(result: Result, row: Row) -> str:
    """What seeds must agree in to be averaged: every option, and the meaning of the value."""
    how = result.spec.model_dump(mode="json", exclude={"seed", "seeds"})
    return digest([how, row.protocol, result.protocols[row.protocol].hash])


def measured(group: Iterable[tuple[Result, Row]]) -> Measured:
    """One variant: the mean over seeds with Student's interval, or one seed with its own.

    Of several results with the same seeds the first counts.
    """
    by_seed: dict[str, tuple[Result, Row]] = {}
    for result, row in group:
        by_seed.setdefault(digest([result.spec.seed, result.spec.seeds]), (result, row))
    results, rows = zip(*by_seed.values(), strict=True)
    values = [row.value for row in rows if row.value is not None]
    reasons = [row.reason for row in rows if row.value is None]
    if reasons:
        interval = None
    elif len(rows) > 1:
        interval = seeds_interval(values)
    else:
        low = -math.inf if rows[0].low is None else rows[0].low
        high = math.inf if rows[0].high is None else rows[0].high
        interval = Interval(values[0], low, high)
    return Measured(
        interval,
        min(row.n for row in rows),
        tuple(sorted(result.spec.seed for result in results)),
        results[0].spec.preset,
        reasons[0] if reasons else "",
    )
