"""Sheets of samples beside a board's results: stored when runs are imported, never drawn again.

``images/METHOD/samples.png`` shows what the task that ranks drew, of the seed of the picture (0
where there is none), and ``step-N.png`` beside it samples along the training, where it was
recorded. The noise of a place in a sheet is one over all methods and steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from msgm_bench.api.result import Result
from msgm_bench.boards.board import Board
from msgm_bench.errors import StorageError
from msgm_bench.report import saved_images
from msgm_bench.report.run_folder import RECORDED
from msgm_bench.report.sample_sheets import read_sheet, sheet_of, write_sheet
from msgm_bench.storage import storage_errors

IMAGES = "images"  # folder of a board with the images of its methods
SAMPLES, STEPS = "samples.png", 101  # a file; sheets along a training, at most
_STEP = re.compile(r"step-(\d{1,12})\.png")


def sheet_path(folder: Path, method: str) -> Path:
    """Where the sheet of a method lies."""
    return folder / IMAGES / method / SAMPLES


def step_paths(folder: Path, method: str) -> list[tuple[int, Path]]:
    """Steps and sheets along the training of a method, in their order."""
    return _steps(folder / IMAGES / method)


def import_sheets(board: Board, folder: Path, run: Path, result: Result) -> None:
    """Store the sheets of a run; older ones of the method go.

    Raises:
        StorageError: The saved images of the run are damaged, or a file cannot be written.
    """
    seed = 0 if board.picture is None else board.picture.seed
    if result.spec.seed != seed:
        return
    method, rows = result.spec.method, saved_images.read(run)
    target = sheet_path(folder, method)
    row = board.rank.row(result)
    task = row.task if board.picture is None and row is not None else _pictured(board)
    content = sheet_of(rows.get(task, {}), rows.get(saved_images.DATA, {}))
    _replace(target, content)
    steps = {step: read_sheet(path, run).content for step, path in _recorded(run)}
    for _, path in step_paths(folder, method):
        _replace(path, None)
    for step, sheet in steps.items():
        write_sheet(target.with_name(f"step-{step}.png"), sheet)


def complete_sheets(board: Board, folder: Path) -> None:
    """Make the sheets of methods that have images for the board's picture and no sheet yet.

    Raises:
        StorageError: Images cannot be read, or a file cannot be written.
    """
    if board.picture is None:
        return
    for method in board.methods:
        target = sheet_path(folder, method)
        if target.exists() or not (target.parent / saved_images.IMAGES_FILE).exists():
            continue
        rows = saved_images.read(target.parent, inside=folder).get(board.picture.task, {})
        _replace(target, sheet_of(rows, {}))


def _pictured(board: Board) -> str:
    return "" if board.picture is None else board.picture.task


def _recorded(run: Path) -> Iterator[tuple[int, Path]]:
    """Steps and sheets of a recorded run.

    Raises:
        StorageError: There are more than can be recorded.
    """
    steps = _steps(run / RECORDED)
    if len(steps) > STEPS:
        raise StorageError(f"{run.name} has {len(steps)} recorded steps", f"at most {STEPS}")
    yield from steps


def _steps(folder: Path) -> list[tuple[int, Path]]:
    """Steps and sheets in a folder."""
    matches = ((_STEP.fullmatch(path.name), path) for path in folder.glob("step-*.png"))
    return sorted((int(match[1]), path) for match, path in matches if match is not None)


def _replace(path: Path, content: bytes | None) -> None:
    """Write a file, or remove it."""
    if content is not None:
        write_sheet(path, content)
        return
    with storage_errors(path):
        path.unlink(missing_ok=True)
