"""Building, checking and finding leaderboards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from msgm_bench.api.result import Result
from msgm_bench.boards.agreement import cores
from msgm_bench.boards.board import BOARD_FILE, PAGE_FILE, Board, load
from msgm_bench.boards.collect import collect, tidy
from msgm_bench.boards.ingest import Imported, import_results
from msgm_bench.boards.protocols import name_of
from msgm_bench.boards.ranking import Standing, misses, rank, stamps_of
from msgm_bench.boards.render import render
from msgm_bench.errors import MsgmBenchError, StorageError, UsageError
from msgm_bench.storage import read_text, single_line, write_text


@dataclass(frozen=True)
class Problem:
    """Something that ``board check`` reports.

    Attributes:
        text: A sentence.
        error: Whether the check fails by it; a warning otherwise.
    """

    text: str
    error: bool

    def __str__(self) -> str:
        """The sentence."""
        return self.text


@dataclass(frozen=True)
class BoardPage:
    """A board with its results and the page that follows from them.

    Attributes:
        folder: Where it lives.
        board: What it shows.
        results: Its results, by method and seed.
        frame: Their tidy table.
        standings: Methods in the order of the page.
        stamps: Bands that the baseline misses.
        text: The page.
        left_out: Files of ``results/`` that do not stand on the page, and why.
        imported: What ``build`` took from the runs, if it was given any.
    """

    folder: Path
    board: Board
    results: tuple[Result, ...]
    frame: pd.DataFrame
    standings: tuple[Standing, ...]
    stamps: tuple[str, ...]
    text: str
    left_out: Mapping[Path, str] = field(default_factory=dict)
    imported: Imported | None = None

    @property
    def refusals(self) -> list[str]:
        """A sentence on each file that is left out."""
        return [f"{path.name} is left out: {why}" for path, why in self.left_out.items()]

    @property
    def path(self) -> Path:
        """Where the page is written."""
        return self.folder / PAGE_FILE

    @property
    def warnings(self) -> list[str]:
        """What a reader should know: seeds that miss or failed, bands missed, values stamped."""
        seeds = dict.fromkeys(self.board.methods, 0)
        for result in self.results:
            seeds[result.spec.method] += 1
        short = [
            f"{method} has {count} of {self.board.seeds} seeds"
            for method, count in seeds.items()
            if count < self.board.seeds
        ]
        broken = [
            f"{name_of(result)} {result.status}: {result.reason or 'no reason given'}"
            for result in self.results
            if result.status != "ok"
        ]
        stamped = [f"stamped: {stamp}" for stamp in stamps_of(self.frame)]
        missed = [f"baseline gate: {stamp}" for stamp in self.stamps]
        mixed = [
            f"the seeds of {method} were made by {len(versions)} versions of the core"
            for method, versions in cores(self.results).items()
        ]
        return short + broken + missed + stamped + mixed


def page(folder: Path, imported: Imported | None = None) -> BoardPage:
    """The page that follows from the board and its results, not written.

    Raises:
        UsageError: The board is wrong, or results differ and nothing says which are meant.
        StorageError: ``board.yaml`` cannot be read, or ``results`` leads out of the board.
    """
    board = load(folder)
    collected = collect(board, folder)
    results = collected.results
    frame = tidy(results, board.keys)
    standings = rank(frame, board.methods, board.rank.key, board.gate)
    stamps = misses(frame, board.baseline)
    text = render(board, results, frame, standings, stamps)
    return BoardPage(
        folder,
        board,
        results,
        frame,
        tuple(standings),
        tuple(stamps),
        text,
        collected.left_out,
        imported,
    )


def build(folder: Path, runs: Path | None = None) -> BoardPage:
    """Import the results of ``runs``, if given, and write the page atomically.

    Raises:
        UsageError: As ``page``.
        StorageError: As ``page``, or the page cannot be written.
    """
    imported = None if runs is None else import_results(folder, runs)
    built = page(folder, imported)
    write_text(built.path, built.text)
    return built


def check(folder: Path) -> list[Problem]:
    """What is wrong with a board: errors (invalid or mixed results, a stale page) and warnings."""
    try:
        expected = page(folder)
    except MsgmBenchError as error:
        return [Problem(str(error), error=True)]
    stale = _stale(expected)
    wrong = [*([stale] if stale else []), *expected.refusals]
    return [
        *(Problem(text, error=True) for text in wrong),
        *(Problem(text, error=False) for text in expected.warnings),
    ]


def find_boards(root: Path) -> list[Path]:
    """The board in ``root``, or else those in its folders, by name.

    Raises:
        UsageError: ``root`` is no folder.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is no folder", f"a folder with {BOARD_FILE}, or one of such")
    if (root / BOARD_FILE).is_file():
        return [root]
    return sorted(path.parent for path in root.glob(f"*/{BOARD_FILE}"))


def _stale(expected: BoardPage) -> str | None:
    path = expected.path
    again = f"run msgm-bench board build {single_line(expected.folder)}"
    if not path.exists():
        return f"{path.name} is missing: {again}"
    try:
        written = read_text(path, inside=expected.folder)
    except StorageError as error:
        return f"{error.what}: {again}"
    if written == expected.text:
        return None
    lines, wanted = written.splitlines(), expected.text.splitlines()
    pairs = enumerate(zip(lines, wanted, strict=False), start=1)
    line = next((n for n, (a, b) in pairs if a != b), min(len(lines), len(wanted)) + 1)
    return f"{path.name} is stale from line {line} on: {again}"
