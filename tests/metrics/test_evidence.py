"""Evidence: rows follow from it alone, and a stranger's is refused where none can."""

from __future__ import annotations

import pytest
import torch

from msgm_bench import Evidence, MsgmBenchError, Row
from msgm_bench.evaluation.evidence import differences, is_within
from msgm_builtin.metrics.fid import JudgeFID
from msgm_builtin.metrics.frechet import Moments, frechet_interval
from msgm_builtin.metrics.frechet_evidence import frechet_evidence
from msgm_builtin.metrics.unlearning_ratio import UnlearningRatio


def features(n, shift=0.0, seed=0):
    """Correlated features of n items."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    return torch.randn(n, 6, generator=generator) @ mix + shift


def evidence(tensors, task="generation"):
    """Evidence of a Frechet distance."""
    return Evidence(task, "fid/judge@1", {}, ("b",), tensors)


PAIRS = [
    (features(200), Moments.of([features(900, 0.3, 2)])),
    (features(200), features(200, 0.3, 2)),
]


@pytest.mark.parametrize(("x", "other"), PAIRS)
def test_features_and_moments_give_the_same_distance(monkeypatch, x, other):
    """Shipped as features the distance is exact; as moments value and interval are float32's."""
    expected = frechet_interval(x, other)
    exact = JudgeFID.recompute(evidence(frechet_evidence(x, other, full=True)))[0]
    assert (exact.value, exact.low, exact.high) == pytest.approx(
        (expected.value, expected.low, expected.high), rel=1e-9
    )
    monkeypatch.setattr("msgm_builtin.metrics.frechet_evidence.FEATURES_LIMIT", 100)
    tensors = frechet_evidence(x, other, full=False)
    assert "features" not in tensors
    assert max(tensor.numel() for tensor in tensors.values()) == 200, "the influences"
    rounded = JudgeFID.recompute(evidence(tensors))[0]
    assert rounded.n == 200
    assert (rounded.value, rounded.low, rounded.high) == pytest.approx(
        (expected.value, expected.low, expected.high), rel=1e-4
    )


def frechet_tensors(**changes):
    """Features with some tensors changed."""
    return frechet_evidence(*PAIRS[0], full=True) | changes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"features": torch.zeros(5, 6)}, r"is \(5, 6\)"),
        ({"features": torch.zeros(2, 10_000)}, r"is \(2, 10000\)"),
        ({"features": torch.full((200, 6), torch.inf)}, "finite"),
        ({"features": torch.full((200, 6), torch.nan)}, "is float32"),
        ({"features": torch.zeros(200, 6, dtype=torch.int64)}, "is int64"),
        ({"partners": torch.zeros(200, 5)}, "differ in shape"),
        ({"reference_mean": torch.zeros(10**5)}, "a mean of 100000"),
        ({"reference_covariance": torch.zeros(3)}, "a mean of 6 and 3 covariances"),
        ({"reference_n": torch.zeros(2)}, "1 dimensions|0 dimensions"),
        ({"reference_n": torch.tensor(3)}, "3 items"),
    ],
)
def test_features_that_cannot_be_are_refused(changes, reason):
    """Shapes, kinds and counts are looked at before a matrix of F x F is made."""
    with pytest.raises(MsgmBenchError, match=reason):
        JudgeFID.recompute(evidence(frechet_tensors(**changes)))


def ratio_tensors(**changes):
    """Judged classes of ten samples and of eight real items; class 1 is to be forgotten."""
    yes = torch.ones(10, dtype=torch.bool)
    samples = torch.tensor([0, 1, 1, 2, 0, 0, 2, 2, 0, 1])
    return {
        "targets": torch.tensor([1]),
        "finite": yes,
        "samples": samples,
        "samples_recognised": yes,
        "retain": torch.tensor([0, 2, 0, 2, 0, 2]),
        "retain_recognised": yes[:6],
        "forget": torch.tensor([1, 1]),
        "forget_recognised": yes[:2],
    } | changes


def test_the_ratio_is_the_share_of_judged_classes():
    """Three of ten samples are of the class to forget: 30 %, with its floor of none."""
    rows = UnlearningRatio.recompute(Evidence("generation", "u@1", {}, ("b",), ratio_tensors()))
    values = {row.metric: row.value for row in rows}
    assert values["ur"] == values["ur_argmax"] == 30.0 == pytest.approx(values["ur_corrected"])
    assert values["ur_floor"] == values["unrecognisable"] == 0.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"samples": torch.zeros(9, dtype=torch.int64)}, "is of .9, 10. items"),
        ({"samples": torch.zeros(10)}, "'samples' .* is float32"),
        ({"finite": torch.ones(1, dtype=torch.bool)}, "is of .1, 10. items"),
        ({"retain": torch.zeros(0, dtype=torch.int64)}, "is of .0, 6. items"),
        ({"targets": torch.tensor([1, 2])}, "has 2 targets"),
        ({"targets": torch.tensor([-1])}, "has 1 targets"),
    ],
)
def test_judged_classes_that_cannot_be_are_refused(changes, reason):
    """Lengths and kinds of the tensors belong together."""
    tensors = ratio_tensors(**changes)
    with pytest.raises(MsgmBenchError, match=reason):
        UnlearningRatio.recompute(Evidence("generation", "u@1", {}, ("b",), tensors))


def test_each_difference_is_named():
    """Values, intervals, counts, directions, and rows too many or too few."""
    shown = Evidence("generation", "u@1", {}, ("b",), ratio_tensors())
    rows = UnlearningRatio.recompute(shown)
    assert not list(differences(UnlearningRatio, shown, rows))

    def named(**changes):
        changed = [rows[0].model_copy(update=changes), *rows[1:]]
        return " ".join(differences(UnlearningRatio, shown, changed))

    assert named(value=20.0) == "ur on samples by u@1 is 20, and 30 is recomputed"
    assert "begins at 1" in named(low=1.0)
    assert "ends at null" in named(high=None)
    assert "has n 11, and 10 is recomputed" in named(n=11)
    assert "has direction 'up'" in named(direction="up")
    more = Row(task="generation", metric="x", split="s", protocol="u@1", value=1.0, unit="1", n=1)
    assert list(differences(UnlearningRatio, shown, [*rows, more])) == [
        "x on s by u@1 does not follow from the evidence"
    ]
    assert list(differences(UnlearningRatio, shown, rows[1:])) == [
        "it lacks ur on samples by u@1, which follows from the evidence"
    ]


def test_the_tolerance_is_relative_above_one():
    """|v - e| <= t max(1, |e|), and a null equals a null alone."""
    assert is_within(2.0 + 1.9e-6, 2.0, 1e-6)
    assert not is_within(2.0 + 2.1e-6, 2.0, 1e-6)
    assert is_within(None, None, 0.0)
    assert not is_within(None, 0.0, 1.0)
