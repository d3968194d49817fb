"""``msgm-bench compare``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
def command(folders: tuple[str, ...], as_csv: bool) -> None:
    """Put results side by side: run folders, folders of them, or result.json files."""
    from msgm_bench.boards import compare, read
    from msgm_bench.cli.tables import comparison
    from msgm_bench.errors import UsageError

    paths = [path for folder in folders for path in _results(Path(folder))]
    if not paths:
        raise UsageError(f"no result.json under {', '.join(folders)}", "folders that runs left")
    results = [read(path) for path in dict.fromkeys(paths)]
    for result in results:
        if result.status != "ok":
            click.echo(f"{result.spec.method}: {result.status}: {result.reason}", err=True)
    done = [result for result in results if result.status == "ok"]
    if not done:
        raise UsageError("none of the results is a successful one", "results with status ok")
    if as_csv:
        click.echo(compare(done).to_csv(index=False), nl=False)
    else:
        comparison(done)


def _results(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("result.json"))
