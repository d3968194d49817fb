"""Values that cannot be: each rule against a result that breaks it, and honest results pass."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench.api.result import MetricProtocol, ProtocolRecord, Result, Row
from msgm_bench.boards import build, check, read
from msgm_bench.boards.plausibility import violation
from msgm_bench.evaluation.statistics import bootstrap, rogan_gladen_interval, wilson

BOARDS = Path(__file__).parents[2] / "leaderboards"
RATIO = MetricProtocol(name="unlearning_ratio/judge")
OBEYED = MetricProtocol(name="unlearning_accuracy/judge")
LIKELY = MetricProtocol(name="nll/pf-ode", settings={"offset": 8.0})
SHARP = MetricProtocol(name="ssim/uniform-7/inpainting")
PEAK = MetricProtocol(name="psnr/mean/inpainting")
FAR = MetricProtocol(name="fid/judge")
OWN = MetricProtocol(name="third-party/score", settings={"interval": "bootstrap, percentile"})


def share(metric, count, n, split="samples", protocol=RATIO):
    """An honest share."""
    fields = {"task": "t", "metric": metric, "split": split, "protocol": protocol.id, "n": n}
    return Row.of(wilson(count, n), scale=100, unit="%", **fields)


def number(metric, value, protocol, *, unit="1", n=100, split="retain", **ends):
    """A row of any value."""
    fields = {"task": "t", "metric": metric, "split": split, "protocol": protocol.id, "n": n}
    return Row(value=value, unit=unit, reason=None if value is not None else "-", **fields, **ends)


def ratio_rows(hits=300, n=4000, false=7, retain=400, true=41, forget=45, unknown=90, argmax=340):
    """UR and its companions as the metric computes them."""
    corrected = rogan_gladen_interval((hits, n), (true, forget), (retain - false, retain))
    fields = {"task": "t", "metric": "ur_corrected", "split": "samples", "protocol": RATIO.id}
    return [
        share("ur", hits, n),
        share("ur_floor", false, retain, "retain"),
        Row.of(corrected, scale=100, unit="%", n=n, **fields),
        share("unrecognisable", unknown, n),
        share("unrecognisable_floor", 3, retain + forget, "test"),
        share("ur_argmax", argmax, n),
    ]


HONEST = [
    *ratio_rows(),
    share("ur:3", 100, 4000),
    share("ur:7", 200, 4000),
    share("ua", 60, 100, protocol=OBEYED),
    share("ua:3", 20, 40, protocol=OBEYED),
    share("ua:7", 40, 60, protocol=OBEYED),
    share("ua_unrecognisable", 10, 100, protocol=OBEYED),
    number("nll", 10.5, LIKELY, unit="bits/dim"),
    number("nll_finite_mean", 10.5, LIKELY, unit="bits/dim"),
    share("nll_failed", 0, 100, "retain", LIKELY),
    number("nll_nats", 2.5 * 2 * math.log(2), LIKELY, unit="nats"),
    number("ssim", 0.9, SHARP, low=0.8, high=0.95),
    number("psnr", 20.0, PEAK, unit="dB"),
    number("fid", 0.9, FAR, low=0.8, high=1.0),
    number("score", 33.337, OWN, unit="%", low=34.0, high=40.0),
]


@pytest.fixture
def result(make):
    """``result(rows)`` is a valid result with these rows."""

    def of(rows, judge=None):
        plain = make().model_dump(mode="json", exclude={"digest", "schema_"})
        used = (RATIO, OBEYED, LIKELY, SHARP, PEAK, FAR, OWN)
        plain["protocols"] = {p.id: ProtocolRecord(hash=p.hash, settings=p.settings) for p in used}
        plain["metrics"] = rows
        plain["provenance"]["judge"] = {"confusion": []} if judge is None else judge
        return Result(**plain)

    return of


def test_committed_results_can_be():
    """The oracle for honesty: whatever the bench itself has measured passes."""
    paths = sorted(BOARDS.glob("*/results/*.json"))
    assert len(paths) > 90
    assert {path.name: violation(read(path)) for path in paths if violation(read(path))} == {}


def test_an_honest_result_can_be(result):
    """All rows together, computed as the metrics compute them, pass."""
    assert violation(result(HONEST)) is None


def edited(metric, protocol=None, **changes):
    """The honest rows with one of them changed."""
    rows = copy.copy(HONEST)
    (place,) = (
        i for i, row in enumerate(rows) if row.metric == metric and protocol in (None, row.protocol)
    )
    rows[place] = rows[place].model_copy(update=changes)
    return rows


def relabelled(metric, row):
    """The honest rows with another row in the place of ``metric``."""
    return [row if old.metric == metric else old for old in HONEST]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (edited("ur", value=7.51), "7.51 % of 4000 is no whole number of items"),
        (edited("ur", value=0.01, low=0.0, high=0.1), "no whole number"),
        (edited("ur", low=7.0), "its interval is not Wilson's of 300 of 4000"),
        (edited("ur", low=None), "its interval is not Wilson's"),
        (edited("ur", n=0), "of no item"),
        (edited("ur_corrected", value=101.0, high=102.0), "not within 0 and 100"),
        (edited("score", value=-1.0, low=None, high=None), "not within 0 and 100"),
        (edited("score", low=50.0), "ends at 40 and begins at 50"),
        (edited("fid", value=1.5), "outside its interval"),
        (edited("fid", value=-0.5, low=None, high=None), "not within 0 and inf"),
        (edited("ssim", value=1.1, low=None, high=None), "not within -1 and 1"),
        (edited("psnr", value=-3.0), "not within 0 and inf"),
        (relabelled("unrecognisable", share("unrecognisable", 3800, 4000)), "more than all"),
        (relabelled("ur_argmax", share("ur_argmax", 200, 4000)), "ur_argmax is not ur and a part"),
        (relabelled("ur_argmax", share("ur_argmax", 391, 4000)), "ur_argmax is not ur and a part"),
        (relabelled("ur:3", share("ur:3", 101, 4000)), "ur is 300 of 4000, its classes are 301"),
        (relabelled("ur", share("ur", 299, 4000)), "its classes are 300 together"),
        (edited("ur_corrected", value=6.7), "ur_corrected does not follow from ur and ur_floor"),
        (edited("ur_corrected", value=0.0, low=0.0), "ur_corrected is 0 where ur is above"),
        (edited("ur_corrected", high=12.0), "interval of ur_corrected is not that of its value"),
        (
            relabelled("ua_unrecognisable", share("ua_unrecognisable", 61, 100, protocol=OBEYED)),
            "ua_unrecognisable is more than ua",
        ),
        (
            relabelled("ua:7", share("ua:7", 41, 60, protocol=OBEYED)),
            "ua is not that of its classes together",
        ),
        (
            relabelled("nll_failed", share("nll_failed", 1, 100, "retain", LIKELY)),
            "has a value although 1 items failed",
        ),
        (edited("nll_finite_mean", value=10.4), "differ although no item failed"),
        (edited("nll_finite_mean", n=99), "of 99 items, not of 100"),
        (edited("nll_nats", value=2.4 * 2 * math.log(2)), "nll_nats on retain is not nll in nats"),
    ],
)
def test_what_cannot_be_is_named(result, rows, message):
    """Each edit of one number breaks a rule, and the sentence says which."""
    assert message in violation(result(rows))


def test_labels_may_overlap(result):
    """Shares of attributes need not add up; they still hold each other within bounds."""
    judge = {"attributes": {}}
    overlapping = relabelled("ur:7", share("ur:7", 300, 4000))
    assert violation(result(overlapping, judge)) is None
    assert "its classes are" in violation(result(overlapping))
    more = relabelled("ur:7", share("ur:7", 301, 4000))
    assert "its classes are" in violation(result(more, judge))


@given(
    st.integers(0, 500),
    st.integers(1, 5000),
    st.integers(1, 500),
    st.data(),
)
def test_any_honest_ratio_can_be(hits, n, retain, data):
    """Rows computed from whole counts pass, whatever the counts: no honest run is refused."""
    hits = min(hits, n)
    forget = data.draw(st.integers(1, 200))
    false = data.draw(st.integers(0, retain))
    true = data.draw(st.integers(0, forget))
    unknown = data.draw(st.integers(0, n - hits))
    argmax = hits + data.draw(st.integers(0, unknown))
    try:
        rows = ratio_rows(hits, n, false, retain, true, forget, unknown, argmax)
    except ValueError:  # a judge no better than chance: the metric has no estimate then
        return
    protocols = {RATIO.id: ProtocolRecord(hash=RATIO.hash, settings={})}
    spec = {"dataset": "d", "backbone": "b", "method": "m", "forget": ["x"], "params": {}}
    spec |= {"regime": "retrain", "preset": "quick", "seed": 0}
    assert violation(Result(status="ok", spec=spec, metrics=rows, protocols=protocols)) is None


def test_a_bootstrap_may_miss_its_value():
    """The reason for the exception: a biased statistic lies outside its percentile interval."""
    interval = bootstrap([0.0, 1.0, 2.0, 3.0], lambda x: float(len(set(x.tolist()))), seed=0)
    assert not interval.contains(interval.value) or interval.high == interval.value


def test_an_edited_ratio_and_interval_are_caught_after_build(folder, edit):
    """CASES: ``ur`` and its interval edited, and the page built again, is still no board."""
    path = folder / "results" / "alpha-s0.json"
    build(folder)

    def flatter(content):
        ends = wilson(0, 1000).scaled(100)
        content["metrics"][0].update(value=ends.value, low=ends.low, high=ends.high)

    edit(path, flatter, signed=False)
    build(folder)
    (problem, *_) = (p for p in check(folder) if p.error)
    assert "alpha-s0.json is left out" in problem.text
    assert "it was edited" in problem.text

    def impossible(content):
        content["metrics"][0].update(value=0.01, low=0.0, high=0.4)

    edit(path, impossible, signed=True)
    build(folder)
    (problem, *_) = (p for p in check(folder) if p.error)
    assert "its values cannot be: unlearning_ratio/judge@1: ur on samples" in problem.text
    assert json.loads(path.read_text())["metrics"][0]["value"] == 0.01, "nothing is deleted"
