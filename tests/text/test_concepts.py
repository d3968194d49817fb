"""The dataset ``concepts``: prompts alone, of files or of a published set."""

from __future__ import annotations

import json
import re

import pytest
import torch

from msgm_bench import DataStats, ItemDrawing, MsgmBenchError, OptionError, UsageError
from msgm_bench.cache.fingerprint import data_fingerprint
from msgm_bench.experiment.loaded_data import load as load_once
from msgm_bench.testing import check_dataset
from msgm_builtin.judges.reports import predict_held_out, quality_of, report_of
from msgm_text.datasets.concepts import Concepts

PAINTERS = (
    "concepts: {van gogh: {prompts: {target: [sunflowers]}}, monet: {prompts: {target: [m]}}}"
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder, and no data of the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MSGM_BENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    load_once.cache_clear()
    return tmp_path


def load(**options):
    """The data."""
    return Concepts.create(options).load()


def test_prompts_without_items(here):
    """No images, the shape of images, concepts that can be forgotten, captions to draw by."""
    (here / "painters.yaml").write_text(PAINTERS)
    data = load(file="painters.yaml", resolution=64, items=5, guidance=2.0, sampler="heun", nfe=9)
    assert (data.shape, data.levels, len(data.train), len(data.test)) == ((3, 64, 64), 256, 0, 0)
    assert data.classes == ("van gogh", "monet")
    assert data.targets(["Van Gogh"]) == (0,)
    assert data.counts() == {"van gogh": (0, 0), "monet": (0, 0)}
    assert data.drawing == ItemDrawing(5, "heun", {"nfe": 9}, 2.0, 8)
    labels = data.labels((0,))
    texts = {name: [data.prompts[i].text for i in rows] for name, rows in labels.items()}
    assert texts == {
        "retain": ["monet", "an image of monet"],
        "forget": ["van gogh", "an image of van gogh"],
    }
    assert DataStats.of(data).std == pytest.approx(12**-0.5)


def test_the_default_guidance_is_stable_diffusion_s(here):
    """s = 7.5 is w = 6.5."""
    assert load(set="unlearncanvas").drawing.guidance == 6.5


def test_other_prompts_are_other_data(here):
    """Protocol and fingerprint know the prompts, and nothing of the path."""
    facts = []
    for name, text in (("a", PAINTERS), ("b", PAINTERS), ("c", PAINTERS.replace("[m]", "[n]"))):
        (here / f"{name}.yaml").write_text(text)
        data = load(file=f"{name}.yaml")
        facts.append((data.protocol, data_fingerprint(data)))
    assert facts[0] == facts[1] != facts[2]
    assert facts[0][0] != facts[2][0]


def test_conformance(here):
    """The published set passes the checks of ``msgm_bench.testing``, those of items aside."""
    check_dataset(Concepts, {"set": "unlearncanvas"})


def test_files_are_searched_here_and_in_the_data_folders(here, monkeypatch):
    """A list of files is one book; a name in a data folder is enough."""
    place = here / "data"
    place.mkdir()
    (place / "tench.csv").write_text("prompt\na tench\n")
    (here / "church.csv").write_text("prompt,lexica_url\na church,x\n")
    monkeypatch.setenv("MSGM_BENCH_DATA", str(place))
    data = load(file=["tench.csv", "church.csv"])
    assert data.classes == ("tench", "church")
    assert any("columns that are ignored: lexica_url" in remark for remark in data.remarks)


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({}, UsageError, "neither a file nor a set was named"),
        ({"file": "x.yaml", "set": "unlearncanvas"}, UsageError, "beside -d file="),
        ({"file": "x.yaml"}, UsageError, "no file of prompts x.yaml"),
        ({"set": "hub"}, OptionError, "allowed: unlearncanvas"),
        ({"captions": ["a painting"]}, OptionError, "lacks the place {concept}"),
        ({"resolution": 500}, OptionError, "multiple of 8"),
        ({"guidance": -2}, OptionError, "a number of at least -1"),
    ],
)
def test_wrong_options_are_refused(options, error, reason):
    """The error says what is allowed."""
    with pytest.raises(error) as caught:
        load(**options)
    assert reason in str(caught.value)


def test_data_check_shows_the_prompts_of_each_group(here, bench):
    """The command counts prompts where there are no items."""
    (here / "painters.yaml").write_text(PAINTERS)
    code, out, _ = bench("data", "check", "concepts", "-d", "file=painters.yaml")
    assert code == 0
    assert re.search(r"train +4 +van gogh", out)
    assert re.search(r"target +2 +sunflowers", out)


def test_one_concept_alone_cannot_be_forgotten(here):
    """What a method keeps cannot be measured, so nothing is trained."""
    (here / "one.csv").write_text("prompt\na tench\n")
    with pytest.raises(MsgmBenchError, match="nothing but one"):
        load(file="one.csv").targets(["one"])
    assert torch.equal(load(file="one.csv").train.c, torch.zeros(0, dtype=torch.int64))


def test_a_judge_without_held_out_items_measures_nothing(here):
    """Its report is JSON with nulls, and its quality unknown, so that values carry a stamp."""
    data = load(set="unlearncanvas")
    report = report_of(data, predict_held_out(None, data, torch.device("cpu")))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["items"] == 0
    assert quality_of(report, [3]) is None
