"""Sampling, likelihood and precision on the device, against closed forms and the CPU."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from msgm_bench import Noise, ProbabilityFlow, VarianceExploding, ode_nll

pytestmark = pytest.mark.gpu
PROCESS = VarianceExploding(0.01, 20.0)
MEAN, STD, D = 0.7, 0.5, 4


def gaussian_eps(x, t):
    """eps_hat of N(m, s^2 I): sigma (x - m) / (s^2 + sigma^2)."""
    _, sigma = PROCESS.marginal(t)
    sigma = sigma.reshape(-1, *[1] * (x.ndim - 1)).to(x)
    return sigma * (x - MEAN) / (STD**2 + sigma**2)


# The flow is linear: x_T = m + r (x - m), r^2 = (s^2 + sigma_T^2) / (s^2 + sigma_min^2), and the
# prior at T is N(0, sigma_T^2 I).
SIGMA_T, RATIO = 20.0, math.sqrt((STD**2 + 20.0**2) / (STD**2 + 0.01**2))


def test_samples_are_of_the_law(runtime):
    """Mean m - m/r and standard deviation sigma_T/r of 80,000 numbers within five errors."""
    noise = Noise(0, 0, 20_000, runtime.device)
    with runtime.active():
        x = ProbabilityFlow(60)(gaussian_eps, PROCESS, (D,), noise).x
    assert x.device.type == runtime.device.type
    values = x.double().cpu().reshape(-1)
    n, std = len(values), SIGMA_T / RATIO
    assert abs(float(values.mean()) - (MEAN - MEAN / RATIO)) < 5 * std / math.sqrt(n)
    assert abs(float(values.std()) - std) < 5 * std / math.sqrt(2 * n) + 1e-3


def nll(device, divergence, count=256):
    """NLL of points near the mean, the same on every device."""
    x = MEAN + STD * torch.randn(count, D, generator=torch.Generator().manual_seed(1))
    noise = Noise(0, 0, count, device)
    found = ode_nll(gaussian_eps, PROCESS, x.to(device), noise, divergence=divergence)
    return found.nats.cpu(), x


def test_exact_likelihood_is_the_closed_form_and_the_cpus(runtime):
    """-log N(x_T; 0, sigma_T^2) - D log r of each item, and the CPU's, to 1e-3 nats."""
    with runtime.measuring.active():
        nats, x = nll(runtime.device, "exact")
    x_T = MEAN + RATIO * (x.double() - MEAN)
    prior = 0.5 * (x_T.square().sum(1) / SIGMA_T**2 + D * math.log(2 * math.pi * SIGMA_T**2))
    expected = prior - D * math.log(RATIO)
    torch.testing.assert_close(nats.double(), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(nats, nll(torch.device("cpu"), "exact")[0], rtol=0, atol=1e-3)


def test_estimated_likelihood_agrees_within_its_error(runtime):
    """Hutchinson's probes differ between devices; of an isotropic law they change nothing."""
    with runtime.measuring.active():
        nats, _ = nll(runtime.device, "hutchinson")
    exact, _ = nll(torch.device("cpu"), "exact")
    error = float((nats - exact).std()) / math.sqrt(len(exact))
    assert abs(float((nats - exact).mean())) < 5 * error + 1e-4


def rounding(runtime):
    """Largest error of a convolution and of a product, relative to the largest value."""
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.Linear(512, 512, bias=False)
    image, rows = torch.randn(8, 64, 16, 16), torch.randn(256, 512)
    errors = []
    for layer, x in ((conv, image), (linear, rows)):
        exact = layer.double()(x.double()).detach()
        layer.float().to(runtime.device)
        with torch.no_grad(), runtime.active():
            found = layer(x.to(runtime.device)).double().cpu()
        errors.append(float((found - exact).abs().max() / exact.abs().max()))
    return errors


def test_fp32_is_ieee(runtime):
    """Factors of 24 bits in convolutions and products: errors below 1e-5."""
    assert max(rounding(runtime)) < 1e-5


@pytest.mark.parametrize(("precision", "least"), [("tf32", 5e-5), ("bf16", 5e-4)])
def test_other_precisions_round(precision, least, runtime):
    """Factors of 11 and of 8 bits: what the name says is what is computed."""
    ampere = runtime.device.type == "cuda" and torch.cuda.get_device_capability()[0] >= 8
    if precision == "tf32" and not ampere:
        pytest.skip("this device has no TF32")
    assert min(rounding(replace(runtime, precision=precision))) > least


def test_measuring_is_ieee_whatever_training_is(runtime):
    """Within bf16 as well."""
    rounded = replace(runtime, precision="bf16")
    with rounded.active():
        assert max(rounding(rounded.measuring)) < 1e-5
