"""``msgm-bench data``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msgm_bench.cli.exit_codes import ExitCode
from msgm_bench.cli.options import (
    DATA_VARIABLE,
    KEY_VALUE,
    data_dir_option,
    new_data_dir_option,
)
from msgm_bench.cli.terminal import echo
from msgm_bench.storage import single_line

if TYPE_CHECKING:
    from msgm_bench.api import Data, Dataset, Progress, Source

NO_DOWNLOAD = "needs no download"
MAX_BYTES = 2**31  # of a file whose checksum is computed, where its size is unpublished


@click.group()
def command() -> None:
    """List, download and check the files of datasets."""


@command.command("list")
@data_dir_option
def list_() -> None:
    """List datasets, their state and their folders."""
    from msgm_bench.cli.tables import print_table
    from msgm_bench.registry import registry

    rows, places = [], dict[str, None]()
    for name in registry().names("datasets"):
        dataset = registry().create("datasets", name)
        rows.append((name, *file_state(dataset)))
        if dataset.sources():
            places |= dict.fromkeys(str(place) for place in dataset.places())
    print_table(("dataset", "state", "where"), rows)
    echo("folders that are searched, in this order (--data-dir and MSGM_BENCH_DATA go first):")
    for place in places:
        echo(f"  {place}")


@command.command()
@click.argument("names", nargs=-1, required=True)
@new_data_dir_option
def fetch(names: tuple[str, ...]) -> int:
    """Download the datasets NAMES, with checksums.

    They go into --data-dir, or the user's data folder. Files that are there already stay as they
    are; `data check` compares them with the checksums.
    """
    from msgm_bench.errors import StorageError, UsageError

    code, datasets = ExitCode.OK, _datasets(names)
    _make_data_dir()
    for dataset in datasets:
        located = dataset.located()
        if not dataset.sources():
            error = UsageError("there is nothing to download", ", ".join(_downloadable()))
            echo(f"{dataset.name}: {error}", err=True)
            code = max(code, ExitCode.USAGE)
            continue
        if len(located) == len(_files(dataset)):
            echo(f"{dataset.name}: here already, in {_folder(located.values())}")
            continue
        try:
            with _download_progress() as progress:
                folder = dataset.fetch(progress)
        except StorageError as failure:
            echo(f"{dataset.name}: {failure}", err=True)
            code = max(code, ExitCode.FAILED)
        else:
            echo(f"{dataset.name}: fetched into {folder}")
    return code


@command.command()
@click.argument("names", nargs=-1)
@data_dir_option
@click.option("-d", "options", type=KEY_VALUE, multiple=True, help="Option of the one dataset.")
def check(names: tuple[str, ...], options: tuple[tuple[str, Any], ...]) -> int:
    """Compare the files of datasets with the published checksums.

    NAMES are datasets; without them, all datasets that are here. Files without a checksum, such as
    your own images, are read instead, and their classes, counts and skipped files are printed. Of
    a dataset with prompts, its concepts and the prompts of each group are printed, too. Exits with
    1 if a file is missing, differs from the published one, or cannot be read.
    """
    from msgm_bench.cli.dataset_summary import print_summary
    from msgm_bench.cli.tables import print_table
    from msgm_bench.registry import registry

    if options and len(names) != 1:
        raise click.UsageError("-d is for one dataset: name it")
    rows, verdicts = [], list[str]()
    own_data: list[Data] = []
    for dataset in _datasets(names or registry().names("datasets"), options):
        located = dataset.located()
        if not names and not located:
            continue
        if not dataset.sources() and dataset.places():
            verdicts.append(_read_own_files(dataset, own_data))
            rows.append((dataset.name, str(dataset.places()[0]), verdicts[-1]))
        elif not dataset.sources():
            rows.append((dataset.name, "-", f"{NO_DOWNLOAD}: nothing to check"))
            own_data += [data for data in [dataset.load()] if data.prompts is not None]
        for name, verdict in _verdicts(dataset).items():
            verdicts.append(verdict)
            rows.append((dataset.name, str(located.get(name, name)), verdict))
    print_table(("dataset", "file", "verdict"), rows)
    for data in own_data:
        print_summary(data)
    bad = sum(verdict.startswith(("missing", "wrong")) for verdict in verdicts)
    unchecked = sum(verdict.startswith("not checked") for verdict in verdicts)
    files = "1 file" if len(verdicts) == 1 else f"{len(verdicts)} files"
    more = f", {unchecked} not checked" if unchecked else ""
    echo(f"{files}, {bad} missing or wrong{more}")
    return ExitCode.FAILED if bad else ExitCode.OK


def _make_data_dir() -> None:
    """Make the folder of --data-dir or MSGM_BENCH_DATA.

    Raises:
        StorageError: It cannot be made.
    """
    from msgm_bench.errors import StorageError

    name = os.environ.get(DATA_VARIABLE)
    try:
        if name:
            Path(name).expanduser().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot make the data folder: {error}", hint="choose another with --data-dir"
        ) from error


def _datasets(names: Sequence[str], options: Sequence[tuple[str, Any]] = ()) -> list[Dataset]:
    from msgm_bench.registry import registry

    return [registry().create("datasets", name, dict(options)) for name in names]


def _read_own_files(dataset: Dataset, own_data: list[Data]) -> str:
    """Verdict on a user's own files after reading them; appends their data to ``own_data``."""
    from msgm_bench.errors import MsgmBenchError

    try:
        data = dataset.load()
    except MsgmBenchError as error:
        return f"wrong: {error}"
    own_data.append(data)
    return "read"


def _downloadable() -> list[str]:
    """Names of the datasets whose makers publish files at an address."""
    from msgm_bench.registry import registry

    datasets = _datasets(registry().names("datasets"))
    return [dataset.name for dataset in datasets if _has_address(dataset)]


def _has_address(dataset: Dataset) -> bool:
    return any(source.urls for source in dataset.sources())


def _files(dataset: Dataset) -> list[Source]:
    return [file for source in dataset.sources() for file in source.files]


def file_state(dataset: Dataset) -> tuple[str, str]:
    """Whether a dataset's files are here, and their folder, or the way to get them."""
    files, located = _files(dataset), dataset.located()
    if not files:
        return NO_DOWNLOAD, "-"
    if not located and not _has_address(dataset):
        return "not here", "by hand: docs/datasets.md"
    if not located:
        size = sum(source.size or 0 for source in dataset.sources())
        return "not here", f"data fetch {dataset.name} ({size / 1e6:,.0f} MB)"
    part = "here" if len(located) == len(files) else f"{len(located)} of {len(files)} files"
    return part, str(_folder(located.values()))


def _folder(paths: Iterable[Path]) -> Path:
    return next(iter(paths)).parent


def _verdicts(dataset: Dataset) -> dict[str, str]:
    """Verdict on each file: by its checksum, or else by reading the dataset."""
    located = dataset.located()
    verdicts = {file.name: _verdict(file, located.get(file.name)) for file in _files(dataset)}
    unknown = [name for name, verdict in verdicts.items() if not verdict]
    return verdicts | (_verdicts_by_reading(dataset, unknown) if unknown else {})


def _verdicts_by_reading(dataset: Dataset, unknown: Sequence[str]) -> dict[str, str]:
    """Verdicts on the files ``unknown``, which have no checksum, from reading the dataset.

    An error is about the files that it names, or about all if it names none of the dataset's.
    """
    from msgm_bench.errors import MsgmBenchError

    located = dataset.located()
    unchecked = "not checked: no checksum is known, and the dataset cannot be read"
    if len(located) < len(_files(dataset)):
        return dict.fromkeys(unknown, unchecked)
    try:
        remark = dataset.verify()
    except MsgmBenchError as error:
        named = [name for name, path in located.items() if str(path) in error.what]
        wrong = f"wrong: {error.what}"
        return {name: wrong if name in named or not named else unchecked for name in unknown}
    return dict.fromkeys(unknown, f"no checksum is known; {remark}")


def _verdict(file: Source, path: Path | None) -> str:
    """Verdict by size and checksum; empty without a checksum, as another packing's file."""
    if path is None:
        return "missing"
    if not file.md5 or path.name != file.name or path.is_dir():
        return ""
    size, limit = path.stat().st_size, max(2 * (file.size or 0), MAX_BYTES)
    if size > limit:
        return f"wrong: {size:,} bytes, which is no such file"
    with path.open("rb") as opened:
        md5 = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return "ok" if md5 in file.md5 else f"wrong checksum: {md5}, not {' or '.join(file.md5)}"


@contextlib.contextmanager
def _download_progress() -> Iterator[Progress]:
    """A bar for each file on a terminal; otherwise a line when a file is complete."""
    if not sys.stderr.isatty():
        yield _print_complete
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TransferSpeedColumn,
    )

    from msgm_bench.cli.tables import PlainConsole

    tasks: dict[str, TaskID] = {}
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=PlainConsole(stderr=True)) as bars:

        def update_bar(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(single_line(name), total=total)
            bars.update(tasks[name], completed=done)

        yield update_bar


def _print_complete(name: str, done: int, total: int | None) -> None:
    if done == total:
        echo(f"  {name}: {done:,} bytes", err=True)
