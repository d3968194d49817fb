"""The DDPM bound against closed forms, and the DDPM samplers against diffusers."""

from __future__ import annotations

import math

import pytest
import torch
from lazy import LazyModule

from msgm_bench.diffusion import (
    DDIM,
    Ancestral,
    DiscreteDDPM,
    GaussianMixture,
    Noise,
    bits_per_dim,
    elbo_nll,
)
from msgm_bench.diffusion.elbo import ElboTerms
from msgm_bench.errors import OptionError

diffusers = LazyModule("diffusers")

V = 0.5


def expected_bound(process: DiscreteDDPM, v: float) -> float:
    """E[L] a dimension in nats for data N(0, v).

    E[(eps - eps_hat)^2] = a^2 v / (a^2 v + sigma^2).
    """
    terms, alphabar = ElboTerms.of(process), process.alphas_cumprod
    error = alphabar * v / (alphabar * v + 1 - alphabar)
    prior = alphabar[-1] * (v - 1) - torch.log1p(-alphabar[-1])
    return 0.5 * (prior + (terms.c + terms.w * error).sum()).item()


def isotropic(D: int) -> GaussianMixture:
    """N(0, V I) in D dimensions."""
    return GaussianMixture(torch.ones(1), torch.zeros(1, D), V * torch.eye(D)[None])


@pytest.mark.parametrize("v", [0.05, 0.5, 1.0, 3.0])
def test_the_bound_is_tight_on_a_gaussian(v: float) -> None:
    """With variance beta_t its expectation lies above the entropy, by less than 0.02 bits/dim."""
    entropy = 0.5 * math.log(2 * math.pi * math.e * v)
    gap = (expected_bound(DiscreteDDPM(), v) - entropy) / math.log(2)
    assert 0 <= gap < 0.02


@pytest.mark.parametrize(("timesteps", "N"), [(None, 200), (20, 1500)])
def test_bound_nll_has_its_expectation(timesteps: int | None, N: int) -> None:
    """All terms, and an unbiased subset of them, average to the closed form in 4 errors."""
    process, D = DiscreteDDPM(), 8
    mixture = isotropic(D)
    x = mixture.sample(N, torch.Generator().manual_seed(0))[0]
    result = elbo_nll(mixture.eps(process), process, x, Noise(0, 0, N), timesteps=timesteps)
    assert not result.failed.any()
    assert result.nfe == (timesteps or 1000)
    per_dim = result.nats / D
    assert abs(per_dim.mean() - expected_bound(process, V)) < 4 * per_dim.std() / N**0.5


def test_the_bound_of_a_mixture_is_near_its_exact_nll(mixture: GaussianMixture) -> None:
    """On average the bound minus the exact NLL is within 0.02 bits/dim and 4 standard errors."""
    process, N = DiscreteDDPM(), 2000
    x = mixture.sample(N, torch.Generator().manual_seed(0))[0]
    result = elbo_nll(mixture.eps(process), process, x, Noise(0, 0, N), timesteps=200)
    gap = bits_per_dim(result.nats + mixture.log_prob(x), 2)
    error = gap.std() / N**0.5
    assert -4 * error < gap.mean() < 0.02 + 4 * error


def test_the_bound_does_not_depend_on_the_batch_split(mixture: GaussianMixture) -> None:
    """Two batches give the values of one batch, and float32 that of float64 to rounding."""
    process = DiscreteDDPM()
    eps, x = mixture.eps(process), mixture.sample(9, torch.Generator().manual_seed(0))[0]
    whole = elbo_nll(eps, process, x, Noise(3, 0, 9), timesteps=30).nats
    parts = [
        elbo_nll(eps, process, x[:4], Noise(3, 0, 4), timesteps=30).nats,
        elbo_nll(eps, process, x[4:], Noise(3, 4, 5), timesteps=30).nats,
    ]
    torch.testing.assert_close(torch.cat(parts), whole)
    single = elbo_nll(eps, process, x.float(), Noise(3, 0, 9), timesteps=30).nats
    torch.testing.assert_close(single, whole, rtol=1e-3, atol=1e-3)


def test_items_without_a_finite_bound_are_marked() -> None:
    """A network that gives NaN for one item costs that item only."""
    process = DiscreteDDPM()
    x = torch.tensor([[0.0, 1.0], [1e6, 0.0], [1.0, 1.0]])
    exact = isotropic(2).eps(process)

    def eps(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, :1] > 1e3, math.nan, exact(x, t))

    result = elbo_nll(eps, process, x, Noise(0, 0, 3), timesteps=10)
    assert result.failed.tolist() == [False, True, False]
    assert list(result.reasons) == [1]
    assert torch.isinf(result.nats[1])
    alone = elbo_nll(exact, process, x, Noise(0, 0, 3), timesteps=10).nats
    assert torch.equal(result.nats[[0, 2]], alone[[0, 2]])


@pytest.mark.parametrize("timesteps", [1, 1001])
def test_bad_timesteps_are_refused(timesteps: int) -> None:
    """Fewer than two terms or more than the grid has are refused."""
    process = DiscreteDDPM()
    with pytest.raises(OptionError, match="2 to 1000"):
        elbo_nll(
            isotropic(2).eps(process),
            process,
            torch.zeros(1, 2),
            Noise(0, 0, 1),
            timesteps=timesteps,
        )


class Recorded(Noise):
    """Draws that one generator makes in the order of the calls, as diffusers' schedulers do."""

    def normal(self, item_shape: tuple[int, ...]) -> torch.Tensor:
        """Return the next draw."""
        if not hasattr(self, "one"):
            self.one = torch.Generator().manual_seed(0)
        return torch.randn(self.count, *item_shape, generator=self.one)


def test_alphas_cumprod_are_diffusers() -> None:
    """The table equals DDPMScheduler's."""
    theirs = diffusers.DDPMScheduler(beta_start=1e-4, beta_end=0.02).alphas_cumprod.double()
    torch.testing.assert_close(DiscreteDDPM().alphas_cumprod, theirs, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["ddim", "ancestral"])
def test_trajectories_are_diffusers(name: str, mixture: GaussianMixture) -> None:
    """A thousand steps of ours and of diffusers' scheduler end at the same samples."""
    process = DiscreteDDPM()
    eps = mixture.eps(process)
    options = {"beta_start": 1e-4, "beta_end": 0.02, "clip_sample": False}
    if name == "ddim":
        scheduler, sampler = diffusers.DDIMScheduler(**options), DDIM(1000)
    else:
        scheduler, sampler = (
            diffusers.DDPMScheduler(variance_type="fixed_large", **options),
            Ancestral(1000),
        )
    scheduler.set_timesteps(1000)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 2, generator=generator)
    for k in scheduler.timesteps:
        eps_hat = eps(x, ((k + 1) / 1000).expand(6))
        x = scheduler.step(eps_hat, int(k), x, generator=generator).prev_sample
    ours = sampler(eps, process, (2,), Recorded(0, 0, 6)).x
    torch.testing.assert_close(ours, x, rtol=2e-3, atol=2e-3)


def test_the_bound_knows_its_condition(mixture: GaussianMixture) -> None:
    """Told the component of each item, the bound is that of the component alone."""
    process, n = DiscreteDDPM(), 12
    parts = [mixture.subset([k]).eps(process) for k in range(3)]

    def eps_hat(x: torch.Tensor, t: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return torch.stack([part(x, t) for part in parts])[k, torch.arange(len(x))]

    x, k = mixture.sample(n, torch.Generator().manual_seed(1))
    options = {"timesteps": 50}
    result = elbo_nll(eps_hat, process, x, Noise(0, 0, n), condition=k, **options)
    parts_nats = [elbo_nll(part, process, x, Noise(0, 0, n), **options).nats for part in parts]
    torch.testing.assert_close(result.nats, torch.stack(parts_nats)[k, torch.arange(n)])
