"""A board's figure of quality against evaluations: drawn from sweep.json, and known by it."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench import MetricColumn, Row
from msgm_bench.boards import build, check
from msgm_bench.drawing.axis import LETTER
from msgm_bench.errors import MsgmBenchError, StorageError
from msgm_bench.sweep import Point, Sweep, read_sweep, sweep_figure
from msgm_bench.sweep.figure import SAMPLE, WIDTH, legend, value_axis

SVG = "{http://www.w3.org/2000/svg}"
COLUMNS = [
    MetricColumn(metric="fid", label="FID", direction="down"),
    MetricColumn(metric="ur", label="UR", direction="down"),
]


def row(metric, value, unit="1"):
    """A row; null without a value."""
    fields = {"task": "generation", "split": "samples", "protocol": f"{metric}@1", "n": 9}
    reason = "it diverged" if value is None else None
    return Row(metric=metric, value=value, unit=unit, reason=reason, **fields)


def point(sampler, nfe, fid, ur=5.0):
    """A point with both values."""
    rows = [row("fid", fid), row("ur", ur, "%")]
    hashes = {"fid@1": "0" * 12, "ur@1": "1" * 12}
    return Point(sampler=sampler, nfe=nfe, evaluations=nfe, rows=rows, protocols=hashes)


@pytest.fixture
def sweep(everything):
    """Two samplers, of which one has no value at 8, of a run of the board."""
    points = [point("deis", 8, None), point("deis", 16, 2.0), point("sa", 8, 300.0, 0.0)]
    spec = next(result.spec for result in everything if result.spec.method == "alpha")
    fields = {"weights": "a" * 64, "task": "generation", "columns": COLUMNS, "points": points}
    return Sweep(spec=spec, **fields)


def errors(folder):
    """The errors of a board."""
    return [str(problem) for problem in check(folder) if problem.error]


def test_the_page_has_the_figure(folder, sweep):
    """Built, stale once the values differ, and gone with the file."""
    (folder / "sweep.json").write_text(sweep.to_json(), encoding="utf-8")
    text = build(folder).text
    assert "](sweep.svg)" in text
    assert "`alpha`, seed 0, by `deis`, `sa`" in text
    assert not errors(folder)
    other = sweep.model_copy(update={"points": sweep.points[:2]})
    (folder / "sweep.json").write_text(other.to_json(), encoding="utf-8")
    assert any("sweep.svg is stale" in error for error in errors(folder))
    (folder / "sweep.json").unlink()
    assert any("sweep.svg shows nothing of the board" in error for error in errors(folder))
    assert "sweep.svg" not in build(folder).text
    assert not (folder / "sweep.svg").exists()


def test_a_sweep_of_another_board_is_refused(folder, sweep):
    """By what differs."""
    spec = sweep.spec.model_copy(update={"backbone": "other"})
    other = sweep.model_copy(update={"spec": spec})
    (folder / "sweep.json").write_text(other.to_json(), encoding="utf-8")
    with pytest.raises(MsgmBenchError, match="its backbone is other, the board's is net"):
        build(folder)


def test_the_figure_is_one_document_whatever_the_words(sweep):
    """A panel a column with its ticks, a line a sampler; labels of others are escaped."""
    columns = [COLUMNS[0].model_copy(update={"label": "a < b & \x1b[31m'c'\""}), COLUMNS[1]]
    root = ET.fromstring(sweep_figure(sweep.model_copy(update={"columns": columns})))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {"deis", "sa", "8", "16", "UR (%) ↓", "network evaluations a sample"} <= set(texts)
    assert any(text.startswith("a < b &") for text in texts)
    lines = [element for element in root.iter(f"{SVG}path") if "line" in element.get("class")]
    assert len(lines) == 2 + 2 + 2, "two samplers in two panels and in the legend"


def test_a_page_has_the_figure_without_a_style_of_its_own(sweep):
    """Its colours are the page's; a file has them as numbers."""
    assert "<style" not in sweep_figure(sweep, is_file=False)
    written = sweep_figure(sweep)
    assert "<style" in written
    assert "var(" not in written


@pytest.mark.parametrize(
    ("values", "is_share", "log"),
    [
        ([1.0, 4.9], False, False),
        ([1.0, 5.1], False, True),
        ([0.0, 90.0], True, False),
        ([2.0], False, False),
        ([], False, False),
    ],
)
def test_larger_values_are_higher(values, is_share, log):
    """On both kinds of axis; one is logarithmic where positive values are far from each other."""
    axis = value_axis([(value, value, value) for value in values], 200.0, 10.0, is_share)
    assert axis.log == log
    assert [axis(v) for v in sorted(values)] == sorted(map(axis, values), reverse=True)
    assert all(10 <= axis(value) <= 200 for value in values)
    assert all(float(text) <= 100 for _, text in axis.ticks if is_share)


@given(st.lists(st.text("abc_", min_size=1, max_size=30), max_size=40))
def test_keys_of_a_legend_are_inside_and_apart(names):
    """Whatever the number and the length of the names."""
    keys, bottom = legend(names, 300.0)
    assert all(key.y <= bottom for key in keys)
    for key, following in itertools.pairwise(keys):
        end = key.x + SAMPLE + 6 + LETTER * len(key.text)
        assert end <= WIDTH
        assert following.y > key.y or following.x > end


def test_a_sweep_is_read_as_it_was_written(sweep, tmp_path):
    """All fields survive the file."""
    (tmp_path / "sweep.json").write_text(sweep.to_json(), encoding="utf-8")
    assert read_sweep(tmp_path / "sweep.json") == sweep


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("schema"), "schema"),
        (lambda d: d["points"].append(d["points"][0]), "a sampler has a budget twice"),
        (lambda d: d.update(weights="../x"), "weights"),
        (lambda d: d.update(points=[]), "points"),
        (lambda d: d["points"][0].update(sampler="<b>"), "sampler"),
        (lambda d: d["points"][0].update(evaluations=0), "evaluations"),
        (lambda d: d["columns"][0].update(label="x" * 99), "label"),
    ],
)
def test_hostile_sweeps_are_refused_in_a_sentence(sweep, tmp_path, change, message):
    """What breaks the schema is named; no value of the file reaches a page."""
    document = json.loads(sweep.to_json())
    change(document)
    (tmp_path / "sweep.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(StorageError, match=message):
        read_sweep(tmp_path / "sweep.json")


def test_a_list_is_no_sweep(tmp_path):
    """JSON that is no mapping is refused, too."""
    (tmp_path / "sweep.json").write_text("[]", encoding="utf-8")
    with pytest.raises(StorageError, match="it holds no mapping"):
        read_sweep(tmp_path / "sweep.json")
