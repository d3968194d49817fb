"""Runs side by side in one picture, looked at pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from msgm_bench.boards.figure import draw
from msgm_bench.errors import StorageError
from msgm_bench.report import image_grids, saved_images

GREYS = torch.linspace(0.1, 0.9, 5)


def plain(greys, size=8):
    """One plain image for each grey."""
    return greys.reshape(-1, 1, 1, 1).expand(-1, 1, size, size).contiguous()


@pytest.fixture
def leave(tmp_path, make):
    """``leave(rows, **of the result)`` leaves a run folder that shows ``rows``."""

    def write(rows, name, **told):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(make(**told).to_json(), encoding="utf-8")
        saved_images.write(folder, rows)
        return folder

    return write


def boxes(path, colour):
    """Left, right, and the tops of the blocks of a colour."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    there = (abs(pixels - np.array(colour)) <= 1).all(axis=2)
    rows, columns = (there.sum(axis=axis) > 20 for axis in (1, 0))  # words have fewer pixels,
    tall = np.lib.stride_tricks.sliding_window_view(rows, 20).all(axis=1)  # and fewer lines
    return *np.flatnonzero(columns)[[0, -1]], np.flatnonzero(tall[1:] & ~tall[:-1])


def grey(value):
    """The colour of a grey in [0, 1]."""
    return [round(255 * float(value))] * 3


def test_columns_share_their_noise(leave, tmp_path):
    """Image j of every method is in column j, greys are as they were, and rows are in order."""
    one = {"generation": {"samples": plain(GREYS)}}
    two = {"generation": {"samples": plain(GREYS.flip(0) + 0.05)}}
    folders = [leave(one, "a", method="alpha"), leave(two, "b", method="beta")]
    target = tmp_path / "figure.png"
    assert draw(folders, target) == [target]
    found = [boxes(target, grey(value)) for value in GREYS]
    other = [boxes(target, grey(value + 0.05)) for value in GREYS.flip(0)]
    for (left, right, tops), (left_b, right_b, tops_b) in zip(found, other, strict=True):
        assert (left, right) == (left_b, right_b)
        assert right - left > 40
        assert len(tops) == len(tops_b) == 1
        assert tops_b[0] > tops[0] + 40
    lefts = [left for left, _, _ in found]
    assert lefts == sorted(lefts)
    assert np.ptp(np.diff(lefts)) <= 1


def test_what_methods_share_is_drawn_once(leave, tmp_path):
    """Originals stand once above both methods; the other split stands beside, not below."""
    kept, lost = GREYS[:2], GREYS[2:4]
    rows = [
        {
            "inpainting": {
                "retain: original": plain(kept),
                "retain: restored": plain(kept + shift),
                "forget: original": plain(lost),
                "forget: restored": plain(lost + shift),
            }
        }
        for shift in (0.02, 0.04)
    ]
    folders = [leave(found, name, method=name) for found, name in zip(rows, "ab", strict=True)]
    (target,) = draw(folders, tmp_path / "figure.png")
    tops = [boxes(target, grey(kept[0] + shift))[2] for shift in (0, 0.02, 0.04)]
    assert [len(top) for top in tops] == [1, 1, 1]
    assert tops[0] < tops[1] < tops[2]
    right = boxes(target, grey(kept[1]))[1]
    left, _, top = boxes(target, grey(lost[0]))
    assert left > right
    assert top == tops[0]


def test_pixels_that_are_not_finite_are_red(leave, tmp_path):
    """A method that diverged shows it; colours stay what they are."""
    broken = plain(GREYS)
    broken[0] = torch.nan
    blue = plain(GREYS).expand(-1, 3, -1, -1) * torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1)
    folders = [
        leave({"generation": {"samples": broken.expand(-1, 3, -1, -1)}}, "a", method="alpha"),
        leave({"generation": {"samples": blue}}, "b", method="beta"),
    ]
    (target,) = draw(folders, tmp_path / "figure.png")
    assert len(boxes(target, [255, 0, 0])[2]) == 1
    assert len(boxes(target, [0, round(127.5 * 0.9), round(255 * 0.9)])[2]) == 1


def test_points_have_a_panel_each(leave, tmp_path):
    """Data and six methods in the plane: seven panels on two lines, the last place empty."""
    generator = torch.Generator().manual_seed(0)
    data = {name: torch.randn(50, 2, generator=generator) for name in ("keep", "forget")}
    folders = [
        leave({"data": data, "generation": {"samples": data["keep"] + i}}, name, method=name)
        for i, name in enumerate("abcdef")
    ]
    (target,) = draw(folders, tmp_path / "figure.png")
    pixels = np.asarray(Image.open(target).convert("L"))
    height, width = pixels.shape
    assert width == 2 * height
    assert (pixels[height // 2 :, : width // 2] < 250).any()
    assert (pixels[height // 2 :, 3 * width // 4 + 10 :] > 250).all()


def test_only_what_belongs_together_is_drawn_together(leave, tmp_path):
    """Another seed or backbone is another figure; failures and single runs are none."""
    rows = {"generation": {"samples": plain(GREYS)}}
    told = [
        *({"method": m, "seed": s} for m in ("alpha", "beta") for s in (0, 1)),
        {"method": "alpha", "backbone": "alone"},
        {"method": "gamma", "seed": 1, "status": "failed", "reason": "diverged"},
    ]
    folders = [leave(rows, str(i), **spec) for i, spec in enumerate(told)]
    written = draw([*folders, tmp_path / "nothing"], tmp_path / "figure.png")
    assert [path.name for path in written] == ["figure-toy-b-net-s0.png", "figure-toy-b-net-s1.png"]
    assert draw(folders[:2], tmp_path / "none.png") == []
    assert not (tmp_path / "none.png").exists()


def test_groups_of_one_name_are_told_apart(leave, tmp_path):
    """Options of the backbone are not in the name: a hash tells the two figures apart."""
    rows = {"generation": {"samples": plain(GREYS)}}
    folders = [
        leave(rows, f"{m}{w}", method=m, backbone_params={"width": w}) for m in "ab" for w in (1, 2)
    ]
    written = draw(folders, tmp_path / "figure.png")
    assert len(set(written)) == 2
    assert all(path.name.startswith("figure-toy-b-net-s0-") for path in written)


def test_rows_keep_their_order_and_their_first_items(tmp_path):
    """What is read back has tasks and captions in order, and the first items of each row."""
    rows = {
        "zeta": {"b: second/third": plain(torch.rand(30)), "a": plain(GREYS)},
        "alpha": {"points": torch.rand(5000, 2)},
    }
    saved_images.write(tmp_path, rows)
    found = saved_images.read(tmp_path)
    assert [(task, *captions) for task, captions in found.items()] == [
        ("zeta", "b: second/third", "a"),
        ("alpha", "points"),
    ]
    assert torch.equal(found["zeta"]["b: second/third"], rows["zeta"]["b: second/third"][:20])
    assert len(found["alpha"]["points"]) == saved_images.POINTS
    assert saved_images.read(tmp_path / "nowhere") == {}


def test_damaged_pictures_are_an_error(leave, tmp_path):
    """A truncated file is named."""
    rows = {"generation": {"samples": plain(GREYS)}}
    folders = [leave(rows, name, method=name) for name in "ab"]
    (folders[1] / saved_images.IMAGES_FILE).write_bytes(b"short")
    with pytest.raises(StorageError, match=saved_images.IMAGES_FILE):
        draw(folders, tmp_path / "figure.png")


def test_strips_have_room_for_their_words(tmp_path):
    """One column of images still leaves a figure as wide as its heading."""
    band = [
        image_grids.Section("a heading of forty letters, more or less", [("x", plain(GREYS[:1]))])
    ]
    image_grids.strips(tmp_path / "strip.png", [band])
    pixels = np.asarray(Image.open(tmp_path / "strip.png").convert("L"))
    assert (pixels[:, -5:] > 250).all()


def test_grid_is_as_square_as_it_can_be(tmp_path):
    """Ten images make three lines of four, the last two places white."""
    image_grids.image_grid(tmp_path / "grid.png", plain(torch.full((10,), 0.5)))
    pixels = np.asarray(Image.open(tmp_path / "grid.png").convert("L")).astype(int)
    height, width = pixels.shape
    assert height / width == pytest.approx(3 / 4, abs=0.02)
    middle = pixels[height // 6 :: height // 3, width // 8 :: width // 4]
    np.testing.assert_allclose(middle, [[128] * 4, [128] * 4, [128, 128, 255, 255]], atol=1)
