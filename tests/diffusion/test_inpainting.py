"""Inpainting against Gaussians whose conditionals are known."""

from __future__ import annotations

import pytest
import torch

from msgm_bench.diffusion import (
    DiscreteDDPM,
    GaussianMixture,
    Inpainting,
    Noise,
    VarianceExploding,
    VariancePreserving,
)
from msgm_bench.errors import OptionError

SIGMA = torch.tensor([[1.0, 0.5, 0.3], [0.5, 1.0, 0.6], [0.3, 0.6, 1.0]], dtype=torch.float64)
LAW = GaussianMixture(torch.ones(1), torch.zeros(1, 3), SIGMA[None])
KNOWN = torch.tensor([1.5, 0.0, 0.0])
MASK = torch.tensor([1.0, 0.0, 0.0])
MEAN = SIGMA[1:, 0] / SIGMA[0, 0] * 1.5
COVARIANCE = SIGMA[1:, 1:] - torch.outer(SIGMA[1:, 0], SIGMA[0, 1:]) / SIGMA[0, 0]
PROCESSES = {
    "ve": VarianceExploding(0.01, 10.0),
    "vp": VariancePreserving(),
    "ddpm": DiscreteDDPM(steps=1000),
}


class Silence(Noise):
    """Draws that are zero: what is linear in the noise comes to its mean."""

    def normal(self, item_shape):
        """Zeros."""
        return torch.zeros(self.count, *item_shape)


def exact_eps(process):
    """eps_hat = sigma (a^2 Sigma + sigma^2 I)^-1 x, for a batch at one time."""
    values, Q = torch.linalg.eigh(SIGMA)

    def eps(x, t):
        a, sigma = process.marginal(t[0].double())
        return x @ (Q * (sigma / (a**2 * values + sigma**2)) @ Q.T).to(x.dtype)

    return eps


def draw(process, count, noise=Noise, **options):
    """Inpaint the second and third coordinates, given that the first is 1.5."""
    solver = Inpainting(known=KNOWN.expand(count, 3), mask=MASK, **options)
    return solver(exact_eps(process), process, (3,), noise(7, 0, count))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_conditional_mean_and_covariance(name):
    """N = 1000 with five long corrector steps draws from N(S_u1 1.5, S_uu - S_u1 S_1u).

    Four standard errors: C_ii / n of a mean, (C_ii C_jj + C_ij^2) / n of a covariance.
    """
    x = draw(PROCESSES[name], 2048, steps=1000, corrector_steps=5, snr=0.7).x[:, 1:].double()
    variance = COVARIANCE.diagonal()
    mean_error = (variance / len(x)).sqrt()
    covariance_error = ((torch.outer(variance, variance) + COVARIANCE**2) / len(x)).sqrt()
    assert ((x.mean(0) - MEAN).abs() < 4 * mean_error).all()
    assert ((torch.cov(x.T) - COVARIANCE).abs() < 4 * covariance_error).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "short"), [("ve", 0.050), ("vp", 0.089)])
def test_short_corrector_steps_are_biased(name, short):
    """At the usual snr of 0.16 the mean falls short by what is documented, at 0.7 by less.

    The chain is linear in its noise, so that without noise it ends at its mean; `short` is
    from a recursion of the mean in double precision.
    """

    def gap(snr):
        x = draw(PROCESSES[name], 1, Silence, steps=1000, corrector_steps=5, snr=snr).x[0, 1]
        return 1 - float(x / MEAN[0])

    assert gap(0.16) == pytest.approx(short, abs=0.001)
    assert 0 < gap(0.7) < 0.015


@pytest.mark.parametrize("name", PROCESSES)
def test_predictor_alone_is_biased(name):
    """Without the corrector the mean stays far from the conditional's, as is documented."""
    x = draw(PROCESSES[name], 2048, steps=200, corrector_steps=0).x[:, 1]
    assert x.mean() < MEAN[0] - 10 * (1 / len(x)) ** 0.5


def test_known_pixels_are_exact_and_denoising_counts():
    """Known pixels come back to the bit; the undenoised result differs only in the others."""
    process = PROCESSES["ve"]
    clean = draw(process, 64, steps=20).x
    noisy = draw(process, 64, steps=20, denoise=False).x
    assert torch.equal(clean[:, 0], KNOWN[0].expand(64))
    assert torch.equal(noisy[:, 0], KNOWN[0].expand(64))
    assert not torch.equal(clean[:, 1:], noisy[:, 1:])


def test_evaluations_are_counted():
    """nfe = steps (1 + corrector steps), as without a mask."""
    assert draw(PROCESSES["vp"], 4, steps=10, corrector_steps=2).nfe == 30


@pytest.mark.parametrize(
    "mask", [torch.tensor([0.5, 1.0, 1.0]), torch.ones(2)], ids=["grey", "wrong shape"]
)
def test_bad_masks(mask):
    """A mask that is not 0/1 or does not fit the images is refused."""
    with pytest.raises(OptionError, match="mask"):
        Inpainting(known=KNOWN.expand(4, 3), mask=mask)
