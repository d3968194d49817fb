"""Building, checking and finding leaderboards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from msgm_bench.api.result import Result
from msgm_bench.boards.board import (
    BOARD_FILE,
    PAGE_FILE,
    PANELS_FILE,
    PLOT_FILE,
    PROTOCOLS_FILE,
    Board,
    load,
)
from msgm_bench.boards.collect import collect, tidy
from msgm_bench.boards.comparability import cores
from msgm_bench.boards.evaluations import sweep_of
from msgm_bench.boards.import_results import Imported, import_results
from msgm_bench.boards.panels import panels
from msgm_bench.boards.picture import draw, remove, stale_picture, table
from msgm_bench.boards.plot import plot
from msgm_bench.boards.protocols import name_of
from msgm_bench.boards.protocols_page import render_protocols
from msgm_bench.boards.ranking import RankedRow, baseline_violations, rank, stamps_of
from msgm_bench.boards.render import render
from msgm_bench.boards.sample_sheets import complete_sheets
from msgm_bench.boards.scatter import scatter
from msgm_bench.boards.trust import method_levels, read_trust
from msgm_bench.boards.tuned_options import tuning_of
from msgm_bench.errors import MsgmBenchError, StorageError, UsageError
from msgm_bench.report.image_table import Table
from msgm_bench.storage import read_text, single_line, write_text
from msgm_bench.sweep import SWEEP_PLOT, Sweep, sweep_figure

OPTIONAL_PLOTS = {PANELS_FILE, SWEEP_PLOT}
"""Drawings that not every board has."""


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
    """A board with its results and the files that follow from them.

    Attributes:
        folder: Where it lives.
        board: Its definition.
        results: Its results, by method and seed.
        frame: Their tidy table.
        ranked: Methods in the order of the page.
        stamps: Bands that the baseline misses.
        files: Texts of the page, of ``protocols.md`` and of the plots, by name.
        picture: Images of the methods, or None where there are none.
        sweep: Quality against network evaluations of one of the runs, or None.
        left_out: Files of ``results/`` that do not stand on the page, and why.
        imported: What ``build`` imported from runs, if there were any.
    """

    folder: Path
    board: Board
    results: tuple[Result, ...]
    frame: pd.DataFrame
    ranked: tuple[RankedRow, ...]
    stamps: tuple[str, ...]
    files: Mapping[str, str]
    picture: Table | None = None
    sweep: Sweep | None = None
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
    def text(self) -> str:
        """The page."""
        return self.files[PAGE_FILE]

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
        rows = () if self.picture is None else self.picture.rows
        blank = [
            f"the picture lacks {method}: no run of its seed left images"
            for method in self.board.methods
            if self.board.picture is not None and method not in rows
        ]
        mixed = [
            f"the seeds of {method} were made by {len(versions)} versions of the core"
            for method, versions in cores(self.results).items()
        ]
        return short + broken + missed + stamped + mixed + blank


def page(folder: Path, imported: Imported | None = None) -> BoardPage:
    """The page that follows from the board and its results, not written.

    Raises:
        UsageError: The board is wrong, results differ and nothing says which are meant,
            ``sweep.json`` is of a run of another board, or tuned options are not those of
            ``tuning.json``.
        StorageError: ``board.yaml``, ``sweep.json`` or ``tuning.json`` cannot be read, or
            ``results`` leads out of the board.
    """
    board = load(folder)
    collected = collect(board, folder)
    results = collected.results
    frame = tidy(results, board.quantities)
    ranked = rank(frame, board.methods, board.rank.key, board.gate)
    stamps = baseline_violations(frame, board.baseline)
    pictured = table(board, folder, [row.method for row in ranked])
    sweep = sweep_of(board, folder)
    tuning = tuning_of(board, folder, {result.spec.seed for result in results})
    has_picture = pictured is not None
    levels = method_levels(read_trust(folder), results)
    files = {
        PAGE_FILE: render(
            board, results, frame, ranked, stamps, levels, with_picture=has_picture, sweep=sweep
        ),
        PROTOCOLS_FILE: render_protocols(board, results, frame, ranked, tuning),
        PLOT_FILE: plot(board, scatter(board, frame, ranked)),
    }
    if board.panels:
        files[PANELS_FILE] = panels(board, frame, ranked)
    if sweep is not None:
        files[SWEEP_PLOT] = sweep_figure(sweep)
    return BoardPage(
        folder,
        board,
        results,
        frame,
        tuple(ranked),
        tuple(stamps),
        files,
        pictured,
        sweep,
        collected.left_out,
        imported,
    )


def build(folder: Path, runs: Path | None = None) -> BoardPage:
    """Import the results of ``runs``, if there are any, and write each file atomically.

    Raises:
        UsageError: As ``page``.
        StorageError: As ``page``, or the page cannot be written.
    """
    imported = None if runs is None else import_results(folder, runs)
    built = page(folder, imported)
    complete_sheets(built.board, folder)
    for name, text in built.files.items():
        write_text(folder / name, text)
    for name in OPTIONAL_PLOTS - built.files.keys():
        remove(folder / name)
    draw(folder, built.picture)
    return built


def check(folder: Path) -> list[Problem]:
    """What is wrong with a board: errors (invalid or mixed results, a stale file) and warnings."""
    try:
        expected = page(folder)
    except MsgmBenchError as error:
        return [Problem(str(error), error=True)]
    stale = [stale_file(folder, name, text) for name, text in expected.files.items()]
    left = [
        f"{name} shows nothing of the board: run msgm-bench board build {single_line(folder)}"
        for name in sorted(OPTIONAL_PLOTS - expected.files.keys())
        if (folder / name).exists()
    ]
    outdated = (*stale, *left, stale_picture(folder, expected.picture))
    wrong = [*filter(None, outdated), *expected.refusals]
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


def stale_file(folder: Path, name: str, text: str) -> str | None:
    """Why a generated file is not ``text``, with the command that writes it, or None."""
    path = folder / name
    again = f"run msgm-bench board build {single_line(folder)}"
    if not path.exists():
        return f"{name} is missing: {again}"
    try:
        written = read_text(path, inside=folder)
    except StorageError as error:
        return f"{error.what}: {again}"
    if written == text:
        return None
    lines, wanted = written.splitlines(), text.splitlines()
    pairs = enumerate(zip(lines, wanted, strict=False), start=1)
    line = next((n for n, (a, b) in pairs if a != b), min(len(lines), len(wanted)) + 1)
    return f"{name} is stale from line {line} on: {again}"
