"""Inpainting and reconstruction against Gaussians whose conditionals are known."""

from __future__ import annotations

import pytest
import torch

from msgm_bench.diffusion import (
    EulerMaruyama,
    GaussianMixture,
    Inpainting,
    Noise,
    ProbabilityFlow,
    VarianceExploding,
    VariancePreserving,
    reconstruct,
)
from msgm_bench.errors import OptionError

RHO = 0.5
LAW = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1.0, RHO], [RHO, 1.0]]]))
KNOWN = torch.tensor([1.5, 0.0])
MASK = torch.tensor([1.0, 0.0])
PROCESSES = {"ve": VarianceExploding(0.01, 10.0), "vp": VariancePreserving()}


def draw(process, count, **options):
    """Inpaint the second coordinate, given that the first is 1.5."""
    solver = Inpainting(known=KNOWN.expand(count, 2), mask=MASK, **options)
    return solver(LAW.eps(process), process, (2,), Noise(7, 0, count))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_conditional_mean_and_variance(name):
    """N = 1000 with five corrector steps draws from the exact conditional.

    x_2 given x_1 = 1.5 is N(0.75, 0.75); four standard errors of 4,096 draws.
    """
    x = draw(PROCESSES[name], 4096, steps=1000, corrector_steps=5).x[:, 1].double()
    mean, variance = RHO * 1.5, 1 - RHO**2
    assert abs(x.mean() - mean) < 4 * (variance / len(x)) ** 0.5
    assert abs(x.var() - variance) < 4 * variance * (2 / len(x)) ** 0.5


@pytest.mark.parametrize("name", PROCESSES)
def test_predictor_alone_is_biased(name):
    """Without the corrector the mean stays far from the conditional's, as is documented."""
    x = draw(PROCESSES[name], 2048, steps=200, corrector_steps=0).x[:, 1]
    assert x.mean() < RHO * 1.5 - 10 * (1 / len(x)) ** 0.5


def test_known_pixels_are_exact_and_denoising_counts():
    """Known pixels come back to the bit; the undenoised result differs only in the others."""
    process = PROCESSES["ve"]
    clean = draw(process, 64, steps=20).x
    noisy = draw(process, 64, steps=20, denoise=False).x
    assert torch.equal(clean[:, 0], KNOWN[0].expand(64))
    assert torch.equal(noisy[:, 0], KNOWN[0].expand(64))
    assert not torch.equal(clean[:, 1], noisy[:, 1])


def test_evaluations_are_counted():
    """nfe = steps (1 + corrector steps), as without a mask."""
    assert draw(PROCESSES["vp"], 4, steps=10, corrector_steps=2).nfe == 30


@pytest.mark.parametrize(
    "mask", [torch.tensor([0.5, 1.0]), torch.ones(3)], ids=["grey", "wrong shape"]
)
def test_bad_masks(mask):
    """A mask that is not 0/1 or does not fit the images is refused."""
    with pytest.raises(OptionError, match="mask"):
        Inpainting(known=KNOWN.expand(4, 2), mask=mask)


@pytest.mark.parametrize("name", PROCESSES)
def test_stochastic_reconstruction_keeps_the_law(name):
    """Data noised to t and brought back by the reverse SDE is distributed as the data.

    Four standard errors, and 0.01 for the first-order bias of 400 Euler steps.
    """
    process, n = PROCESSES[name], 8192
    x0 = LAW.sample(n, torch.Generator().manual_seed(0))[0].float()
    back = reconstruct(
        EulerMaruyama(400), LAW.eps(process), process, x0, 0.5, Noise(1, 0, n)
    ).x.double()
    covariance = torch.cov(back.T)
    assert torch.allclose(covariance, LAW.covariances[0], atol=4 * (2 / n) ** 0.5 + 0.01)


def test_reconstruction_returns_to_the_image_as_t_shrinks():
    """The distance to the original falls with t, down to nothing."""
    process = PROCESSES["vp"]
    x0 = LAW.sample(512, torch.Generator().manual_seed(0))[0].float()

    def gap(t):
        back = reconstruct(ProbabilityFlow(20), LAW.eps(process), process, x0, t, Noise(1, 0, 512))
        return float((back.x - x0).square().mean())

    gaps = [gap(t) for t in (0.5, 0.1, 0.02, 0.002)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-3


@pytest.mark.parametrize("t", [0.0, 1.5])
def test_bad_times(t):
    """A time outside the process is refused."""
    x0 = torch.zeros(2, 2)
    process, solver, noise = PROCESSES["vp"], ProbabilityFlow(5), Noise(1, 0, 2)
    with pytest.raises(OptionError, match="reconstruction"):
        reconstruct(solver, LAW.eps(process), process, x0, t, noise)
