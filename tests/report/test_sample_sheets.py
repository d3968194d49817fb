"""Sheets of samples: small PNGs that say what they show, and that strangers cannot abuse."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from msgm_bench.errors import StorageError
from msgm_bench.report.sample_sheets import (
    BUDGET,
    CANVAS,
    IMAGES,
    LIMIT,
    extent_of,
    image_sheet,
    point_sheet,
    read_sheet,
    sheet_of,
    write_sheet,
)


def pixels(content):
    """The pixels of a PNG as red, green, blue and opacity."""
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened.convert("RGBA"))


def stored(folder, content):
    """The sheet as it is read from a file."""
    write_sheet(folder / "sheet.png", content)
    return read_sheet(folder / "sheet.png", folder)


def test_one_row_is_a_square_of_its_images(tmp_path):
    """Image i lies at (i // columns, i % columns), pixel for pixel, and gaps are transparent."""
    x = torch.rand(10, 1, 8, 8)
    sheet = stored(tmp_path, image_sheet({"samples": x}))
    assert (sheet.width, sheet.height, sheet.captions) == (35, 26, ("samples",))
    drawn = pixels(sheet.content)
    assert (sheet.height, sheet.width) == drawn.shape[:2]
    for i, image in enumerate(x):
        top, left = 9 * (i // 4), 9 * (i % 4)
        cell = drawn[top : top + 8, left : left + 8]
        assert (cell[..., 0] == np.rint(255 * image[0].numpy())).all()
        assert (cell[..., 3] == 255).all()
    assert not drawn[8, :, 3].any()
    assert not drawn[:, 8, 3].any()


def test_several_rows_stand_in_their_order(tmp_path):
    """The first images of each caption, missing ones left open; colours stay."""
    rows = {"a": torch.zeros(4, 3, 8, 8), "b": torch.ones(2, 3, 8, 8)}
    sheet = stored(tmp_path, image_sheet(rows))
    drawn = pixels(sheet.content)
    assert sheet.captions == ("a", "b")
    assert drawn[0, 0].tolist() == [0, 0, 0, 255]
    assert drawn[9, 0].tolist() == [255, 255, 255, 255]
    assert drawn[9, 9 * 2, 3] == 0


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 512, 512)])
def test_what_fits_depends_on_the_size_alone(tmp_path, shape):
    """Noise and a plain colour show the same samples, and no sheet is longer than one may be."""
    sheets = [
        stored(tmp_path, image_sheet({"samples": x}))
        for x in (torch.rand(60, *shape), torch.zeros(60, *shape))
    ]
    assert (sheets[0].width, sheets[0].height) == (sheets[1].width, sheets[1].height)
    assert all(len(sheet.content) < LIMIT for sheet in sheets)
    count = min(IMAGES, BUDGET // (shape[0] * min(shape[1], 64) ** 2))
    side = min(shape[1], 64)
    columns = int(np.ceil(np.sqrt(count)))
    assert sheets[0].width == columns * (side + max(1, side // 16)) - max(1, side // 16)


def test_many_rows_stand_side_by_side(tmp_path):
    """Block k of ``count`` images begins at cell k ``count`` in the order of reading."""
    rows = {f"row {k}": torch.full((2, 1, 8, 8), k / 20) for k in range(12)}
    sheet = stored(tmp_path, image_sheet(rows))
    drawn, columns = pixels(sheet.content), (sheet.width + 1) // 9
    assert 1 < sheet.width / sheet.height < 3
    assert columns % 2 == 0
    for k in range(12):
        for i in (2 * k, 2 * k + 1):
            assert drawn[9 * (i // columns), 9 * (i % columns), 0] == round(255 * k / 20)


def test_of_many_rows_an_even_choice(tmp_path):
    """Where not one image of each fits, first and last row are among those that do."""
    rows = {f"row {i}": torch.rand(2, 3, 64, 64) for i in range(30)}
    captions = stored(tmp_path, image_sheet(rows)).captions
    assert len(captions) == BUDGET // (3 * 64 * 64)
    assert captions[0] == "row 0"
    assert captions[-1] == "row 29"


def test_points_are_a_density(tmp_path):
    """Each point darkens its own place; up is up, and points outside the data are left out."""
    extent = (-1.0, 1.0, -1.0, 1.0)
    x = torch.tensor([[-0.99, 0.99], [-0.99, 0.99], [0.99, -0.99], [5.0, 5.0]])
    sheet = stored(tmp_path, point_sheet({"samples": x}, extent))
    opacity = pixels(sheet.content)[..., 3]
    assert (sheet.width, sheet.height) == (CANVAS, CANVAS)
    assert opacity[0, 0] == 255
    assert opacity[-1, -1] == round(255 * 0.5**0.5)
    assert np.count_nonzero(opacity) == 2


def test_points_lie_in_the_extent_of_the_data():
    """The part of the plane is the data's with a margin, whatever is drawn."""
    data = {"keep": torch.tensor([[0.0, 0.0], [2.0, 4.0]]), "forget": torch.tensor([[1.0, 1.0]])}
    left, right, bottom, top = extent_of(data)
    assert (left, right) == pytest.approx((-0.3, 2.3))
    assert (bottom, top) == pytest.approx((-0.6, 4.6))
    assert sheet_of({"samples": torch.rand(5, 2)}, {}) is None
    assert sheet_of({}, data) is None


def png(width=8, height=8, **texts):
    """A PNG with texts."""
    info, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.new("L", (width, height)).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


GOOD = {"Captions": '["samples"]'}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg onload=alert(1)>",
        png(**GOOD)[:-30],
        png(),
        png(**GOOD | {"Captions": '{"a": 1}'}),
        png(**GOOD | {"Captions": "[1]"}),
        png(**GOOD | {"Captions": "[]"}),
        png(**GOOD | {"Captions": "many"}),
        png(**GOOD | {"Captions": '["a", "b", "c", "d", "e", "f", "g", "h", "i"]'}),
        png(4096, 4096, **GOOD),
        png(**GOOD | {"More": "x" * 200_000}),
    ],
)
def test_files_that_are_no_sheets_are_refused(tmp_path, content):
    """No image, another format, truncated, without or with wrong texts, too large: one sentence."""
    path = tmp_path / "sheet.png"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"sheet\.png is"):
        read_sheet(path, tmp_path)


def test_a_sheet_that_leads_out_is_refused(tmp_path):
    """A link to a file outside of the board is not followed."""
    outside, board = tmp_path / "outside", tmp_path / "board"
    board.mkdir()
    write_sheet(outside / "sheet.png", png(**GOOD))
    (board / "sheet.png").symlink_to(outside / "sheet.png")
    with pytest.raises(StorageError, match="leads out"):
        read_sheet(board / "sheet.png", board)
