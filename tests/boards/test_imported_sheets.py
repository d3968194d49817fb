"""Sheets of samples that a board stores when runs are imported."""

from __future__ import annotations

import pytest
import torch

from msgm_bench.boards import build, check
from msgm_bench.boards.sample_sheets import sheet_path, step_paths
from msgm_bench.errors import StorageError
from msgm_bench.report import saved_images
from msgm_bench.report.run_folder import RECORDED, SHEET
from msgm_bench.report.sample_sheets import image_sheet, read_sheet, write_sheet
from msgm_bench.storage import dump_yaml


def images(shade, count=4):
    """Plain grey images."""
    return torch.full((count, 1, 8, 8), shade)


@pytest.fixture
def runs(tmp_path, everything):
    """Run folders of all results with images; alpha's of seed 0 is recorded."""
    for i, result in enumerate(everything):
        name = f"{result.spec.method}-s{result.spec.seed}"
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(result.to_json(), encoding="utf-8")
        rows = {"samples": images(i / 20)}
        saved_images.write(folder, {"another": {"x": images(1.0)}, "generation": rows})
    for step in (0, 50, 1000):
        path = tmp_path / "runs" / "alpha-s0" / RECORDED / SHEET.format(step)
        write_sheet(path, image_sheet({"samples": images(step / 1000)}))
    return tmp_path / "runs"


def test_the_task_that_ranks_is_shown(folder, runs, everything):
    """Of seed 0, what the task of the ranking quantity drew; check has nothing to say."""
    build(folder, runs)
    for i, result in enumerate(everything):
        if result.spec.seed == 0:
            stored = read_sheet(sheet_path(folder, result.spec.method), folder)
            assert stored.content == image_sheet({"samples": images(i / 20)})
    assert not [problem for problem in check(folder) if problem.error]


def test_a_picture_names_task_and_seed(folder, runs, definition):
    """Where the board has a picture, its task is shown, of its seed."""
    definition["picture"] = {"task": "another", "seed": 2}
    (folder / "board.yaml").write_text(dump_yaml(definition), encoding="utf-8")
    build(folder, runs)
    stored = read_sheet(sheet_path(folder, "alpha"), folder)
    assert stored.content == image_sheet({"x": images(1.0)})
    assert step_paths(folder, "alpha") == []


def test_steps_of_the_training_come_along(folder, runs):
    """All recorded steps in their order; those of an earlier run go with it."""
    build(folder, runs)
    assert [step for step, _ in step_paths(folder, "alpha")] == [0, 50, 1000]
    assert step_paths(folder, "beta") == []
    for path in (runs / "alpha-s0" / RECORDED).glob("*50.png"):
        path.unlink()
    build(folder, runs)
    assert [step for step, _ in step_paths(folder, "alpha")] == [0, 1000]


def test_a_damaged_recording_is_an_error(folder, runs):
    """It is named, and no half of it is stored."""
    path = runs / "alpha-s0" / RECORDED / SHEET.format(50)
    path.write_bytes(b"no picture")
    with pytest.raises(StorageError, match="is no sheet of samples"):
        build(folder, runs)
    assert step_paths(folder, "alpha") == []


def test_a_board_with_a_picture_is_completed(folder, runs, definition):
    """Sheets that an older board lacks are made once from its stored images, and then stay."""
    definition["picture"] = {"task": "generation", "images": 2}
    (folder / "board.yaml").write_text(dump_yaml(definition), encoding="utf-8")
    build(folder, runs)
    path = sheet_path(folder, "alpha")
    path.unlink()
    build(folder)
    assert path.read_bytes() == image_sheet({"samples": images(6 / 20, 2)})  # the seventh result
    write_sheet(path, image_sheet({"samples": images(0.9)}))
    before = path.read_bytes()
    build(folder)
    assert path.read_bytes() == before
