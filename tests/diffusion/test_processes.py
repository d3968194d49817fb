from __future__ import annotations

import pickle

import pytest
import torch
from torch.distributions import Normal

from msgm_bench.diffusion import (
    DiscreteDDPM,
    Noise,
    Process,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from msgm_bench.errors import OptionError


def times(process: Process, n: int = 57) -> torch.Tensor:
    """Float64 times that avoid the DDPM grid, where beta has a kink."""
    return torch.linspace(process.t_min * 1.3, 0.9993, n, dtype=torch.float64)


def test_coefficients_solve_the_sde(process: Process) -> None:
    """Central differences: a' = f a and (sigma^2)' = 2 f sigma^2 + g^2."""
    t = times(process)
    h = 1e-6 * t
    x = torch.ones(len(t), 2, dtype=torch.float64)
    drift, g = process.sde(x, t)
    f = drift[:, 0]
    (a0, s0), (a, s), (a1, s1) = (process.marginal(u) for u in (t - h, t, t + h))
    torch.testing.assert_close((a1 - a0) / (2 * h), f * a, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close((s1**2 - s0**2) / (2 * h), 2 * f * s**2 + g**2, rtol=1e-4, atol=1e-7)


def test_marginal_prob_is_what_the_sde_simulates() -> None:
    """Ten thousand Euler-Maruyama paths of the forward VP have the marginal's moments."""
    process, n, steps = VariancePreserving(), 10_000, 200
    noise = Noise(0, 0, n, dtype=torch.float64)
    x0 = torch.full((n, 1), 2.0, dtype=torch.float64)
    x, h = x0, 0.3 / steps
    for i in range(steps):
        drift, g = process.sde(x, torch.full((n,), (i + 0.5) * h, dtype=torch.float64))
        x = x + drift * h + g[:, None] * h**0.5 * noise.normal((1,))
    mean, std = process.marginal_prob(x0, torch.full((n,), 0.3, dtype=torch.float64))
    euler_bias = 2 * (process.beta(torch.tensor(0.3)) * h).item()  # (1 - beta h / 2)^n against exp
    assert abs(x.mean() - mean[0]) < 4 * std[0] / n**0.5 + euler_bias * mean[0, 0]
    assert abs(x.std() / std[0] - 1) < 4 / (2 * n) ** 0.5 + euler_bias


def test_transitions_compose(process: Process) -> None:
    """Chapman-Kolmogorov: r -> s -> t is r -> t, and 0 -> t through s is the marginal."""
    t = times(process)
    r, s = 0.3 * t, 0.7 * t
    alpha_rs, var_rs = process.transition(r, s)
    alpha_st, var_st = process.transition(s, t)
    alpha_rt, var_rt = process.transition(r, t)
    torch.testing.assert_close(alpha_rs * alpha_st, alpha_rt)
    torch.testing.assert_close(alpha_st**2 * var_rs + var_st, var_rt)
    (a_s, sigma_s), (a_t, sigma_t) = process.marginal(s), process.marginal(t)
    torch.testing.assert_close(alpha_st * a_s, a_t)
    torch.testing.assert_close(alpha_st**2 * sigma_s**2 + var_st, sigma_t**2)


def test_a_short_transition_does_not_cancel(process: Process) -> None:
    """Over dt = 1e-9 the variance is g^2 dt to nine digits of a float64."""
    t = torch.tensor(0.50005, dtype=torch.float64)
    s = t - 1e-9
    _, variance = process.transition(s, t)
    torch.testing.assert_close(
        variance, process.drift_diffusion(t)[1] ** 2 * (t - s), rtol=3e-7, atol=0
    )


def test_time_of_inverts_noise_to_signal(process: Process) -> None:
    """From t to sigma / a and back is the identity, and sigma / a is what coefficients say."""
    t = torch.linspace(process.t_min, 1, 1237, dtype=torch.float64)
    sbar = process.noise_to_signal(t)
    a, sigma = process.marginal(t)
    torch.testing.assert_close(sbar, sigma / a, rtol=1e-10, atol=0)
    assert bool((sbar.diff() > 0).all())
    torch.testing.assert_close(process.t_from_noise_to_signal(sbar), t, rtol=1e-9, atol=1e-12)


def test_float32_keeps_six_digits(process: Process) -> None:
    """Coefficients of float32 times agree with those of float64, and keep dtype and shape."""
    t = torch.linspace(process.t_min, 1, 100).reshape(4, 25)
    for single, double in zip(process.marginal(t), process.marginal(t.double()), strict=True):
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=5e-5, atol=0)


def test_perturb_is_mean_plus_std_eps(process: Process) -> None:
    """Perturb adds std times eps to marginal_prob's mean, item by item."""
    x0, eps = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0)), torch.ones(5, 3, 2)
    t = torch.linspace(process.t_min, 1, 5)
    mean, std = process.marginal_prob(x0, t)
    torch.testing.assert_close(process.perturb(x0, t, eps), mean + std[:, None, None] * eps)


def test_prior_logp_is_the_normal_density(process: Process) -> None:
    """prior_logp equals torch.distributions on draws whose scale is the prior's."""
    z = process.prior_sampling((2, 3), Noise(0, 0, 4000, dtype=torch.float64))
    oracle = Normal(0.0, process.prior_std).log_prob(z).sum((1, 2))
    torch.testing.assert_close(process.prior_logp(z), oracle)
    assert abs(z.std() / process.prior_std - 1) < 4 / (2 * z.numel()) ** 0.5


def test_sample_times_cover_the_training_range(process: Process) -> None:
    """U[0, 1) maps to [t_min, T], in order, and onto the grid for DDPM."""
    t = process.sample_times(torch.linspace(0, 1 - 1e-7, 5000))
    assert t.min().item() == pytest.approx(process.t_min)
    assert t.max().item() <= 1
    assert bool((t.diff() >= 0).all())
    if isinstance(process, DiscreteDDPM):
        k = process.timestep(t)
        assert torch.equal(k.unique(), torch.arange(1000.0))


def test_labels_are_the_networks_own() -> None:
    """VE gives sigma, VP and sub-VP 999 t, DDPM the index on the grid and a fraction off it."""
    t = torch.tensor([0.25, 1.0])
    torch.testing.assert_close(VarianceExploding().timestep(t), 0.01 * 5000**t)
    for process in (VariancePreserving(), SubVariancePreserving()):
        torch.testing.assert_close(process.timestep(t), 999 * t)
    ddpm = DiscreteDDPM()
    grid = (torch.arange(1000) + 1) / 1000
    assert torch.equal(ddpm.timestep(grid), torch.arange(1000.0))
    assert ddpm.timestep(torch.tensor(0.5005)).item() == pytest.approx(499.5, abs=1e-3)


def test_ddpm_interpolation_passes_through_alphas_cumprod() -> None:
    """On the grid a^2 is alphas_cumprod, between grid points beta is continuous and positive."""
    process = DiscreteDDPM(steps=50, beta_start=1e-3, beta_end=0.3)
    grid = (torch.arange(50, dtype=torch.float64) + 1) / 50
    torch.testing.assert_close(process.marginal(grid)[0] ** 2, process.alphas_cumprod)
    before, after = process.beta(grid[:-1] - 1e-9), process.beta(grid[:-1] + 1e-9)
    torch.testing.assert_close(before, after, rtol=1e-5, atol=0)
    assert bool((process.beta(torch.linspace(0, 1, 3000, dtype=torch.float64)) > 0).all())


def test_the_ddpm_grid_is_strided_and_ends_at_the_first_point() -> None:
    """A strided grid has distinct grid times from start to 1/N, and refuses to have too many."""
    process = DiscreteDDPM()
    grid = process.grid(37)
    k = process.timestep(grid)
    assert torch.equal(k, k.round())
    assert k[0] == 999
    assert k[-1] == 0
    assert bool((k.diff() < 0).all())
    assert process.grid(20, 0.02)[0].item() == pytest.approx(0.02)
    with pytest.raises(OptionError, match="at most 20 steps"):
        process.grid(21, 0.02)


def test_processes_pickle_compare_and_describe_themselves(process: Process) -> None:
    """A pickled process is equal, hashes alike, and its spec names it and its parameters."""
    process.noise_to_signal(torch.tensor(0.5))  # fills the caches
    copy = pickle.loads(pickle.dumps(process))
    assert copy == process
    assert hash(copy) == hash(process)
    assert copy.spec() == process.spec()
    assert process.spec()["process"] == type(process).__name__


@pytest.mark.parametrize(
    "build",
    [
        lambda: VarianceExploding(sigma_min=0),
        lambda: VarianceExploding(sigma_max=0.001),
        lambda: VariancePreserving(beta_min=-1),
        lambda: SubVariancePreserving(beta_max=0.01),
        lambda: VariancePreserving(t_min=1),
        lambda: DiscreteDDPM(steps=1),
        lambda: DiscreteDDPM(beta_end=1),
    ],
)
def test_parameters_out_of_range_are_refused(build) -> None:
    """A process without meaning says what was given and what is allowed."""
    with pytest.raises(OptionError) as refusal:
        build()
    assert refusal.value.allowed
