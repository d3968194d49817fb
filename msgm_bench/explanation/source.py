"""Results wherever they lie: a run folder, a file of results, a submission."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msgm_bench.api import Result
from msgm_bench.boards.board import BOARD_FILE, RESULTS
from msgm_bench.boards.collect import FORMAT, read
from msgm_bench.errors import StorageError, UsageError
from msgm_bench.experiment.stored_result import RESULT
from msgm_bench.storage import open_regular, single_line
from msgm_bench.submissions import archive

ALLOWED = "a run folder, a result.json, a file of a board's results, an archive of a submission"
ZIP = b"PK\x03\x04"  # the first bytes of an archive


@dataclass(frozen=True)
class Source:
    """A result and where it was read.

    Attributes:
        name: The path, on one line.
        result: The result; its schema, digest and protocol hashes are checked.
        is_submission: Whether it is what somebody submitted, of which nothing is recomputed here.
    """

    name: str
    result: Result
    is_submission: bool = False


def read_source(path: Path) -> Source:
    """The result of a run folder, a result file or the archive of a submission.

    Raises:
        UsageError: A folder holds no result.
        StorageError: The file cannot be read, or is damaged.
        RefusedError: The parts of a submission do not belong together.
    """
    name = single_line(path)
    if path.is_dir():
        if not (path / RESULT).exists():
            hint = f"name a file in its {RESULTS}/" if (path / BOARD_FILE).exists() else ""
            raise UsageError(f"{name} holds no {RESULT}", ALLOWED, hint)
        return Source(name, _read(path / RESULT))
    with open_regular(path) as file:
        is_archive = file.read(len(ZIP)) == ZIP
    if is_archive:
        return Source(name, archive.read(path).result, is_submission=True)
    return Source(name, _read(path))


def _read(path: Path) -> Result:
    """The result in a file, which may be none at all.

    Raises:
        StorageError: The file cannot be read, or is damaged.
    """
    try:
        return read(path)
    except StorageError as error:
        allowed = ALLOWED if error.allowed == FORMAT else error.allowed
        raise StorageError(error.what, allowed, error.hint) from error
