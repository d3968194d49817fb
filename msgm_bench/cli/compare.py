"""``msgm-bench compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from msgm_bench.cli.terminal import say

if TYPE_CHECKING:
    from msgm_bench.api import Result


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option(
    "--figure", type=click.Path(dir_okay=False), help="Draw samples of run folders there, a PNG."
)
def command(folders: tuple[str, ...], as_csv: bool, figure: str | None) -> None:
    """Put results side by side: run folders, folders of them, or result.json files.

    A figure has methods as rows and the same noise in each column; runs that differ in more
    than the method are drawn apart, in files with longer names.
    """
    from msgm_bench.boards import compare
    from msgm_bench.cli.tables import comparison
    from msgm_bench.errors import UsageError
    from msgm_bench.storage import single_line

    paths = [path for folder in folders for path in _results(Path(folder))]
    if not paths:
        raise UsageError(f"no result.json under {', '.join(folders)}", "folders that runs left")
    if figure is not None and Path(figure).suffix != ".png":
        raise UsageError(f"--figure {figure}", "a name that ends in .png")
    results, reasons = _read_all(paths)
    for reason in reasons:
        say(single_line(f"left out: {reason}"), err=True)
    for result in results.values():
        if result.status != "ok":
            outcome = f"{result.spec.method}: {result.status}: {result.reason}"
            say(single_line(outcome), err=True)
    done = [result for result in results.values() if result.status == "ok"]
    if not done:
        raise UsageError("none of the results is a successful one", "results with status ok")
    if as_csv:
        say(compare(done).to_csv(index=False).rstrip("\n"))
    else:
        comparison(done)
    if figure is not None:
        _draw([path.parent for path in results], Path(figure))


def _read_all(paths: list[Path]) -> tuple[dict[Path, Result], list[str]]:
    """The valid results by path, and what is wrong with the other files."""
    from msgm_bench.boards import read
    from msgm_bench.errors import StorageError

    results: dict[Path, Result] = {}
    reasons = []
    for path in dict.fromkeys(paths):
        try:
            results[path] = read(path)
        except StorageError as error:
            reasons.append(error.what)
    return results, reasons


def _draw(folders: list[Path], target: Path) -> None:
    from msgm_bench.boards.figure import draw
    from msgm_bench.errors import UsageError
    from msgm_bench.report.saved_images import NAME

    written = draw(folders, target)
    for figure in written:
        say(f"Side by side: {figure}", err=True)
    if not written:
        raise UsageError(
            "no two of the runs can be drawn side by side",
            f"run folders with {NAME} that differ in the method only",
            "older run folders lack the file: delete their result.json and repeat their commands, "
            "all stages are cached",
        )


def _results(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("result.json"))
