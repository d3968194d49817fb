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

from msgm_bench.cli.options import (
    DATA_VARIABLE,
    KEY_VALUE,
    data_dir_option,
    new_data_dir_option,
)
from msgm_bench.cli.terminal import say
from msgm_bench.storage import single_line

if TYPE_CHECKING:
    from msgm_bench.api import Data, Dataset, Progress, Source

OK, FAILED, USAGE = 0, 1, 2
BRINGS = "needs no download"
CLASSES = 100  # that are shown
LARGEST = 2**31  # bytes of a file whose checksum is computed, where its size is not known


@click.group()
def command() -> None:
    """List, fetch and check the files of the datasets."""


@command.command("list")
@data_dir_option
def list_() -> None:
    """Show which datasets are here, and where their files are looked for."""
    from msgm_bench.cli.tables import grid
    from msgm_bench.registry import registry

    rows, places = [], dict[str, None]()
    for name in registry().names("datasets"):
        dataset = registry().create("datasets", name)
        rows.append((name, *state(dataset)))
        if dataset.sources():
            places |= dict.fromkeys(str(place) for place in dataset.places())
    grid(("dataset", "state", "where"), rows)
    say("looked in, in this order (--data-dir and MSGM_BENCH_DATA go first):")
    for place in places:
        say(f"  {place}")


@command.command()
@click.argument("names", nargs=-1, required=True)
@new_data_dir_option
def fetch(names: tuple[str, ...]) -> int:
    """Download datasets, with checksums, into --data-dir or the user's data folder.

    Files that are there already are left alone: `data check` says whether they are sound.
    """
    from msgm_bench.errors import StorageError, UsageError

    code, datasets = OK, _datasets(names)
    _make_data_dir()
    for dataset in datasets:
        located = dataset.located()
        if not dataset.sources():
            nothing = UsageError("there is nothing to download", ", ".join(_downloadable()))
            say(f"{dataset.name}: {nothing}", err=True)
            code = max(code, USAGE)
            continue
        if len(located) == len(_files(dataset)):
            say(f"{dataset.name}: here already, in {_folder(located.values())}")
            continue
        try:
            with _shown() as progress:
                folder = dataset.fetch(progress)
        except StorageError as error:
            say(f"{dataset.name}: {error}", err=True)
            code = max(code, FAILED)
        else:
            say(f"{dataset.name}: fetched into {folder}")
    return code


@command.command()
@click.argument("names", nargs=-1)
@data_dir_option
@click.option("-d", "options", type=KEY_VALUE, multiple=True, help="Option of the one dataset.")
def check(names: tuple[str, ...], options: tuple[tuple[str, Any], ...]) -> int:
    """Compare files with the published checksums; all datasets that are here without NAMES.

    Files without a checksum, such as your own, are read instead: classes, counts and what is left
    out are shown. Exits with 1 if a file is missing, is not what was published, or cannot be read.
    """
    from msgm_bench.cli.tables import grid
    from msgm_bench.registry import registry

    if options and len(names) != 1:
        raise click.UsageError("-d is for one dataset: name it")
    rows, verdicts = [], list[str]()
    own: list[Data] = []
    for dataset in _datasets(names or registry().names("datasets"), options):
        located = dataset.located()
        if not names and not located:
            continue
        if not dataset.sources() and dataset.places():
            verdicts.append(_read_own(dataset, own))
            rows.append((dataset.name, str(dataset.places()[0]), verdicts[-1]))
        elif not dataset.sources():
            rows.append((dataset.name, "-", f"{BRINGS}: nothing to check"))
        for name, verdict in _verdicts(dataset).items():
            verdicts.append(verdict)
            rows.append((dataset.name, str(located.get(name, name)), verdict))
    grid(("dataset", "file", "verdict"), rows)
    for data in own:
        _show_classes(data)
    bad = sum(verdict.startswith(("missing", "wrong")) for verdict in verdicts)
    unread = sum(verdict.startswith("not checked") for verdict in verdicts)
    left = f", {unread} not checked" if unread else ""
    noun = "file" if len(verdicts) == 1 else "files"
    say(f"{len(verdicts)} {noun}, {bad} missing or wrong{left}")
    return FAILED if bad else OK


def _make_data_dir() -> None:
    """The folder that the user named, where it is not there yet."""
    from msgm_bench.errors import StorageError

    named = os.environ.get(DATA_VARIABLE)
    try:
        if named:
            Path(named).expanduser().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot make the data folder: {error}", hint="name another with --data-dir"
        ) from error


def _datasets(names: Sequence[str], options: Sequence[tuple[str, Any]] = ()) -> list[Dataset]:
    from msgm_bench.registry import registry

    return [registry().create("datasets", name, dict(options)) for name in names]


def _read_own(dataset: Dataset, into: list[Data]) -> str:
    """What is said of a user's own files: they are read, and their data go ``into`` the list."""
    from msgm_bench.errors import MsgmBenchError

    try:
        data = dataset.load()
    except MsgmBenchError as error:
        return f"wrong: {error}"
    into.append(data)
    return "read"


def _show_classes(data: Data) -> None:
    """Each class with its numbers of items, and the remarks on the files."""
    from msgm_bench.cli.tables import grid
    from msgm_bench.errors import clean

    size = "x".join(map(str, data.shape))
    say(f"{len(data.train):,} to train on, {len(data.test):,} held out, of {size}")
    counts = list(data.counts().items())
    kind = "attribute" if data.train.y.ndim == 2 else "class"
    rows = [(name, f"{train:,}", f"{test:,}") for name, (train, test) in counts[:CLASSES]]
    grid((kind, "to train on", "held out"), rows)
    if len(counts) > CLASSES:
        say(f"and {len(counts) - CLASSES:,} more")
    for remark in data.remarks:
        say(clean(remark))


def _downloadable() -> list[str]:
    from msgm_bench.registry import registry

    names = registry().names("datasets")
    return [name for name in names if registry().create("datasets", name).sources()]


def _files(dataset: Dataset) -> list[Source]:
    return [file for source in dataset.sources() for file in source.files]


def state(dataset: Dataset) -> tuple[str, str]:
    """Whether its files are here, and where, or how they come here."""
    files, located = _files(dataset), dataset.located()
    if not files:
        return BRINGS, "-"
    if not located:
        size = sum(source.size or 0 for source in dataset.sources())
        return "not here", f"data fetch {dataset.name} ({size / 1e6:,.0f} MB)"
    state = "here" if len(located) == len(files) else f"{len(located)} of {len(files)} files"
    return state, str(_folder(located.values()))


def _folder(paths: Iterable[Path]) -> Path:
    return next(iter(paths)).parent


def _verdicts(dataset: Dataset) -> dict[str, str]:
    """What is said of each file: by its checksum, or else by reading the dataset."""
    located = dataset.located()
    found = {file.name: _verdict(file, located.get(file.name)) for file in _files(dataset)}
    unknown = [name for name, verdict in found.items() if not verdict]
    return found | (_tried(dataset, unknown) if unknown else {})


def _tried(dataset: Dataset, unknown: Sequence[str]) -> dict[str, str]:
    """Verdicts on files without a checksum, from an attempt to use them.

    An error speaks of the files that it names, or of all if it names none of the dataset's.
    """
    from msgm_bench.errors import MsgmBenchError

    located = dataset.located()
    untold = "not checked: no checksum is known, and the dataset cannot be read"
    if len(located) < len(_files(dataset)):
        return dict.fromkeys(unknown, untold)
    try:
        done = dataset.verify()
    except MsgmBenchError as error:
        named = [name for name, path in located.items() if str(path) in error.what]
        wrong = f"wrong: {error.what}"
        return {name: wrong if name in named or not named else untold for name in unknown}
    return dict.fromkeys(unknown, f"no checksum is known; {done}")


def _verdict(file: Source, path: Path | None) -> str:
    """What size or checksum says, nothing where there is none; another packing has none."""
    if path is None:
        return "missing"
    if not file.md5 or path.name != file.name or path.is_dir():
        return ""
    size, most = path.stat().st_size, max(2 * (file.size or 0), LARGEST)
    if size > most:
        return f"wrong: {size:,} bytes, which is no such file"
    with path.open("rb") as opened:
        found = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return "ok" if found in file.md5 else f"wrong checksum: {found}, not {' or '.join(file.md5)}"


@contextlib.contextmanager
def _shown() -> Iterator[Progress]:
    """A bar for each file on a terminal; a line when one is done otherwise."""
    if not sys.stderr.isatty():
        yield _line
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

        def bar(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(single_line(name), total=total)
            bars.update(tasks[name], completed=done)

        yield bar


def _line(name: str, done: int, total: int | None) -> None:
    if done == total:
        say(f"  {name}: {done:,} bytes", err=True)
