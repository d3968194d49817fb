"""The picture of a board: imported with the runs, drawn beside the page, known by its sources."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from msgm_bench.boards import build, check, load
from msgm_bench.boards.figure import draw
from msgm_bench.boards.picture import import_images, table
from msgm_bench.errors import UsageError
from msgm_bench.report import saved_images
from msgm_bench.report.image_table import Table, draw_tables
from msgm_bench.report.sample_sheets import SIDE, thumbnails
from msgm_bench.storage import dump_yaml

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
GREEN, BLACK = (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)
CIRCLE, RING = "target: a red circle", "neighbour: a blue ring"


def plain(*colours, size=8):
    """A plain image of each colour."""
    return torch.tensor(colours)[:, :, None, None].expand(-1, -1, size, size).contiguous()


def boxes(path, colour):
    """Left, right, top and bottom of each block of a colour in the order of reading."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    there = (abs(pixels - np.round(255 * np.array(colour))) <= 1).all(axis=2)
    rows = np.flatnonzero(np.diff(np.pad(there.sum(axis=1) > 20, 1).astype(int)))
    blocks = []
    for top, bottom in rows.reshape(-1, 2):
        part = there[(top + bottom) // 2]
        columns = np.flatnonzero(np.diff(np.pad(part, 1).astype(int))).reshape(-1, 2)
        blocks += [(left, right, top, bottom) for left, right in columns if right - left > 10]
    return blocks


@pytest.fixture
def runs(tmp_path, everything):
    """Run folders of seed 0 with images of two prompts, all but beta's."""
    for result in everything:
        if result.spec.seed == 0:
            folder = tmp_path / "runs" / result.spec.method
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(result.to_json(), encoding="utf-8")
            if result.spec.method != "beta":
                rows = {CIRCLE: plain(RED, BLUE, RED), RING: plain(BLUE, GREEN)}
                saved_images.write(folder, {"prompts": rows, "other": {"x": plain(BLACK)}})
    return tmp_path / "runs"


@pytest.fixture
def pictured(folder, definition):
    """The board with a picture, as its board.yaml has it."""
    definition["picture"] = {"task": "prompts", "images": 2}
    (folder / "board.yaml").write_text(dump_yaml(definition), encoding="utf-8")
    return folder


def test_cells_are_where_their_row_and_column_are(tmp_path):
    """The images of a column stand above each other, those of a row beside; an empty cell stays."""
    rows = {"alpha": {CIRCLE: plain(RED, BLUE), RING: plain(GREEN)}, "beta": {RING: plain(GREEN)}}
    draw_tables(tmp_path / "a.png", [Table("Two", (CIRCLE, RING), rows)], "the source")
    (red,), (blue,), greens = (boxes(tmp_path / "a.png", c) for c in (RED, BLUE, GREEN))
    assert len(greens) == 2
    assert red[2:] == blue[2:] == greens[0][2:]
    assert red[1] <= blue[0] < blue[1] <= greens[0][0]
    assert greens[0][:2] == greens[1][:2]
    assert greens[1][2] > greens[0][3]
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["Source"] == "the source"


def test_a_board_has_the_images_of_its_runs(pictured, runs):
    """Two images a column of the named task, in the page's order, and a warning on who has none."""
    built = build(pictured, runs)
    assert list(built.picture.columns) == [CIRCLE, RING]
    order = [row.method for row in built.ranked if row.method != "beta"]
    assert list(built.picture.rows) == order
    assert [len(x) for x in built.picture.images] == [2, 2] * 3
    assert len(boxes(pictured / "picture.png", RED)) == 3
    assert not boxes(pictured / "picture.png", BLACK)
    assert "](picture.png)" in built.text
    assert "the picture lacks beta: no run of its seed left images" in built.warnings


def test_a_stale_picture_is_an_error(pictured, runs):
    """Missing, drawn from other images, no PNG at all, or of a board that has none any more."""
    build(pictured, runs)

    def errors():
        return [str(problem) for problem in check(pictured) if problem.error]

    assert not errors()
    image = pictured / "picture.png"
    content = image.read_bytes()
    for change, message in (
        (image.unlink, "picture.png is missing: run msgm-bench board build"),
        (lambda: image.write_bytes(b"no picture"), "picture.png is stale"),
        (lambda: Image.new("RGB", (3, 3)).save(image), "picture.png is stale"),
    ):
        change()
        assert message in errors()[0]
    image.write_bytes(content)
    saved_images.write(pictured / "images" / "alpha", {"prompts": {CIRCLE: plain(GREEN)}})
    assert "picture.png is stale" in errors()[0]
    build(pictured)
    assert not errors()
    (pictured / "board.yaml").write_text(
        (pictured / "board.yaml").read_text("utf-8").replace("task: prompts", "task: nothing"),
        encoding="utf-8",
    )
    assert "picture.png shows no images of the board" in errors()[-1]
    build(pictured)
    assert not image.exists()


def test_a_run_without_images_removes_older_ones(pictured, runs, everything):
    """A newer result does not stand beside pictures of the older; other seeds change nothing."""
    build(pictured, runs)
    alpha = {r.spec.seed: r for r in everything if r.spec.method == "alpha"}
    import_images(load(pictured), pictured, runs / "beta", alpha[1])
    assert "alpha" in table(load(pictured), pictured, ["alpha"]).rows
    import_images(load(pictured), pictured, runs / "beta", alpha[0])
    assert table(load(pictured), pictured, ["alpha"]) is None


def test_columns_that_no_method_has_are_refused(pictured, runs, definition):
    """The error has the nearest caption and all of them."""
    definition["picture"]["captions"] = ["target: a red circel"]
    (pictured / "board.yaml").write_text(dump_yaml(definition), encoding="utf-8")
    with pytest.raises(UsageError, match="did you mean 'target: a red circle'") as caught:
        build(pictured, runs)
    assert caught.value.allowed == f"{CIRCLE}, {RING}"


def test_large_images_become_small():
    """Means of areas: halves of a plain picture keep their colours; small ones stay as they are."""
    x = torch.cat([plain(RED, size=128), plain(BLUE, size=128)], dim=3)
    small = thumbnails(x)
    assert small.shape == (1, 3, SIDE // 2, SIDE)
    assert torch.equal(small[:, :, :, : SIDE // 2], plain(RED, size=SIDE // 2))
    assert thumbnails(plain(RED)).shape == (1, 3, 8, 8)


def test_text_runs_side_by_side_have_prompts_as_columns(tmp_path, make):
    """Runs of the text track are compared in a table: a block of each method, in one column."""
    for name, colour in (("alpha", RED), ("beta", GREEN)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(make(method=name, text=True).to_json(), "utf-8")
        saved_images.write(folder, {"prompts": {CIRCLE: plain(colour), RING: plain(BLUE)}})
    target = tmp_path / "figure.png"
    assert draw(sorted((tmp_path / "runs").iterdir()), target) == [target]
    (red,), (green,), blues = (boxes(target, c) for c in (RED, GREEN, BLUE))
    assert red[:2] == green[:2]
    assert blues[0][:2] == blues[1][:2]
    assert [box[2:] for box in blues] == [red[2:], green[2:]]
    assert blues[0][0] > red[1]
