"""The published numbers, what is said of them, and how they map to runs."""

from __future__ import annotations

import hashlib
import importlib.resources
import math
from collections import Counter
from pathlib import Path

import pytest

from msgm_bench import Method
from msgm_bench.api import Settings, merge
from msgm_bench.registry import registry
from msgm_builtin.backbones.vpsde import VPSDE
from msgm_builtin.datasets.gaussians import MixtureDensity
from msgm_builtin.metrics.frontier import Frontier
from msgm_paper import caveats
from msgm_paper.mapping import MSGM, STATED, kind, quantity, setting
from msgm_paper.margins import MARGINS
from msgm_paper.tables import FILE, TITLES, published_values

ROOT = Path(__file__).parents[2]
ROWS = {1: 6, 2: 66, 3: 78, 4: 26, 5: 10, 6: 34, 7: 20}
UNITS = {
    "ur": {"%"},
    "nll": {"bits/dim", "bits/dim+8"},
    "acc": {"%"},
    "fid": {"1"},
    "clip": {"embedding distance"},
    "psnr": {"dB"},
    "ssim": {"1"},
}


def test_the_file_is_whole():
    """As many values as each of the paper's tables has, from a file that nobody touched."""
    assert Counter(entry.table for entry in published_values()) == ROWS
    assert set(TITLES) == set(ROWS)
    content = (importlib.resources.files("msgm_paper") / FILE).read_bytes()
    assert hashlib.sha256(content).hexdigest() == (
        "ef165e88bb3b9b92b7dd09261e833b50a674e2ed1c13462d12fce3e6b4e63021"
    )


def test_every_value_has_one_place():
    """No place has two values, and units belong to metrics."""
    places = [
        (c.table, c.dataset, c.backbone, c.method, c.metric, c.split) for c in published_values()
    ]
    assert len(set(places)) == len(places)
    for entry in published_values():
        assert entry.unit in UNITS[kind(entry)], entry
        assert (entry.unit == "bits/dim+8") == (entry.dataset == "gaussians")
        assert math.isfinite(entry.value)
        assert entry.unit != "%" or 0 <= entry.value <= 100


@pytest.mark.parametrize("table", [2, 6, 7])
def test_ratios_of_classes_add_up(table):
    """Each class's unlearning ratio and that of both agree to what rounding leaves."""
    both = [
        c for c in published_values() if (c.table, c.metric) == (table, "ur") and "," in c.forget
    ]
    assert len(both) == {2: 10, 6: 10, 7: 4}[table]
    for whole in both:
        parts = [
            entry.value
            for entry in published_values()
            if entry.metric.startswith("ur:")
            and (entry.table, entry.backbone, entry.method) == (table, whole.backbone, whole.method)
            and entry.dataset == whole.dataset
        ]
        assert len(parts) == 2
        assert sum(parts) == pytest.approx(whole.value, abs=0.11)


def test_names_are_those_of_the_bench():
    """Datasets, backbones, methods and their options are registered."""
    for entry in published_values():
        target = setting(entry)
        assert target.dataset in registry().names("datasets")
        assert target.backbone in registry().names("backbones")
        assert target.method in {*registry().names("methods"), ""}
        assert quantity(entry).task in registry().names("tasks")
    for name, stated in STATED.items():
        cls: type[Method] = registry().entry("methods", name).cls
        assert cls.create(stated).options == cls.create(MSGM).options, "the rest are defaults"


def test_baselines_are_retrained(entry):
    """In the tables of fine-tuning, too, standard and unseen are models trained from scratch."""
    for table, metric, split in ((5, "nll", "retain"), (6, "ur", "samples")):
        place = {"dataset": "cifar10", "backbone": "vpsde"}
        assert setting(entry(table, "unseen", metric, split, **place)).regime == "retrain"
    assert setting(entry(6, "ort", "ur", dataset="celeba")).regime == "finetune"


def test_budgets_are_those_of_the_presets():
    """The steps that the paper states are those of the preset ``paper``, DDPM's included."""
    for target in {setting(entry) for entry in published_values()}:
        kinds = (("datasets", target.dataset), ("backbones", target.backbone))
        layers = [registry().entry(*kind).cls.presets["paper"] for kind in kinds]
        budget = Settings.model_validate(merge(*layers)).budget(target.regime == "finetune")
        assert target.steps in (None, budget.steps), target
    stated = {target.steps for target in map(setting, published_values())}
    assert stated == {None, 30_000, 80_000, 660_000}


def test_margins_are_documented():
    """Every metric has a margin, in the unit of its values, and the page says the same."""
    assert set(MARGINS) == {kind(entry) for entry in published_values()}
    page = (ROOT / "docs" / "paper.md").read_text("utf-8")
    for metric, margin in MARGINS.items():
        unit = "" if margin.unit == "1" else f" {margin.unit}"
        assert f"| `{metric}` | {margin.width:g}{unit} | {margin.reason} |" in page


# Caveats ----------------------------------------------------------------------------------


def flawed(**where):
    """Cells with an objection, among those of ``where``."""
    chosen = [c for c in published_values() if all(getattr(c, k) == v for k, v in where.items())]
    assert chosen
    return {c for c in chosen if caveats.objections(c)}, set(chosen)


def test_every_caveat_concerns_some_value():
    """None is idle."""
    for caveat in caveats.CAVEATS:
        assert any(caveat.concerns(entry) for entry in published_values()), caveat.reason


def test_what_is_no_target():
    """FID, PSNR, one batch of inpainting, real images, guesses, the impossible value; no other."""
    for where in (
        {"metric": "fid"},
        {"metric": "psnr"},
        {"metric": "acc", "task": "inpainting"},
        {"method": "real-data"},
        {"method": "ort?"},
        {"method": "obt?"},
        {"table": 1, "method": "msgm"},
    ):
        actual, chosen = flawed(**where)
        assert actual == chosen, where
    for where in ({"metric": "ur"}, {"metric": "ssim"}, {"table": 1, "method": "unseen"}):
        assert not flawed(**where)[0], where
    assert len(flawed()[0]) == 70


def test_the_impossible_value_is_impossible(entry):
    """The toy's value lies below the frontier's own quadrature, which gives the reason's 11.04."""
    forget, retain = (entry(1, "msgm", "nll", split) for split in ("forget", "retain"))
    nats = 2 * math.log(2)  # a bit/dim in the plane; + 8 by the paper's convention
    frontier = Frontier.of(MixtureDensity(), (0, 2), (1,), 12.0)
    least = frontier.lowest_retain((forget.value - 8) * nats)[0] / nats + 8
    assert least == pytest.approx(11.04, abs=0.005)
    assert retain.value < least
    assert "less than 11.04" in caveats.objections(forget)[0]


def test_wrap_around_explains_the_psnr(entry):
    """Squares of uniform differences modulo 256, half an image masked: within 0.3 dB of table 3."""
    wrapped = sum(k * k % 256 for k in range(256)) / 256
    assert wrapped == 105.5
    psnr = 10 * math.log10(255**2 / (wrapped / 2))
    assert psnr == pytest.approx(30.9, abs=0.05)
    for dataset in ("cifar10", "stl10"):
        stated = entry(3, "standard", "psnr", "retain", dataset=dataset)
        assert stated.value == pytest.approx(psnr, abs=0.3)


def test_the_other_sampler_is_a_remark():
    """Every ratio of CIFAR-10 on vpsde, and no other value, tells of the ODE and stays a target."""
    assert VPSDE.presets["paper"]["tasks"]["generation"] == {"sampler": "em", "nfe": 1000}
    with_ode = {
        c
        for c in published_values()
        if any("ODE" in remark for remark in caveats.remarks(c, published_values()))
    }
    assert with_ode == {
        c
        for c in published_values()
        if (c.dataset, c.backbone) == ("cifar10", "vpsde") and c.metric.startswith("ur")
    }
    assert {c.table for c in with_ode} == {2, 6}
    assert not any(caveats.objections(c) for c in with_ode)


def test_remarks_on_how_the_authors_measure(entry):
    """Raw weights, counts by argmax, another EraseDiff, training images, bytes without a clamp."""
    mnist = {"dataset": "mnist"}
    expected = (
        (entry(2, "unseen", "nll", "forget", **mnist), "raw weights", True),
        (entry(2, "ort", "nll", "forget", **mnist), "raw weights", False),
        (entry(1, "unseen", "nll", "forget"), "raw weights", False),
        (entry(2, "ort", "ur:3", **mnist), "ur_argmax", True),
        (entry(2, "erasediff", "ur", **mnist), "39.6 times less weight", True),
        (entry(2, "obt", "ur", **mnist), "39.6 times less weight", False),
        (entry(2, "obt", "nll", "forget", dataset="stl10"), "training-set figure", True),
        (entry(4, "obt", "acc", "forget"), "without a clamp", True),
    )
    for place, words, there in expected:
        assert (
            any(words in remark for remark in caveats.remarks(place, published_values())) == there
        ), place


def test_rows_that_count_as_the_paper_does(entry):
    """Ratios are those of the most likely class, and reconstruction is that of the latent."""
    assert quantity(entry(2, "ort", "ur:3", dataset="mnist")).metric == "ur_argmax:3"
    assert quantity(entry(6, "ort", "ur", dataset="celeba")).metric == "ur_argmax"
    assert quantity(entry(4, "ort", "acc", "forget")).variant == "/reconstruction@2"
    erased = setting(entry(2, "erasediff", "ur", dataset="mnist"))
    assert (erased.method, erased.regime) == ("erase", "retrain")
    assert erased.params == {"alpha": 0.99, "forget_interval": 4}


def test_contradictions_are_remarks(entry):
    """Where the paper has two values for one model, each remark names the other."""
    ort = entry(2, "ort", "nll", "forget", dataset="mnist")
    assert any("14.75 in table 7" in remark for remark in caveats.remarks(ort, published_values()))
    again = entry(7, "ort(alpha=0.99)", "nll", "forget")
    assert any(
        "13.23 in table 2" in remark for remark in caveats.remarks(again, published_values())
    )
    base = entry(5, "standard", "nll", "retain")
    assert any("3.12 in table 2" in remark for remark in caveats.remarks(base, published_values()))
    other = entry(7, "ort(alpha=0.9)", "nll", "forget")
    assert not any("contradicts" in remark for remark in caveats.remarks(other, published_values()))
