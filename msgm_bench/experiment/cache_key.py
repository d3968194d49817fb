"""What every stage's key holds."""

from __future__ import annotations

from typing import Any

from msgm_bench.cache.fingerprint import source_of
from msgm_bench.experiment.plan import Plan
from msgm_bench.training import Runtime


def common(plan: Plan, *packages: str, runtime: Runtime | None = None) -> dict[str, Any]:
    """What every stage depends on: data, code of the ruler, and where it runs.

    ``runtime`` is the plan's, where the stage has none of its own.
    """
    return {
        "data": plan.loaded.fingerprint,
        "runtime": (runtime or plan.runtime).determinants(),
        "ruler": source_of(*(f"msgm_bench.{package}" for package in packages)),
    }
