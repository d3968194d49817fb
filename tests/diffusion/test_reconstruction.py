"""Reconstruction against Gaussians, whose probability flow is known in closed form."""

from __future__ import annotations

import pytest
import torch

from msgm_bench import OptionError
from msgm_bench.diffusion import (
    AdamsEncoder,
    DiscreteDDPM,
    EulerMaruyama,
    GaussianMixture,
    HeunEncoder,
    Noise,
    ProbabilityFlow,
    VarianceExploding,
    VariancePreserving,
    reconstruct_latent,
    reconstruct_partial,
)

MEAN, VARIANCE = torch.tensor([[0.7, -0.3]]), torch.tensor([0.5, 1.5])  # of `gaussian`


def decoder(solver, eps, process):
    """The solver as a way back from any state."""

    def decode(start, noise):
        return solver(eps, process, tuple(start[0].shape[1:]), noise, start=start)

    return decode


def scale(process, low, high):
    """sqrt((s^2 + sbar(high)^2) / (s^2 + sbar(low)^2)): the flow stretches xbar - m by so much."""
    ends = torch.tensor([low, high], dtype=torch.float64)
    sbar = process.noise_to_signal(ends)
    variances = VARIANCE.double() + sbar[:, None].square()
    return (variances[1] / variances[0]).sqrt()


def signal(process, t):
    """a(t) and sigma(t), float64."""
    return process.marginal(torch.tensor(t, dtype=torch.float64))


def latent_of(process, x0):
    """z = a_T (m + (x0/a_min - m) scale), the exact code of x0."""
    (a_min, _), (a_T, _) = signal(process, process.t_min), signal(process, process.T)
    return a_T * (MEAN + (x0.double() / a_min - MEAN) * scale(process, process.t_min, process.T))


def image_of(process, z):
    """Tweedie's x0_hat at t_sampling of the exact flow of z down to there."""
    a_T, _ = signal(process, process.T)
    xbar = (z.double() / a_T - MEAN) / scale(process, process.t_sampling, process.T)
    sbar = process.noise_to_signal(torch.tensor(process.t_sampling, dtype=torch.float64))
    return MEAN + VARIANCE / (VARIANCE + sbar**2) * xbar


@pytest.mark.parametrize(("encode", "nfe"), [(HeunEncoder(200), 400), (AdamsEncoder(40), 40)])
def test_the_code_of_a_gaussian(process, gaussian, encode, nfe):
    """Encoding follows the exact flow, item by item; exponential Adams in a tenth of Heun's."""
    x0 = gaussian.sample(64, torch.Generator().manual_seed(0))[0].float()
    code = encode(gaussian.eps(process), process, x0)
    assert torch.allclose(code.x.double(), latent_of(process, x0), rtol=2e-3, atol=1e-3)
    assert code.nfe == nfe


def test_adams_steps_of_encoding_have_order_four(process, gaussian):
    """Twice the nodes divide the error of the code by sixteen, give or take a third."""
    x0 = gaussian.sample(64, torch.Generator().manual_seed(0))[0]
    exact = latent_of(process, x0)

    def error(nodes):
        code = AdamsEncoder(nodes)(gaussian.eps(process), process, x0).x
        return float((code - exact).square().mean().sqrt())

    assert error(40) / error(80) > 2 / 3 * 16


@pytest.mark.parametrize("t", [0.0, 0.02, 0.5])
def test_a_perturbed_code_of_a_gaussian(process, gaussian, t):
    """The image is the exact flow of a(t) z + sigma(t) eps, item by item; z itself at t = 0."""
    x0 = gaussian.sample(64, torch.Generator().manual_seed(0))[0].float()
    eps = gaussian.eps(process)
    back = reconstruct_latent(
        HeunEncoder(200), decoder(ProbabilityFlow(200), eps, process), eps, process, x0, t,
        Noise(3, 0, 64),
    )  # fmt: skip
    z, (a, sigma) = latent_of(process, x0), signal(process, t)
    if t > 0:
        z = a * z + sigma * Noise(3, 0, 64).normal((2,))
    assert torch.allclose(back.x.double(), image_of(process, z), atol=4e-3)
    assert back.nfe == 400 + 399


def test_the_law_of_perturbed_codes():
    """One code, perturbed many times: mean and spread of the images are those of a linear map."""
    process, n = VariancePreserving(), 8192
    law = GaussianMixture(torch.ones(1), MEAN, torch.diag(VARIANCE)[None])
    x0 = torch.full((n, 2), 0.5)
    back = reconstruct_latent(
        HeunEncoder(50), decoder(ProbabilityFlow(50), law.eps(process), process), law.eps(process),
        process, x0, 0.8, Noise(1, 0, n),
    ).x.double()  # fmt: skip
    a, sigma = signal(process, 0.8)
    z = latent_of(process, x0[:1])
    centre, step = image_of(process, a * z), image_of(process, a * z + 1.0)
    spread = sigma * (step - centre)[0]
    assert torch.allclose(back.mean(0), centre[0], atol=0.05)
    assert torch.allclose(back.std(0), spread, rtol=0.05)


@pytest.mark.parametrize("process", [VarianceExploding(), DiscreteDDPM()], ids=["ve", "ddpm"])
def test_there_and_back_is_the_identity(process, mixture):
    """Whatever eps_hat: without noise the error falls as steps^-2, Heun's order."""
    x0 = mixture.sample(128, torch.Generator().manual_seed(0))[0]

    def eps(x, t):
        return 1.3 * mixture.eps(process)(x, t)  # nobody's score

    def error(steps):
        back = reconstruct_latent(
            HeunEncoder(steps), decoder(ProbabilityFlow(steps, denoise=False), eps, process), eps,
            process, x0, 0.0, Noise(0, 0, 128),
        )  # fmt: skip
        return float((back.x - x0).square().mean().sqrt())

    coarse, fine = error(50), error(100)
    assert fine < 0.01
    assert coarse / fine > 3


@pytest.mark.parametrize("process", [VarianceExploding(), VariancePreserving()], ids=["ve", "vp"])
def test_stochastic_partial_reconstruction_keeps_the_law(process, gaussian):
    """Data noised to t and brought back by the reverse SDE is distributed as the data.

    Four standard errors, and 0.01 for the first-order bias of 400 Euler steps.
    """
    n = 8192
    x0 = gaussian.sample(n, torch.Generator().manual_seed(0))[0].float()
    decode = decoder(EulerMaruyama(400), gaussian.eps(process), process)
    back = reconstruct_partial(decode, process, x0, 0.5, Noise(1, 0, n)).x.double()
    expected = torch.diag(VARIANCE).double()
    assert torch.allclose(torch.cov(back.T), expected, atol=4 * 1.5 * (2 / n) ** 0.5 + 0.01)


def test_partial_reconstruction_returns_to_the_image_as_t_shrinks(gaussian):
    """The distance to the original falls with t, down to nothing."""
    process = VariancePreserving()
    x0 = gaussian.sample(512, torch.Generator().manual_seed(0))[0].float()
    decode = decoder(ProbabilityFlow(20), gaussian.eps(process), process)

    def gap(t):
        back = reconstruct_partial(decode, process, x0, t, Noise(1, 0, 512))
        return float((back.x - x0).square().mean())

    gaps = [gap(t) for t in (0.5, 0.1, 0.02, 0.002)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-3


@pytest.mark.parametrize("t", [0.0, 1.5])
def test_bad_times(t, gaussian):
    """A time outside the process is refused; a latent alone may go without noise."""
    x0 = torch.zeros(2, 2)
    process, noise = VariancePreserving(), Noise(1, 0, 2)
    eps = gaussian.eps(process)
    decode = decoder(ProbabilityFlow(5), eps, process)
    with pytest.raises(OptionError, match="reconstruction"):
        reconstruct_partial(decode, process, x0, t, noise)
    if t > 1:
        with pytest.raises(OptionError, match="reconstruction"):
            reconstruct_latent(HeunEncoder(5), decode, eps, process, x0, t, noise)


def test_a_stiff_item_has_no_latent_rather_than_a_wrong_one():
    """xbar decays by e^(-k asinh(sigma/a)): k = 10 is NaN at 32 nodes, and right at 512."""
    process, x0 = VarianceExploding(), torch.tensor([[0.5, 0.2], [0.5, -0.3]])
    k = torch.tensor([[0.1], [10.0]])

    def eps(x, t):
        a, sigma = process.marginal(t)
        return -k * x / (a.square() + sigma.square()).sqrt()[:, None]

    coarse, fine = (AdamsEncoder(nodes)(eps, process, x0).x for nodes in (32, 512))
    assert coarse.isnan().all(1).tolist() == [False, True]
    ends = torch.tensor([process.t_min, process.T], dtype=torch.float64)
    s = process.noise_to_signal(ends).asinh()
    exact = x0 * torch.exp(-k * (s[1] - s[0]))
    assert torch.allclose(fine, exact, atol=1e-3)
    assert torch.allclose(coarse[0], fine[0], atol=1e-3)


def test_encoding_takes_a_step():
    """None at all is refused."""
    with pytest.raises(OptionError, match="steps=0"):
        HeunEncoder(0)
    with pytest.raises(OptionError, match="nodes=1"):
        AdamsEncoder(1)
