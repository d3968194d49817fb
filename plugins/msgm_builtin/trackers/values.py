"""Names of values at services: scalars of a stage, and the values of a result."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

from msgm_bench import Result

PLAIN = re.compile(r"[^\w./-]+", re.ASCII)


def plain(name: str) -> str:
    """``name`` in the letters that every service takes: spaces and others are ``_``."""
    return PLAIN.sub("_", name).strip("_") or "_"


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """The values that are finite numbers, which is what services draw."""
    numbers = {plain(name): float(value) for name, value in values.items()}
    return {name: number for name, number in numbers.items() if math.isfinite(number)}


def result_values(result: Result) -> dict[str, float]:
    """The values of a result by ``task/metric/split``, with ``.low`` and ``.high`` beside them.

    Where a value was measured by several protocols, the name ends with the protocol's.
    """
    names = Counter((row.task, row.metric, row.split) for row in result.metrics)
    values: dict[str, float | None] = {}
    for row in result.metrics:
        parts = (row.task, row.metric, row.split)
        name = "/".join((*parts, row.protocol) if names[parts] > 1 else parts)
        values |= {name: row.value, f"{name}.low": row.low, f"{name}.high": row.high}
    return finite({name: value for name, value in values.items() if value is not None})
