"""The sweep of a board: quality against network evaluations, of one of its runs."""

from __future__ import annotations

from pathlib import Path

from msgm_bench.api.result import Result
from msgm_bench.boards.board import Board
from msgm_bench.boards.eligibility import mismatch
from msgm_bench.errors import UsageError
from msgm_bench.storage import single_line
from msgm_bench.sweep import SWEEP_FILE, Sweep, read_sweep


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
