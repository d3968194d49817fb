"""The Frechet distance with its interval, and the metric made of it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from contexts import Blind, context, perfect
from scipy.linalg import sqrtm

from msgm_builtin.metrics.fid import InceptionFID, JudgeFID
from msgm_builtin.metrics.frechet import (
    Moments,
    TooFewError,
    frechet_distance,
    frechet_interval,
    influence,
)
from msgm_builtin.tasks.generation import Generation
from msgm_builtin.tasks.inpainting import InpaintingTask


def cloud(n, dim, seed, scale=1.0):
    """Correlated features of uneven scales."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    mixing *= torch.logspace(-2, 1, dim, dtype=torch.float64)
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64) @ mixing
    return scale * x + torch.rand(dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("n", "dim"), [(200, 3), (400, 32), (1500, 192)])
def test_distance_is_that_of_scipy(n, dim):
    """Eigenvalues give what scipy.linalg.sqrtm gives, to 1e-6 relative."""
    a, b = cloud(n, dim, 1), cloud(n + 7, dim, 2, 1.3)
    actual = frechet_distance(Moments.of([a]), Moments.of([b]))
    ca, cb = (np.cov(v.numpy(), rowvar=False) for v in (a, b))
    gap = (a.mean(0) - b.mean(0)).square().sum().item()
    expected = gap + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert actual == pytest.approx(expected, rel=1e-6)


def test_distance_of_known_gaussians():
    """|m_a - m_b|^2 + sum (s_a - s_b)^2 where the covariances are diagonal."""
    a = Moments(torch.tensor([1.0, 2.0]).double(), torch.diag(torch.tensor([4.0, 9.0])).double(), 9)
    b = Moments(torch.tensor([0.0, 0.0]).double(), torch.diag(torch.tensor([1.0, 1.0])).double(), 9)
    assert frechet_distance(a, b) == pytest.approx(5 + 1 + 4)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)


def test_moments_come_in_parts():
    """Parts of a set far from 0 give its mean and covariance, in float64 and without loss."""
    x = (cloud(300, 4, 3) + 1e4).float()
    actual = Moments.of(x.split(7))
    np.testing.assert_allclose(actual.mean, x.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        actual.covariance, np.cov(x.double().numpy(), rowvar=False), rtol=1e-8
    )
    assert actual.n == 300


def test_singular_covariances_are_refused():
    """As many items as features give no covariance of full rank; one more does."""
    subset, enough = (Moments.of([cloud(n, 6, n)]) for n in (6, 7))
    with pytest.raises(TooFewError, match="6 items: a covariance of 6 features needs more than 6"):
        frechet_distance(enough, subset)
    assert frechet_distance(enough, enough) < 1e-6


def mixed(a, x, share):
    """Moments of ``a`` with this share of its weight moved to the item ``x``."""
    d = x - a.mean
    covariance = (1 - share) * a.covariance + share * (1 - share) * torch.outer(d, d)
    return Moments(a.mean + share * d, covariance, a.n)


def test_influence_is_the_derivative_by_an_items_weight():
    """Central differences of the distance itself, from either side of it, to 1e-5 relative."""
    x, y = even(60, 5, 4), even(70, 5, 5, 1.4)
    a, b = Moments.of([x]), Moments.of([y])
    actual = influence(x, a, b)
    for i in (0, 7, 31):
        ends = (frechet_distance(mixed(a, x[i], share), b) for share in (1e-6, -1e-6))
        assert (next(ends) - next(ends)) / 2e-6 == pytest.approx(actual[i].item(), rel=1e-5)


def test_interval_is_that_of_leaving_items_out():
    """With many items, its width is the delete-one jackknife's, for fixed and for paired sets."""
    x = even(400, 3, 6)
    y = 0.8 * x + even(400, 3, 7, 0.3)
    fixed = Moments.of([even(500, 3, 8, 1.3)])
    for other, without in ((fixed, lambda i: fixed), (y, lambda i: Moments.of([drop(y, i)]))):
        left = [frechet_distance(Moments.of([drop(x, i)]), without(i)) for i in range(400)]
        error = np.std(left) * math.sqrt(399)
        actual = frechet_interval(x, other)
        assert actual.high - actual.value == pytest.approx(1.966 * error, rel=0.02)
        assert actual.value - actual.low == pytest.approx(actual.high - actual.value)


def even(n, dim, seed, scale=1.0):
    """Features of one scale, so that differences of distances keep their figures."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return scale * x + torch.rand(dim, generator=generator, dtype=torch.float64)


def drop(x, i):
    """All items but one."""
    return torch.cat([x[:i], x[i + 1 :]])


def expected_of_normal(n, mean, std):
    """E[F] of n items of N(mean, std^2) beside N(0, 1): E[(m - 0)^2] + E[(s - 1)^2]."""
    c4 = math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
    return mean**2 + std**2 / n + std**2 + 1 - 2 * c4 * std


def test_interval_covers_the_expectation_of_the_estimator():
    """On one feature, where E[F] has a closed form, 95 % within three binomial errors."""
    generator, repeats, n = torch.Generator().manual_seed(0), 1000, 1000
    other = Moments(torch.zeros(1).double(), torch.ones(1, 1).double(), 1000)
    expected = expected_of_normal(n, 1.0, 1.2)
    draws = 1.0 + 1.2 * torch.randn(repeats, n, 1, generator=generator, dtype=torch.float64)
    actual = [frechet_interval(x, other) for x in draws]
    covered = np.mean([interval.contains(expected) for interval in actual])
    assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / repeats))
    assert np.mean([interval.value for interval in actual]) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("paired", [False, True])
def test_interval_covers_with_correlated_features(paired):
    """Eight features, fixed or paired: 95 % of the intervals hold the mean over other draws."""
    generator, repeats, n = torch.Generator().manual_seed(1), 400, 400
    mixing = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    fixed = Moments(torch.zeros(8).double(), mixing.T @ mixing, 10_000)

    def draw():
        y, z = torch.randn(2, n, 8, generator=generator, dtype=torch.float64) @ mixing
        return (y + 0.5 * z + 0.8, y) if paired else (1.2 * y + 0.8, fixed)

    expected = np.mean([frechet_interval(*draw()).value for _ in range(repeats)])
    covered = np.mean([frechet_interval(*draw()).contains(expected) for _ in range(repeats)])
    assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / repeats))


def test_interval_errs_to_the_wide_side_with_few_items():
    """Hardly more items than features: it covers at least 95 %, up to three binomial errors."""
    generator, repeats = torch.Generator().manual_seed(2), 200
    fixed = Moments(torch.zeros(40).double(), torch.eye(40).double(), 10_000)
    draws = 1.2 * torch.randn(repeats, 60, 40, generator=generator, dtype=torch.float64)
    actual = [frechet_interval(x, fixed) for x in draws]
    expected = np.mean([interval.value for interval in actual])
    covered = np.mean([interval.contains(expected) for interval in actual])
    assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / repeats)


def test_interval_of_features_without_variance():
    """A feature that is constant in both sets, or in one, changes no number for the worse."""
    x, y = cloud(100, 3, 9), cloud(120, 3, 10, 1.3)
    plain = frechet_interval(x, Moments.of([y]))
    padded = (torch.cat([part, torch.ones(len(part), 1).double()], dim=1) for part in (x, y))
    dead = frechet_interval(next(padded), Moments.of([next(padded)]))
    assert dead.value == pytest.approx(plain.value, rel=1e-6)
    assert dead.high == pytest.approx(plain.high, rel=1e-6)
    flat = x.clone()
    flat[:, 0] = 2.0
    estimate = frechet_interval(flat, Moments.of([y]))
    assert estimate.bounded
    assert estimate.low <= estimate.value <= estimate.high


def test_fid_of_samples_looks_at_the_training_items():
    """Samples that are D_g's training items are at distance 0, D_f's far away."""
    model_context, metric, task = context(), JudgeFID(), Generation()
    model_context = dataclasses.replace(
        model_context, reference=metric.compute_reference(model_context)
    )
    retain, forget = model_context.data.split(model_context.data.train, model_context.targets)
    near, far = (
        metric.measure(model_context, task, {"x": model_context.model.codec.encode(part.x)})[0]
        for part in (retain, forget)
    )
    assert near.value == pytest.approx(0, abs=1e-9)
    assert far.value > 0.01
    assert (near.metric, near.split, near.protocol) == ("fid", "samples", "fid/judge@1")
    assert near.direction == "down"
    assert near.low == pytest.approx(0, abs=1e-9)
    assert 0 < far.low < far.value < far.high
    assert far.n == len(forget)
    (subset,) = metric.measure(
        model_context, task, {"x": model_context.model.codec.encode(retain.x[:4])}
    )
    assert subset.value is None
    assert subset.reason == "4 items: a covariance of 4 features needs more than 4"
    (bare,) = metric.measure(
        model_context, task, {"x": model_context.model.codec.encode(retain.x[:1])}
    )
    assert bare.reason == "1 items: a covariance needs at least 2"


def test_fid_of_restored_images_looks_at_the_originals():
    """Exact restorations are at distance 0; only D_g counts; the protocol names the task."""
    model_context, metric, task = context(), JudgeFID(), InpaintingTask.create({"count": 40})
    artifact = perfect(model_context, task)
    artifact["x"][40:] = 0.0
    (row,) = metric.measure(model_context, task, artifact)
    assert row.value == pytest.approx(0, abs=1e-9)
    assert (row.split, row.n, row.protocol) == ("retain", 40, "fid/judge/inpainting@1")
    artifact["x"][:40, :, :4] = 0.5
    (row,) = metric.measure(model_context, task, artifact)
    assert row.value > 0.01
    assert row.low < row.value < row.high
    assert metric.protocol(model_context, task).settings["interval"].endswith("pairs vary")


def test_fid_says_why_it_is_null():
    """Too few items, NaN, a judge without features and absent weights: null rows with reasons."""
    task = InpaintingTask.create({"count": 4})
    model_context = context()
    artifact = perfect(model_context, task)
    (row,) = JudgeFID().measure(model_context, task, artifact)
    assert (row.value, row.reason) == (
        None,
        "4 items: a covariance of 4 features needs more than 4",
    )
    blind = context(judge=Blind())
    (row,) = JudgeFID().measure(blind, task, artifact)
    assert (row.value, row.reason) == (None, "the judge 'blind' has no features")
    assert not JudgeFID().needs_reference(blind)
    artifact["x"][2, 0, 3, 3] = torch.nan
    (row,) = JudgeFID().measure(model_context, task, artifact)
    assert (row.value, row.reason) == (None, "1 of 4 images are not finite")


def test_fid_without_inception_weights_is_a_dash(tmp_path, monkeypatch):
    """Offline the Inception cell is null and names the file; its protocol is that of the file."""
    monkeypatch.setenv("MSGM_BENCH_DATA", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    model_context, task = context(), InpaintingTask.create({"count": 4})
    metric = InceptionFID()
    (row,) = metric.measure(model_context, task, perfect(model_context, task))
    assert row.value is None
    assert "pt_inception-2015-12-05-6726825d.pth is not on this machine" in row.reason
    assert metric.protocol(model_context, task).settings["embedder"]["weights"] == "6726825d"
    assert not metric.needs_reference(model_context)


def test_moments_of_the_data_are_shared(bench, cache, tmp_path, monkeypatch):
    """A second method takes judge and reference moments from the cache, and gives the same rows."""
    out = tmp_path / "runs"
    common = ("--dataset", "digits", "--forget", "3,7", "--backbone", "vesde", "--steps", "3")
    small = ("--samples", "16", "-b", "width=16", "-b", "depth=1", "-t", "likelihood.rtol=1e-1")
    subset = ("-t", "inpainting.nfe=4", "-t", "generation.nfe=3", "-t", "likelihood.atol=1e-1")
    subset += ("-j", "steps=3")
    code, _, error = bench("run", "--method", "unseen", *common, *small, *subset, "--out", out)
    assert code == 0, error
    _, output, _ = bench(
        "run", "--method", "obt", *common, *small, *subset, "--out", out, "--dry-run"
    )
    states = [line.split() for line in output.splitlines()]
    cached = {" ".join(words[:-2]) for words in states if len(words) > 2 and words[-2] == "cached"}
    assert {"fit judge classifier", "refer fid-judge"} <= cached
    folder = next(out.iterdir())
    assert (folder / "inpainting.png").stat().st_size > 1000
    assert (folder / "reconstruction.png").stat().st_size > 1000
