"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from msgm_bench.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    Pair = click.ParamType[tuple[str, Any]]
else:  # generic only in newer clicks
    Pair = click.ParamType


class KeyValue(Pair):
    """``key=value``; the type of the option says later how the value is read."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Split at the first ``=``."""
        from msgm_bench.api import OptionText

        key, equals, text = str(value).partition("=")
        if not equals or not key.strip():
            self.fail(f"{value!r} is not key=value", param, ctx)
        return key.strip(), OptionText(text)


KEY_VALUE = KeyValue()
DATA_VARIABLE = "MSGM_BENCH_DATA"


def _use_data_dir(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Tell the datasets, for as long as the command runs; no path enters the spec."""
    if value is None:
        return
    before = os.environ.get(DATA_VARIABLE)
    os.environ[DATA_VARIABLE] = str(Path(value).expanduser().absolute())

    def restore() -> None:
        if before is None:
            os.environ.pop(DATA_VARIABLE, None)
        else:
            os.environ[DATA_VARIABLE] = before

    ctx.call_on_close(restore)


def _use_present(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """The same for a folder that has to be there, whoever named it."""
    named = os.environ.get(DATA_VARIABLE) if value is None else value
    if named and not Path(named).expanduser().is_dir():
        raise UsageError(
            f"data folder {Path(named).expanduser().absolute()} is not there",
            f"a folder that is there, as --data-dir or {DATA_VARIABLE}",
            "correct its name, or make it; `msgm-bench data fetch NAME --data-dir DIR` does",
        )
    _use_data_dir(ctx, param, value)


def _data_dir_option(callback: Callable[..., None]) -> Callable[[F], F]:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False),
        callback=callback,
        expose_value=False,
        help=f"Folder of the datasets' files; goes before {DATA_VARIABLE}.",
    )


data_dir_option = _data_dir_option(_use_present)
new_data_dir_option = _data_dir_option(_use_data_dir)


def _from_anywhere(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A folder as an absolute path, so that spec.yaml repeats the run from anywhere."""
    folder = None if value is None else Path(value).expanduser()
    return value if folder is None or not folder.exists() else str(folder.absolute())


base_option = click.option(
    "--base",
    metavar="DIR|NAME",
    callback=_from_anywhere,
    help="Start from this model: a run, a folder of another program, or a name on its hub.",
)

conditional_option = click.option(
    "--conditional", is_flag=True, help="Train models that are told the class."
)


def cell_options(function: F) -> F:
    """What describes a cell but for its method: ``run``, ``evaluate`` and ``info`` share it."""
    options = [
        click.option("--dataset", help="Name of a dataset."),
        data_dir_option,
        click.option("--forget", help="Classes or attributes to forget: a name or a list (3,7)."),
        click.option("--preset", help="quick, full or paper; the dataset's own by default."),
        click.option("--samples", type=click.IntRange(1), help="Cap of every evaluation set."),
        click.option(
            "-d", "dataset_params", type=KEY_VALUE, multiple=True, help="Option of the dataset."
        ),
        click.option(
            "-t", "task_params", type=KEY_VALUE, multiple=True, help="Option of a task: TASK.key=v."
        ),
        click.option(
            "-m", "metric_params", type=KEY_VALUE, multiple=True, help="Of a metric: METRIC.key=v."
        ),
        click.option(
            "-j",
            "judge_params",
            type=KEY_VALUE,
            multiple=True,
            help="Of the judge; name=JUDGE too.",
        ),
        click.option(
            "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N."
        ),
        click.option("--precision", default="fp32", show_default=True, help="fp32, tf32, bf16."),
        click.option("--compile/--no-compile", default=False, help="Use torch.compile."),
    ]
    return _with(function, options)


def evaluation_options(function: F) -> F:
    """What ``run`` and ``evaluate`` have in common."""
    options = [
        cell_options,
        click.option("--sample-seed", type=click.IntRange(0), help="Seed of the evaluation."),
        click.option(
            "--out", default="runs", show_default=True, type=click.Path(), help="Folder of results."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the results as JSON."),
        click.option("--dry-run", is_flag=True, help="Show the stages and which are cached."),
    ]
    return _with(function, options)


def _with(function: F, options: Sequence[Callable[[F], F]]) -> F:
    """``function`` with ``options``, in this order in the help."""
    for option in reversed(options):
        function = option(function)
    return function


def plugin_options(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of a ``RunSpec`` from the pairs of -b, -d, -t, -m and -j, which leave ``given``."""
    plain = ("backbone_params", "dataset_params", "judge_params")
    scoped = {
        "task_params": "-t {}: write TASK.key=value, such as likelihood.repeats=4",
        "metric_params": "-m {}: write METRIC.key=value, such as nll.key=value",
    }
    fields: dict[str, Any] = {name: dict(given.pop(name, ())) for name in plain}
    return fields | {name: by_plugin(given.pop(name, ()), say) for name, say in scoped.items()}


def by_plugin(given: tuple[tuple[str, Any], ...], say: str) -> dict[str, dict[str, Any]]:
    """Options of several plugins from ``NAME.key=value`` pairs, by name.

    Raises:
        UsageError: A pair has no name: ``say``, with the pair's key in it.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, value in given:
        name, dot, option = key.partition(".")
        if not dot:
            raise click.UsageError(say.format(key))
        found.setdefault(name, {})[option] = value
    return found
