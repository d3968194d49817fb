"""The figure of a board: quality against network evaluations, of one of its runs."""

from __future__ import annotations

from pathlib import Path

from msgm_bench.api.result import Result
from msgm_bench.boards.board import Board
from msgm_bench.boards.eligibility import mismatch
from msgm_bench.boards.picture import remove, stale_png
from msgm_bench.errors import UsageError
from msgm_bench.storage import single_line
from msgm_bench.sweep import SWEEP_FILE, SWEEP_PLOT, Sweep, draw_sweep, read_sweep, sweep_source


def sweep_of(board: Board, folder: Path) -> Sweep | None:
    """The sweep in the folder of a board; None without one.

    Raises:
        StorageError: It cannot be read, or leads out of the board.
        UsageError: It is of a run that does not belong to the board.
    """
    path = folder / SWEEP_FILE
    if not path.exists():
        return None
    sweep = read_sweep(path, inside=folder)
    reason = mismatch(board, Result(status="ok", spec=sweep.spec))
    if reason is not None:
        raise UsageError(
            f"{single_line(path)} is not of a run of this board: {reason}",
            "a sweep of one of its runs",
            f"make it again: msgm-bench sweep nfe RUN --out {single_line(folder)}",
        )
    return sweep


def draw(folder: Path, sweep: Sweep | None) -> None:
    """Draw the figure beside the page, or remove one without a sweep.

    Raises:
        StorageError: It cannot be written.
    """
    if sweep is None:
        remove(folder / SWEEP_PLOT)
    else:
        draw_sweep(folder / SWEEP_PLOT, sweep)


def stale_figure(folder: Path, sweep: Sweep | None) -> str | None:
    """Why the figure is not the one of the sweep, with the command that draws it, or None."""
    expected = None if sweep is None else sweep_source(sweep)
    return stale_png(folder, SWEEP_PLOT, expected, "sweep of the board")
