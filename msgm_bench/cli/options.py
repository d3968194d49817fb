"""Options and argument types that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from msgm_bench.errors import UsageError, shorten

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    Pair = click.ParamType[tuple[str, Any]]
else:  # generic only in newer clicks
    Pair = click.ParamType


class KeyValue(Pair):
    """``key=value``; the option's own type reads the value later."""

    name = "KEY=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Split at the first ``=``."""
        from msgm_bench.api import OptionText

        key, equals, text = str(value).partition("=")
        if not equals or not key.strip():
            self.fail(f"{shorten(str(value))!r} is not key=value", param, ctx)
        return key.strip(), OptionText(text)


class FolderType(click.Path):
    """An existing folder, with an error that says what belongs into it.

    Args:
        content: Noun phrase for the folder, such as ``a run folder (with result.json)``.
    """

    def __init__(self, content: str) -> None:
        super().__init__(exists=True)
        self.content = content

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path.

        Raises:
            UsageError: It is a file; the hint names its folder.
        """
        path = os.fsdecode(super().convert(value, param, ctx))
        if Path(path).is_dir():
            return path
        hint = f"name the folder of the file: {Path(path).parent}"
        raise UsageError(f"{path} is a file", self.content, hint)


KEY_VALUE = KeyValue()
RUN_FOLDER = FolderType("a run folder, with result.json, spec.yaml and model/ in it")
DATA_VARIABLE = "MSGM_BENCH_DATA"


def _set_data_dir(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Set the datasets' variable while the command runs; no path enters the spec."""
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


def _set_existing_data_dir(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """``_set_data_dir`` for a folder that exists, be it an option's or the variable's.

    Raises:
        UsageError: There is no such folder.
    """
    name = os.environ.get(DATA_VARIABLE) if value is None else value
    if name and not Path(name).expanduser().is_dir():
        raise UsageError(
            f"data folder {Path(name).expanduser().absolute()} is not there",
            f"a folder that is there, as --data-dir or {DATA_VARIABLE}",
            "correct its name, or make it; `msgm-bench data fetch NAME --data-dir DIR` does",
        )
    _set_data_dir(ctx, param, value)


def _data_dir_option(callback: Callable[..., None]) -> Callable[[F], F]:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False),
        metavar="DIR",
        callback=callback,
        expose_value=False,
        help=f"Folder of the datasets' files; goes before {DATA_VARIABLE}.",
    )


data_dir_option = _data_dir_option(_set_existing_data_dir)
new_data_dir_option = _data_dir_option(_set_data_dir)


def _absolute_folder(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """An existing folder as an absolute path, so that spec.yaml repeats the run from anywhere."""
    folder = None if value is None else Path(value).expanduser()
    return value if folder is None or not folder.exists() else str(folder.absolute())


base_option = click.option(
    "--base",
    metavar="DIR|NAME",
    callback=_absolute_folder,
    help="Base model: a run folder, a folder that diffusers saved, or a name on its hub.",
)

conditional_option = click.option(
    "--conditional", is_flag=True, help="Train class-conditional models."
)
text_option = click.option(
    "--text", is_flag=True, help="Train text-to-image models, on a dataset with prompts."
)

regime_option = click.option(
    "--regime",
    type=click.Choice(["retrain", "finetune"]),
    help="Train from random weights, or from the base model.",
)

steps_option = click.option(
    "--steps",
    type=click.IntRange(1),
    metavar="N",
    help="Training steps of base model, baselines and methods; with --passes, of base model and "
    "baselines only. The judge has its own: -j steps=N.",
)


_RUN_OPTIONS: Sequence[Callable[[Any], Any]] = [
    click.option("--dataset", metavar="NAME", help="Dataset; `data list` shows them."),
    data_dir_option,
    click.option(
        "--forget",
        metavar="CLASSES",
        help="Classes or attributes to forget: a name, a number or a list (3,7).",
    ),
    click.option(
        "--preset",
        metavar="NAME",
        help="Budget: quick, full or paper; by default the dataset's own.",
    ),
    click.option(
        "--samples",
        type=click.IntRange(1),
        metavar="N",
        help="Largest size of evaluation sets.",
    ),
    click.option(
        "-d", "dataset_params", type=KEY_VALUE, multiple=True, help="Option of the dataset."
    ),
    click.option(
        "--task",
        "tasks",
        metavar="NAME",
        multiple=True,
        help="Task beside those of every run; `list task` says which. May be repeated.",
    ),
    click.option(
        "-t",
        "task_params",
        type=KEY_VALUE,
        metavar="TASK.KEY=VALUE",
        multiple=True,
        help="Option of a task.",
    ),
    click.option(
        "-m",
        "metric_params",
        type=KEY_VALUE,
        metavar="METRIC.KEY=VALUE",
        multiple=True,
        help="Option of a metric.",
    ),
    click.option(
        "-j",
        "judge_params",
        type=KEY_VALUE,
        multiple=True,
        help="Option of the judge; name=JUDGE chooses it.",
    ),
    click.option(
        "--device",
        metavar="NAME",
        default="auto",
        show_default=True,
        help="auto, cpu, cuda or cuda:N.",
    ),
    click.option(
        "--precision",
        metavar="NAME",
        default="fp32",
        show_default=True,
        help="fp32, tf32 or bf16.",
    ),
    click.option("--compile/--no-compile", default=False, help="Use torch.compile."),
    click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        metavar="N",
        help="CPU threads; values of another number differ by rounding. By default torch's own "
        "number, and 1 with --executor.",
    ),
]


def run_options(function: F) -> F:
    """Options of a run but for its method: ``run``, ``evaluate`` and ``info`` share them."""
    return _add_options(function, _RUN_OPTIONS)


def evaluation_options(function: F) -> F:
    """Options that ``run`` and ``evaluate`` share."""
    options = [
        run_options,
        click.option(
            "--sample-seed", type=click.IntRange(0), metavar="N", help="Seed of the evaluation."
        ),
        click.option(
            "--out",
            default="runs",
            show_default=True,
            type=click.Path(),
            metavar="DIR",
            help="Folder for run folders.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the results as JSON."),
        click.option(
            "--dry-run", is_flag=True, help="Print the stages and which are cached; run nothing."
        ),
    ]
    return _add_options(function, options)


def _add_options(function: F, options: Sequence[Callable[[F], F]]) -> F:
    """``function`` with ``options``, in this order in the help."""
    for option in reversed(options):
        function = option(function)
    return function


def pop_plugin_options(params: dict[str, Any]) -> dict[str, Any]:
    """Fields of a ``RunSpec`` from the pairs of -b, -d, -t, -m and -j, removed from ``params``."""
    plain = ("backbone_params", "dataset_params", "judge_params")
    scoped = {
        "task_params": "-t {}: write TASK.key=value, such as likelihood.repeats=4",
        "metric_params": "-m {}: write METRIC.key=value, such as nll.key=value",
    }
    fields: dict[str, Any] = {name: dict(params.pop(name, ())) for name in plain}
    return fields | {
        name: group_by_plugin(params.pop(name, ()), message) for name, message in scoped.items()
    }


def group_by_plugin(pairs: Iterable[tuple[str, Any]], message: str) -> dict[str, dict[str, Any]]:
    """Options by plugin from ``(NAME.key, value)`` pairs.

    Args:
        pairs: Keys and values.
        message: The error where a key has no NAME; ``{}`` stands for the key.

    Raises:
        UsageError: A key has no NAME.
    """
    options: dict[str, dict[str, Any]] = {}
    for key, value in pairs:
        name, dot, option = key.partition(".")
        if not dot:
            raise click.UsageError(message.format(key))
        options.setdefault(name, {})[option] = value
    return options
