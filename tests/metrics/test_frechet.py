"""The Frechet distance, and the metric made of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from subjects import Blind, perfect, subject

from msgm_metrics.fid import InceptionFID, JudgeFID
from msgm_metrics.frechet import Moments, TooFewError, frechet_distance
from msgm_metrics.generation import Generation
from msgm_metrics.inpainting import Inpaint


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
    found = frechet_distance(Moments.of([a]), Moments.of([b]))
    ca, cb = (np.cov(v.numpy(), rowvar=False) for v in (a, b))
    gap = (a.mean(0) - b.mean(0)).square().sum().item()
    expected = gap + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert found == pytest.approx(expected, rel=1e-6)


def test_distance_of_known_gaussians():
    """|m_a - m_b|^2 + sum (s_a - s_b)^2 where the covariances are diagonal."""
    a = Moments(torch.tensor([1.0, 2.0]).double(), torch.diag(torch.tensor([4.0, 9.0])).double(), 9)
    b = Moments(torch.tensor([0.0, 0.0]).double(), torch.diag(torch.tensor([1.0, 1.0])).double(), 9)
    assert frechet_distance(a, b) == pytest.approx(5 + 1 + 4)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)


def test_moments_come_in_parts():
    """Parts of a set far from 0 give its mean and covariance, in float64 and without loss."""
    x = (cloud(300, 4, 3) + 1e4).float()
    found = Moments.of(x.split(7))
    np.testing.assert_allclose(found.mean, x.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        found.covariance, np.cov(x.double().numpy(), rowvar=False), rtol=1e-8
    )
    assert found.n == 300


def test_singular_covariances_are_refused():
    """As many items as features give no covariance of full rank; one more does."""
    few, enough = (Moments.of([cloud(n, 6, n)]) for n in (6, 7))
    with pytest.raises(TooFewError, match="6 items: a covariance of 6 features needs more than 6"):
        frechet_distance(enough, few)
    assert frechet_distance(enough, enough) < 1e-6


def test_fid_of_samples_looks_at_the_training_items():
    """Samples that are D_g's training items are at distance 0, D_f's far away."""
    given, metric, task = subject(), JudgeFID(), Generation()
    given = dataclasses.replace(given, reference=metric.refer(given))
    retain, forget = given.data.split(given.data.train, given.targets)
    near, far = (
        metric.measure(given, task, {"x": given.model.codec.encode(part.x)})[0]
        for part in (retain, forget)
    )
    assert near.value == pytest.approx(0, abs=1e-9)
    assert far.value > 0.01
    assert (near.metric, near.split, near.protocol) == ("fid", "samples", "fid/judge@1")
    assert near.direction == "down"


def test_fid_of_restored_images_looks_at_the_originals():
    """Exact restorations are at distance 0; only D_g counts; the protocol names the task."""
    given, metric, task = subject(), JudgeFID(), Inpaint.create({"count": 40})
    artifact = perfect(given, task)
    artifact["x"][40:] = 0.0
    (row,) = metric.measure(given, task, artifact)
    assert row.value == pytest.approx(0, abs=1e-9)
    assert (row.split, row.n, row.protocol) == ("retain", 40, "fid/judge/inpainting@1")
    artifact["x"][:40, :, :4] = 0.5
    assert metric.measure(given, task, artifact)[0].value > 0.01


def test_fid_says_why_it_is_null():
    """Too few items, NaN, a judge without features and absent weights: null rows with reasons."""
    task = Inpaint.create({"count": 4})
    given = subject()
    artifact = perfect(given, task)
    (row,) = JudgeFID().measure(given, task, artifact)
    assert (row.value, row.reason) == (
        None,
        "4 items: a covariance of 4 features needs more than 4",
    )
    blind = subject(judge=Blind())
    (row,) = JudgeFID().measure(blind, task, artifact)
    assert (row.value, row.reason) == (None, "the judge 'blind' has no features")
    assert not JudgeFID().refers(blind)
    artifact["x"][2, 0, 3, 3] = torch.nan
    (row,) = JudgeFID().measure(given, task, artifact)
    assert (row.value, row.reason) == (None, "1 of 4 images are not finite")


def test_fid_without_inception_weights_is_a_dash(tmp_path, monkeypatch):
    """Offline the Inception cell is null and names the file; its protocol is that of the file."""
    monkeypatch.setenv("MSGM_BENCH_DATA", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    given, task = subject(), Inpaint.create({"count": 4})
    metric = InceptionFID()
    (row,) = metric.measure(given, task, perfect(given, task))
    assert row.value is None
    assert "pt_inception-2015-12-05-6726825d.pth is not there" in row.reason
    assert metric.protocol(given, task).settings["embedder"]["weights"] == "6726825d"
    assert not metric.refers(given)


def test_moments_of_the_data_are_shared(bench, cache, tmp_path, monkeypatch):
    """A second method takes judge and reference moments from the cache, and gives the same rows."""
    out = tmp_path / "runs"
    common = ("--dataset", "digits", "--forget", "3,7", "--backbone", "vesde", "--steps", "3")
    small = ("--samples", "16", "-b", "width=16", "-b", "depth=1", "-t", "likelihood.rtol=1e-1")
    few = ("-t", "inpainting.nfe=4", "-t", "generation.nfe=3", "-t", "likelihood.atol=1e-1")
    code, _, error = bench("run", "--method", "unseen", *common, *small, *few, "--out", out)
    assert code == 0, error
    _, told, _ = bench("run", "--method", "obt", *common, *small, *few, "--out", out, "--dry-run")
    states = [line.split() for line in told.splitlines()]
    cached = {" ".join(words[:-2]) for words in states if len(words) > 2 and words[-2] == "cached"}
    assert {"fit judge classifier", "refer fid-judge"} <= cached
    folder = next(out.iterdir())
    assert (folder / "inpainting.png").stat().st_size > 1000
    assert (folder / "reconstruction.png").stat().st_size > 1000
