"""Stages, cache, runner and run folder."""

from msgm_bench.pipeline.cache import Cache
from msgm_bench.pipeline.describing import outline
from msgm_bench.pipeline.plan import plan
from msgm_bench.pipeline.runner import dry_run, read_result, run, run_grid
from msgm_bench.pipeline.spec import RunSpec, expand, parse_spec

__all__ = [
    "Cache",
    "RunSpec",
    "dry_run",
    "expand",
    "outline",
    "parse_spec",
    "plan",
    "read_result",
    "run",
    "run_grid",
]
