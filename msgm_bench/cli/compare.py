"""``msgm-bench compare``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from msgm_bench.cli.terminal import echo

if TYPE_CHECKING:
    from msgm_bench.api import Result


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option(
    "--figure",
    type=click.Path(dir_okay=False),
    metavar="FILE.png",
    help="Draw samples of the runs.",
)
def command(paths: tuple[str, ...], as_csv: bool, figure: str | None) -> None:
    """Print a ranked table of results.

    PATHS are run folders, folders of run folders, or result.json files. The figure of --figure
    has a row for each method, and the same noise in each column; runs that differ in more than
    the method go into further files, with longer names.
    """
    from msgm_bench.boards import compare
    from msgm_bench.cli.tables import print_comparison
    from msgm_bench.errors import UsageError

    if figure is not None and Path(figure).suffix != ".png":
        raise UsageError(f"--figure {figure}", "a name that ends in .png")
    results = successful_results(paths)
    successes = list(results.values())
    if as_csv:
        echo(compare(successes).to_csv(index=False).rstrip("\n"))
    else:
        print_comparison(successes)
    if figure is not None:
        _draw([file.parent for file in results], Path(figure))


def successful_results(paths: Iterable[str]) -> dict[Path, Result]:
    """Results with status ok below the paths, by file; the others are named on stderr.

    Raises:
        UsageError: There are none.
    """
    from msgm_bench.errors import UsageError
    from msgm_bench.storage import single_line

    files = [file for path in paths for file in _result_files(Path(path))]
    if not files:
        raise UsageError(f"no result.json under {', '.join(paths)}", "run folders")
    results, reasons = _read_all(files)
    for reason in reasons:
        echo(single_line(f"skipped: {reason}"), err=True)
    for result in results.values():
        if result.status != "ok":
            outcome = f"{result.spec.method}: {result.status}: {result.reason}"
            echo(single_line(outcome), err=True)
    successes = {file: result for file, result in results.items() if result.status == "ok"}
    if not successes:
        raise UsageError("none of the results is a successful one", "results with status ok")
    return successes


def _read_all(files: list[Path]) -> tuple[dict[Path, Result], list[str]]:
    """The valid results by path, and the errors of the other files."""
    from msgm_bench.boards import read
    from msgm_bench.errors import StorageError

    results: dict[Path, Result] = {}
    reasons = []
    for file in dict.fromkeys(files):
        try:
            results[file] = read(file)
        except StorageError as error:
            reasons.append(error.what)
    return results, reasons


def _draw(folders: list[Path], target: Path) -> None:
    """Draw runs that differ in the method only side by side.

    Raises:
        UsageError: There are no two such runs.
    """
    from msgm_bench.boards.figure import draw
    from msgm_bench.errors import UsageError
    from msgm_bench.report.saved_images import IMAGES_FILE

    figures = draw(folders, target)
    for figure in figures:
        echo(f"Side by side: {figure}", err=True)
    if not figures:
        raise UsageError(
            "no two of the runs can be drawn side by side",
            f"run folders with {IMAGES_FILE} that differ in the method only",
            "older run folders lack the file: delete their result.json and repeat their commands, "
            "all stages are cached",
        )


def _result_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("result.json"))
