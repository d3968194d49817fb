"""``msgm-bench tune``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msgm_bench.cli.exit_codes import ExitCode
from msgm_bench.cli.options import KEY_VALUE, FolderType, base_option, data_dir_option
from msgm_bench.cli.terminal import echo
from msgm_bench.errors import UsageError, shorten

if TYPE_CHECKING:
    from msgm_bench.boards.tuning_record import TuningRecord
    from msgm_bench.tuning import TuningPlan

BOARD = FolderType("a folder with board.yaml")


@click.command()
@click.option("--board", required=True, type=BOARD, metavar="DIR", help="The board to tune for.")
@click.option(
    "--trials",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    metavar="N",
    help="Trials of each method; the first has the preset's options.",
)
@click.option(
    "--finalists",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Trials that go on from the first seed to all; a quarter by default.",
)
@click.option(
    "--forget",
    metavar="CLASSES",
    help="Classes to forget, none of them the board's; by default the next ones.",
)
@click.option(
    "--seeds", default="100,101", show_default=True, metavar="LIST", help="Seeds, none ranked."
)
@click.option(
    "--method",
    "methods",
    metavar="NAME",
    multiple=True,
    help="Method; all of the board by default.",
)
@click.option("--samples", type=click.IntRange(1), metavar="N", help="As of `run`.")
@base_option
@click.option(
    "--record",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Where trials are recorded; tuning.json of the board by default.",
)
@click.option(
    "--out",
    default="runs",
    show_default=True,
    type=click.Path(),
    metavar="DIR",
    help="Folder for run folders.",
)
@click.option("--executor", metavar="NAME", help="Executor of the trials; else they take turns.")
@click.option(
    "-x",
    "helper_params",
    type=KEY_VALUE,
    metavar="NAME.KEY=VALUE",
    multiple=True,
    help="Option of the executor.",
)
@click.option("--device", metavar="NAME", default="auto", show_default=True, help="As of `run`.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="As of `run`.")
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def command(
    board: str, record: str | None, methods: tuple[str, ...], as_json: bool, **params: Any
) -> int:
    """Try options of every method of a board, as many times for each, and choose the best.

    Trials forget other classes with other seeds than the board ranks, are judged by its rule, and
    cost what its runs cost. The same command goes on where it was stopped.
    """
    from msgm_bench.boards.tuning_record import TUNING_FILE
    from msgm_bench.cli.options import group_by_plugin
    from msgm_bench.cli.progress import show_progress
    from msgm_bench.cli.run_and_show import create_executor
    from msgm_bench.quarantine import stdout_to_stderr
    from msgm_bench.runner import output_folder
    from msgm_bench.tuning import Machine, Tuning, plan_tuning

    message = "-x {}: write NAME.key=value, such as local.workers=2"
    helper_options = group_by_plugin(params.pop("helper_params"), message)
    machine = Machine(*(params.pop(name) for name in ("device", "threads", "base")))
    executor, out = params.pop("executor"), output_folder(params.pop("out"))
    seeds, path = _seeds(params.pop("seeds")), Path(record or Path(board) / TUNING_FILE)
    with stdout_to_stderr():
        helper = create_executor(executor, helper_options)
        plan = plan_tuning(Path(board), methods=methods, seeds=seeds, machine=machine, **params)
    echo(_title(plan), err=True)
    with stdout_to_stderr():
        tuning = Tuning(plan, path, out, helper)
        with show_progress(tuning.open_runs) as display:
            tuning.listener = display.worker
            done = tuning.run()
    if as_json:
        echo(done.to_json().rstrip("\n"))
    else:
        _print(plan, done)
    echo(f"written: {path}", err=as_json)
    chosen = [done.best(name) is not None for name in plan.methods if not done.skipped(name)]
    return ExitCode.OK if all(chosen) else ExitCode.FAILED


def _seeds(text: str) -> list[int]:
    """The seeds of a comma-separated list.

    Raises:
        UsageError: An entry is no seed.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) < 19):
            raise UsageError(f"--seeds has {shorten(part)!r}", "numbers from 0, such as 100,101")
    return [int(part) for part in parts]


def _title(plan: TuningPlan) -> str:
    """What is tuned, in a line."""
    protocol = plan.protocol
    return (
        f"forget {', '.join(protocol.run.forget)}, seeds {', '.join(map(str, protocol.seeds))}: "
        f"trials of each of {', '.join(plan.methods)}: {protocol.trials}; "
        f"of them finalists: {protocol.finalists}"
    )


def _print(plan: TuningPlan, record: TuningRecord) -> None:
    """Print what was chosen: a table, and how it goes into board.yaml and into the command."""
    from msgm_bench.cli.tables import print_table
    from msgm_bench.storage import dump_yaml, single_line

    print_table(
        ("method", "trial", str(record.protocol.rank), "options"), list(_rows(plan, record))
    )
    for name in plan.methods:
        if reason := record.skipped(name):
            echo(single_line(f"{name} is skipped: {reason}"))
    best = {name: record.best_options(name) for name in plan.methods}
    chosen = {name: options for name, options in best.items() if options is not None}
    if not chosen:
        return
    echo("In board.yaml:\n")
    echo(dump_yaml(_stated(chosen)))
    echo("In its command:\n")
    for name, options in chosen.items():
        echo(f"  {' '.join(_flags(name, options))}")
    echo("")


def _rows(plan: TuningPlan, record: TuningRecord) -> Iterator[tuple[str, ...]]:
    """A line for each method that has trials."""
    for name in plan.methods:
        number = record.best(name)
        if record.skipped(name):
            continue
        if number is None:
            yield name, "–", "–", "no trial has a value"
            continue
        trial = record.methods[name].trials[number]
        result = record.score(trial, record.protocol.seeds)
        is_up = record.directions.get(str(record.protocol.rank)) == "up"
        cell = f"{-result.number if is_up else result.number:.4g}"
        if result.state == "outside":
            cell = f"outside the gate by {result.number:.3g} of a limit"
        options = ", ".join(f"{key} {json.dumps(v)}" for key, v in trial.options.items())
        yield name, f"{number}", cell, options


def _stated(chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The part of board.yaml that states the options."""
    from msgm_bench.boards.tuned_options import split_options

    split = {name: split_options(options) for name, options in chosen.items()}
    return {
        "options": dict.fromkeys(chosen, "tuned"),
        "run": {
            "method_params": {name: own for name, (own, _) in split.items() if own},
            "training": {name: training for name, (_, training) in split.items() if training},
        },
    }


def _flags(name: str, options: Mapping[str, Any]) -> Iterator[str]:
    """The options of a method on a command line."""
    from msgm_bench.boards.tuned_options import split_options
    from msgm_bench.storage import one_line_yaml

    for flag, values in zip(("-p", "--training"), split_options(options), strict=True):
        for key, value in values.items():
            yield f"{flag} {name}.{key}={value if isinstance(value, str) else one_line_yaml(value)}"
