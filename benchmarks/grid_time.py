"""A grid in one command beside a command for each cell, and the efficiency of local workers.

    OMP_NUM_THREADS=1 python benchmarks/grid_time.py
    OMP_NUM_THREADS=1 python benchmarks/grid_time.py --workers 2 --steps 9000
    python benchmarks/grid_time.py --board leaderboards/digits-vesde-3-7 --methods ort,obt

The grid is ``standard, unseen, ort, obt`` by three seeds on the digits. Separate runs have a cache
each; the start of their processes is not counted. With ``--workers``, wall time of as many seeds of
``standard`` as workers, in processes of one thread each: one worker beside all of them. Caches are
empty at first, and the judge, which all seeds share, is fitted before. With ``--board`` nothing is
run: the seconds of the stages of a board's results, each once, beside as often as runs use them.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pairs import Bench, Stopped, bench, parser

from msgm_bench import Executor, Result, RunSpec
from msgm_bench.boards import read
from msgm_bench.experiment.spec import expand
from msgm_bench.registry import registry
from msgm_bench.runner import run_grid

METHODS, SEEDS = ("standard", "unseen", "ort", "obt"), (0, 1, 2)
CACHE = "MSGM_BENCH_CACHE"


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.set_defaults(pairs=1)
    options.add_argument("--steps", type=int, default=300, help="steps of each training")
    options.add_argument("--samples", type=int, default=500, help="items of each task")
    options.add_argument("--workers", type=int, help="measure local workers: at most this many")
    options.add_argument("--board", type=Path, help="count the stages of a board's results")
    options.add_argument("--methods", default="", help="of the board: a list; all by default")
    chosen = options.parse_args(arguments)
    if chosen.board is not None:
        print(shared(read_all(chosen.board, chosen.methods.split(",") if chosen.methods else [])))
        return
    meter = bench(chosen)
    logging.getLogger("msgm_bench").setLevel(logging.ERROR)
    if chosen.workers:
        workers(meter, chosen)
    else:
        grid(meter, chosen)


def grid(meter: Bench, options: argparse.Namespace) -> None:
    """All cells in one grid, beside one by one with an empty cache each."""
    methods, seeds = (METHODS[:2], SEEDS[:1]) if meter.smoke else (METHODS, SEEDS)
    listed = cells(meter, options, methods, seeds)

    def together() -> None:
        with empty_cache() as out:
            check(run_grid(listed, out))

    def separately() -> None:
        for spec in listed:
            with empty_cache() as out:
                check(run_grid([spec], out))

    meter.header(f"grid of {len(methods)} x {len(seeds)}")
    meter.row("one command / separate runs", together, separately, warm_up=False)


def workers(meter: Bench, options: argparse.Namespace) -> None:
    """Speed-up = wall time of one worker / wall time of all; efficiency = speed-up / workers."""
    count = options.workers
    listed = cells(meter, options, METHODS[:1], range(count))
    first = cells(meter, argparse.Namespace(**vars(options) | {"steps": 1}), METHODS[:1], [count])

    def with_workers(n: int) -> Callable[[], Stopped]:
        def work() -> Stopped:
            executor: Executor = registry().create("executors", "local", {"workers": n})
            with empty_cache() as out:
                check(run_grid(first, out))  # fits the judge
                started = time.perf_counter()
                check(run_grid(listed, out, executor))
                return Stopped(time.perf_counter() - started)

        return work

    wall = replace(meter, is_wall=True)
    wall.header(f"{count} seeds of {options.steps} steps, {os.cpu_count()} cores")
    one, more = wall.row(
        f"1 worker / {count} workers", with_workers(1), with_workers(count), warm_up=False
    )
    print(f"  speed-up {one / more:.2f}, efficiency {one / more / count:.2f}")


def read_all(board: Path, methods: Sequence[str]) -> list[Result]:
    """The results of a board, of some methods or of all."""
    results = [read(path) for path in sorted((board / "results").glob("*.json"))]
    listed = [result for result in results if not methods or result.spec.method in methods]
    if not listed:
        raise SystemExit(f"{board} has no results{' of ' * bool(methods)}{', '.join(methods)}")
    return listed


def shared(results: Sequence[Result]) -> str:
    """Seconds of all stages, each once, and as often as a run uses them."""
    once: dict[str, float] = {}
    apart = 0.0
    for result in results:
        keys, seconds = (result.provenance[name] for name in ("stages", "seconds"))
        for name, elapsed in seconds.items():
            once[keys[name]] = elapsed
            apart += elapsed
    total = sum(once.values())
    return (
        f"{len(results)} runs: {total:.0f} s in one grid, {apart:.0f} s apart, "
        f"{total / apart:.2f} of it"
    )


def cells(
    meter: Bench, options: argparse.Namespace, methods: Sequence[str], seeds: Sequence[int]
) -> list[RunSpec]:
    """Requests on the digits; the smallest ones on points of the plane, with a small network."""
    common = {"device": options.device}
    if meter.smoke:
        common |= {"dataset": "gaussians", "forget": ("middle",), "steps": 2, "samples": 8}
        common |= {"dataset_params": {"train_size": 500, "test_size": 500}}
        common |= {"backbone_params": {"width": 16, "depth": 1}}
        common |= {"task_params": {"likelihood": {"rtol": 1e-2, "atol": 1e-2}}}
    else:
        common |= {"dataset": "digits", "forget": ("3", "7")}
        common |= {"steps": options.steps, "samples": options.samples}
    return expand(list(methods), ["vesde"], list(seeds), {}, **common)


@contextlib.contextmanager
def empty_cache() -> Iterator[Path]:
    """An empty cache inside the block, and a folder for results."""
    before = os.environ.get(CACHE)
    with tempfile.TemporaryDirectory() as place:
        os.environ[CACHE] = str(Path(place) / "cache")
        try:
            yield Path(place) / "runs"
        finally:
            os.environ.pop(CACHE)
            if before is not None:
                os.environ[CACHE] = before


def check(results: Sequence[object]) -> None:
    """End where a run failed: its time means nothing."""
    for result in results:
        if result.status != "ok":
            raise SystemExit(f"{result.spec.method} seed {result.spec.seed}: {result.reason}")


if __name__ == "__main__":
    main()
