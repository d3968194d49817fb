"""The plot of a board: axes, front and labels, and an SVG that is one."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench.boards import build
from msgm_bench.boards.board import Column
from msgm_bench.boards.pages import page
from msgm_bench.boards.panels import panel
from msgm_bench.boards.ranking import series
from msgm_bench.boards.scatter import BOTTOM, LEFT, RIGHT, TOP, staircase
from msgm_bench.drawing.axis import Axis, covered, spaced
from msgm_bench.drawing.labels import Label, place_labels

BOARDS = sorted((Path(__file__).parents[2] / "leaderboards").glob("*/plot.svg"))
NUMBERS = st.floats(-1e6, 1e6)
PIXELS = st.tuples(st.floats(LEFT, RIGHT), st.floats(TOP, BOTTOM))


@given(st.lists(NUMBERS, min_size=1, max_size=8), st.sampled_from((1, -1)))
def test_better_is_nearer_the_better_end(values, sign):
    """The order of pixels is the order of values, turned where lower is better; all inside."""
    axis = Axis.covering(values, sign, LEFT, RIGHT)
    ordered = sorted(values, key=lambda value: -sign * value)
    pixels = [axis(value) for value in ordered]
    assert pixels == sorted(pixels)
    assert all(LEFT <= pixel <= RIGHT for pixel in pixels)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis(0.0, 1.0, 0.0, 100.0, -1), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (Axis(-8.0, 108.0, 0.0, 100.0, -1, most=100.0), ["0", "20", "40", "60", "80", "100"]),
        (Axis(0.08, 3.0, 100.0, 0.0, 1, log=True), ["0.1", "0.2", "0.5", "1", "2"]),
    ],
)
def test_ticks_are_round_and_possible(axis, expected):
    """Steps of 1, 2 or 5 times a power of ten, none beyond the largest value that can be."""
    assert [text for _, text in axis.ticks] == expected


def test_magnitudes_make_an_axis_logarithmic():
    """Equal ratios are equal distances; values that are near keep a plain axis."""
    axis = Axis.spreading([0.1, 1.0, 10.0], 0.0, 100.0)
    assert math.isclose(axis(0.1) - axis(1.0), axis(1.0) - axis(10.0))
    assert axis(0.0) == axis(axis.low), "zero stands at the border"
    assert Axis.spreading([1.0, 2.0], 0.0, 100.0) is None


@given(st.lists(PIXELS, max_size=9))
def test_the_front_is_what_no_other_dominates(spots):
    """The corners hold exactly the spots that none is at least as good as in both, by force."""
    front = staircase(spots)
    best = {a for a in spots if not any(b != a and b[0] >= a[0] and b[1] <= a[1] for b in spots)}
    assert set(front) & set(spots) >= best
    assert bool(front) == bool(spots)
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in itertools.pairwise(front))


def test_labels_do_not_lie_on_each_other():
    """Twelve methods at one place have labels that are all free of the others and of the marker."""
    labels = place_labels([Label(f"method-{i}", 300.0, 200.0) for i in range(12)], (0, 0, 720, 440))
    boxes = [label.box for label in labels]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_the_plot_is_one_document_with_all_methods(folder, definition, everything, write):
    """Whatever the names and the title, it parses as XML and each method has its label."""
    definition["title"] = "a < b & \x1b[31m'c'\""
    write(folder, everything, definition)
    root = ET.fromstring(build(folder).files["plot.svg"])
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(definition["methods"]) <= set(texts)


def test_panels_are_drawn_where_the_board_has_them(folder, definition, everything, write):
    """A panel each, in one document whatever the labels; without the key there is no file."""
    definition["panels"] = [
        {"metric": "nll", "split": "forget", "label": "a < b & \x1b[31m'c'\""},
        {"metric": "ur", "split": "samples"},
    ]
    write(folder, everything, definition)
    built = build(folder)
    root = ET.fromstring((folder / "panels.svg").read_text("utf-8"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(definition["methods"]) <= set(texts)
    assert "](panels.svg)" in built.text
    del definition["panels"]
    write(folder, everything, definition)
    assert "panels.svg" not in build(folder).text
    assert not (folder / "panels.svg").exists()


@pytest.mark.parametrize(("metric", "split", "sign"), [("ur", "samples", 1), ("nll", "forget", -1)])
def test_better_is_right_in_a_panel(folder, metric, split, sign):
    """Dots stand in the order of the means, and the dashed line is the reference's."""
    built = page(folder)
    quantity = Column(metric=metric, split=split)
    drawn = panel(built.board, built.frame, built.ranked, quantity, (100.0, 200.0))
    rows = [row.method for row in built.ranked]
    means = {method: series(built.frame, method, quantity.key).mean() for method in rows}
    by_pixel = sorted(range(len(rows)), key=lambda i: drawn.dots[i].x)
    assert [rows[i] for i in by_pixel] == sorted(rows, key=lambda method: -sign * means[method])
    assert drawn.reference == drawn.dots[rows.index(built.board.gate.reference)].x
    assert all(100 <= dot.left <= dot.x <= dot.right <= 200 for dot in drawn.dots)


def test_an_interval_that_is_much_longer_does_not_stretch_the_axis():
    """Means and near ends count; those more than the means' range away do not."""
    assert covered([(0.0, -0.5, 0.5), (1.0, -90.0, 92.0)]) == [0.0, 1.0, -0.5, 0.5]
    assert covered([(1.0, 0.0, 2.0)]) == [1.0, 0.0, 2.0]
    assert covered([]) == []


def test_texts_of_ticks_do_not_touch():
    """Every fourth of ticks at ten pixels with texts of 26, and all of those that are free."""
    ticks = [(10.0 * i, "0.25") for i in range(10)]
    assert spaced(ticks) == ticks[::4]
    assert spaced(ticks[::4]) == ticks[::4]
    assert spaced([]) == []
    assert spaced(ticks, is_upright=True) == ticks[::2], "a line is 13 pixels"


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.parent.name)
def test_pages_are_short(path):
    """A page has at most 80 lines and seven columns of values, and its plot is there."""
    text = (path.parent / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 80
    header = next(line for line in text.splitlines() if line.startswith("| Rank"))
    assert 7 <= header.count("|") - 1 <= 11  # rank, method, options and trust among them
    assert "](plot.svg)" in text
