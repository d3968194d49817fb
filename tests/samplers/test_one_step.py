"""The one-step sampler: Tweedie's formula at one noise level, on every process."""

from __future__ import annotations

import pytest
import torch

from msgm_bench import (
    DiscreteDDPM,
    IdentityCodec,
    Model,
    Noise,
    OptionError,
    SubVariancePreserving,
    UniformDequantization,
    VarianceExploding,
    VariancePreserving,
)
from msgm_bench.registry import registry

M, V = 0.7, 0.3
PROCESSES = [
    VarianceExploding(0.01, 50.0),
    VariancePreserving(),
    SubVariancePreserving(),
    DiscreteDDPM(),
]


class Exact(torch.nn.Module):
    """eps_hat of N(M, V): sigma (x_t - a M)/(a^2 V + sigma^2)."""

    def __init__(self, process):
        super().__init__()
        self.process, self.calls = process, 0

    def forward(self, x_t, t, condition=None):
        """eps_hat."""
        self.calls += 1
        a, sigma = (v[:, None] for v in self.process.marginal(t))
        return sigma * (x_t - a * M) / (a**2 * V + sigma**2)


def model_of(process, codec=None):
    """A model of it in three dimensions."""
    return Model(Exact(process), process, codec or IdentityCodec(), (3,))


def one_step(sigma=2.5):
    """The plugin."""
    return registry().create("samplers", "one_step", {"sigma": sigma})


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_one_evaluation_of_pure_noise(process):
    """x = (1 - kappa) M + kappa sbar z with kappa = V/(V + sbar^2), by one call of the network."""
    model = model_of(process)
    samples = one_step().sample(model, Noise(3, 0, 7))
    sbar = 2.5
    if isinstance(process, DiscreteDDPM):
        sbar = float(process.noise_to_signal(torch.tensor(441 / 1000, dtype=torch.float64)))
        assert sbar == pytest.approx(2.502, abs=5e-4)  # step 440 of 0 .. 999
    kappa = V / (V + sbar**2)
    expected = (1 - kappa) * M + kappa * sbar * Noise(3, 0, 7).normal((3,))
    torch.testing.assert_close(samples.x, expected, rtol=2e-4, atol=2e-4)
    assert (samples.nfe, model.network.calls) == (1, 1)
    assert not samples.x.requires_grad


def test_half_the_range_is_half_the_noise():
    """Images on [0, 1] start at half the sigma/a of images on [-1, 1]."""
    process, noise = PROCESSES[0], Noise(3, 0, 7)
    halved = one_step().sample(model_of(process, UniformDequantization(17, 0.0, 1.0)), noise)
    plain = one_step(1.25).sample(
        model_of(process, UniformDequantization(17, -1.0, 1.0)), Noise(3, 0, 7)
    )
    torch.testing.assert_close(halved.x, plain.x)


def test_it_denoises_its_start():
    """From (x_t, t) it returns the posterior mean at that very time."""
    process = PROCESSES[1]
    x_t = torch.tensor([[0.1, -2.0, 3.0]])
    a, sigma = (float(v) for v in process.marginal(torch.tensor(0.3)))
    expected = M + a * V / (a**2 * V + sigma**2) * (x_t - a * M)
    got = one_step().sample(model_of(process), Noise(0, 0, 1), (x_t, 0.3)).x
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("sigma", [60.0, 1e-3])
def test_noise_that_the_process_never_has_is_refused(sigma):
    """Before anything is trained."""
    model = model_of(PROCESSES[0])
    one_step().check(model)
    with pytest.raises(OptionError, match="on this process"):
        one_step(sigma).check(model)
