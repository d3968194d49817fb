"""A submission's result on a board, with the level at which it is believed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from msgm_bench.api import Result
from msgm_bench.boards.board import RESULTS
from msgm_bench.boards.collect import file_name, read, results_of
from msgm_bench.boards.protocols import name_of
from msgm_bench.boards.trust import LEVELS, Level, level_of, read_trust, record_trust
from msgm_bench.errors import StorageError, UsageError
from msgm_bench.storage import read_bytes, single_line, write_text
from msgm_bench.storage.archives import ARCHIVE_LIMIT
from msgm_bench.submissions.archive import unpack
from msgm_bench.submissions.board import board_facts
from msgm_bench.submissions.check import Assessment, check


@dataclass(frozen=True)
class Added:
    """What was added.

    Attributes:
        path: The result on the board.
        level: How far it is to be believed.
        assessment: What its check says.
    """

    path: Path
    level: Level
    assessment: Assessment


def add(folder: Path, archive: Path, limit: int = ARCHIVE_LIMIT) -> Added:
    """Check a submission, and put its result on the board of ``folder``; no page is written.

    Raises:
        RefusedError: The submission is refused.
        UsageError: The board does not list its method, or holds another result in its place.
        StorageError: A file cannot be read or written.
    """
    content = read_bytes(archive, limit=limit)
    submission, facts = unpack(content, single_line(archive)), board_facts(folder)
    assessment = check(submission, facts)
    result = assessment.result
    if result.spec.method not in facts.board.methods:
        raise UsageError(
            f"the board does not list the method {result.spec.method!r}",
            ", ".join(facts.board.methods),
            "add it to methods in board.yaml",
        )
    results_of(folder)  # refuses a folder that leads elsewhere
    target, level = folder / RESULTS / file_name(result), assessment.level(facts.board)
    stored = _stored(target, folder)
    if stored is not None and stored.digest != result.digest:
        raise UsageError(
            f"the board has another result of {name_of(result)}",
            "one result a method and seed",
            f"remove {single_line(target)} first if the new one is meant",
        )
    standing: Level = "claimed" if stored is None else level_of(read_trust(folder), stored)
    if stored is not None and LEVELS.index(standing) > LEVELS.index(level):
        return Added(target, standing, assessment)  # the same values, by a record believed more
    write_text(target, result.to_json())
    record_trust(folder, [result], level, hashlib.sha256(content).hexdigest())
    return Added(target, level, assessment)


def _stored(path: Path, folder: Path) -> Result | None:
    """The board's result; nothing where it is absent or damaged, so that it is mended."""
    if not path.exists():
        return None
    try:
        return read(path, inside=folder)
    except StorageError:
        return None
