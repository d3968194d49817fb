"""Pictures of runs: any name as a label, any number in the data, and third-party pictures."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from matplotlib.image import imread
from matplotlib.text import Text
from safetensors.torch import save_file

from msgm_bench.errors import StorageError
from msgm_bench.report import image_grids, plots, saved_images
from msgm_bench.report.image_grids import Section
from msgm_bench.report.plots import literal

LABELS = [
    "$\\frac{1$",
    "$",
    "\\$x$ and $y$",
    "a\nb\x1b[31m\x00",
    "\U0001f408 \u732b",
    "x" * 5000,
    "",
]


@pytest.mark.parametrize("label", LABELS)
def test_any_name_is_a_label(label, tmp_path):
    """Formulas, controls, letters that the font lacks and endless names are drawn as text."""
    images = torch.rand(3, 1, 8, 8)
    image_grids.strips(tmp_path / "strips.png", [[Section(label, [(label, images)])]])
    points = torch.randn(20, 2)
    drawn = {label: points}
    plots.scatter(tmp_path / "points.png", {"keep": points, label: points}, drawn, label)
    rows = [{"step": step, "loss": 1.0, f"loss_{label}": 2.0} for step in (1, 2)]
    plots.loss_curve(tmp_path / "loss.png", rows)
    for path in tmp_path.iterdir():
        height, width = imread(path).shape[:2]
        assert max(height, width) <= plots.PIXELS


@given(st.text())
def test_labels_are_no_formulas(text):
    """Matplotlib finds no mathematics in a label, and shows each dollar sign."""
    label = literal(text)
    drawn, is_math = Text(0, 0, label)._preprocess_math(label)
    assert is_math is False
    assert len(drawn) <= 48
    assert len(drawn.splitlines()) <= 1


def test_many_rows_make_a_coarser_picture(tmp_path):
    """A thousand classes do not make a picture that nothing can open."""
    rows = [(str(i), torch.rand(1, 1, 4, 4)) for i in range(1000)]
    image_grids.strips(tmp_path / "rows.png", [[Section("classes", rows)]])
    assert max(imread(tmp_path / "rows.png").shape[:2]) <= plots.PIXELS


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("count", [1, 20])
def test_points_that_are_not_finite(value, count, tmp_path):
    """They are left out of the picture, whose size the others give; also where none is left."""
    points = torch.randn(20, 2)
    points[:count] = value
    plots.scatter(tmp_path / "points.png", {"keep": points, "forget": points}, {"all": points})
    assert (tmp_path / "points.png").stat().st_size > 0


def test_kept_rows_come_back_in_order(tmp_path):
    """More rows than three digits count, with slashes in captions."""
    rows = {"class": {f"a/b {i}": torch.full((1, 1, 2, 2), i / 2000) for i in range(1100)}}
    saved_images.write(tmp_path, rows)
    read = saved_images.read(tmp_path)
    assert list(read["class"]) == list(rows["class"])


@given(
    name=st.text(max_size=20) | st.just("000000/task/caption"),
    shape=array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_third_party_pictures(name, shape, dtype, tmp_path):
    """Whatever a third-party file holds: rows that can be drawn, or one sentence."""
    save_file({name: torch.zeros(shape).to(dtype)}, tmp_path / saved_images.IMAGES_FILE)
    try:
        rows = saved_images.read(tmp_path)
    except StorageError:
        return  # any other error fails
    ((task, captions),) = rows.items()
    assert name.split("/", 2)[1:] == [task, *captions]
    (x,) = captions.values()
    assert x.dtype == torch.float32
    if x.ndim == 4:
        image_grids.strips(tmp_path / "strips.png", [[Section(task, [*captions.items()])]])


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_pictures_that_are_no_file(put, tmp_path):
    """A pipe, a folder, a link to an endless device: one sentence, at once."""
    put(tmp_path / saved_images.IMAGES_FILE)
    with pytest.raises(StorageError, match=saved_images.IMAGES_FILE):
        saved_images.read(tmp_path)


def test_pictures_that_are_too_large(tmp_path):
    """Half a gigabyte of zeros, which takes no room on a disk, is not read."""
    with (tmp_path / saved_images.IMAGES_FILE).open("wb") as file:
        file.truncate(2**29)
    with pytest.raises(StorageError, match="larger than"):
        saved_images.read(tmp_path)
