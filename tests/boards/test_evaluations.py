"""A board's figure of quality against evaluations: drawn from sweep.json, and known by it."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from msgm_bench import MetricColumn, Row
from msgm_bench.boards import build, check
from msgm_bench.errors import MsgmBenchError, StorageError
from msgm_bench.sweep import Point, Sweep, draw_sweep, read_sweep, sweep_source

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
    assert "](sweep.png)" in text
    assert "`alpha`, seed 0, by `deis`, `sa`" in text
    assert not errors(folder)
    other = sweep.model_copy(update={"weights": "b" * 64})
    (folder / "sweep.json").write_text(other.to_json(), encoding="utf-8")
    assert "sweep.png is stale" in errors(folder)[0]
    (folder / "sweep.json").unlink()
    assert any("sweep.png shows no sweep" in error for error in errors(folder))
    assert "sweep.png" not in build(folder).text
    assert not (folder / "sweep.png").exists()


def test_a_sweep_of_another_board_is_refused(folder, sweep):
    """By what differs."""
    spec = sweep.spec.model_copy(update={"backbone": "other"})
    other = sweep.model_copy(update={"spec": spec})
    (folder / "sweep.json").write_text(other.to_json(), encoding="utf-8")
    with pytest.raises(MsgmBenchError, match="its backbone is other, the board's is net"):
        build(folder)


def test_the_picture_names_its_source(sweep, tmp_path):
    """The PNG's entry ``Source`` is the hash of all values; other values have another."""
    draw_sweep(tmp_path / "a.png", sweep)
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["Source"] == sweep_source(sweep)
    assert sweep_source(sweep.model_copy(update={"task": "other"})) != sweep_source(sweep)


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
