"""Exponential multistep samplers against quadrature, a Gaussian's exact law, and diffusers.

Moments are exact, as in ``test_samplers``: one draw at a time reads off the affine map.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from scipy.integrate import quad
from test_samplers import error, gaussian_eps, limit, moments

from msgm_bench import OptionError
from msgm_bench.diffusion import (
    DPMSolverMultistep,
    ExponentialAdams,
    GaussianMixture,
    Noise,
    Process,
    ReverseSampler,
    VarianceExploding,
    VariancePreserving,
)
from msgm_bench.diffusion.exponential_samplers import GridSampler
from msgm_bench.diffusion.exponential_weights import exponential_moments, exponential_weights
from msgm_bench.diffusion.process import per_item

DEIS = ExponentialAdams(prediction="epsilon", grid="karras")
UNIPC = ExponentialAdams(corrector=True)
SA = ExponentialAdams(corrector=True, tau=1.0)
MULTISTEP = DPMSolverMultistep()
MULTISTEP_SDE = DPMSolverMultistep(stochastic=True)
ODE = [DEIS, UNIPC, MULTISTEP, ExponentialAdams(order=2), ExponentialAdams(order=1)]
SDE = [SA, MULTISTEP_SDE, ExponentialAdams(order=2, tau=0.5)]


@pytest.mark.parametrize("k", [1.0, 2.0, -1.5, 0.0])
@pytest.mark.parametrize("low", [-0.02, -0.9, -7.0, 0.6])
def test_weights_integrate_polynomials_as_quadrature_does(k: float, low: float) -> None:
    """sum_j w_j p(u_j) is scipy's int e^(k (u - high)) p(u) du for p of degree 0 to 3."""
    high = 1.3
    nodes = [high, high + low, high + 1.7 * low, high + 3 * low]
    weights = exponential_weights(nodes, high + low, high, k)
    for degree in range(4):

        def p(u: float, degree: int = degree) -> float:
            return (u - 0.4) ** degree

        def integrand(u: float) -> float:
            return math.exp(k * (u - high)) * p(u)

        exact, _ = quad(integrand, high + low, high, epsabs=1e-13, epsrel=1e-12)
        value = math.fsum(w * p(u) for w, u in zip(weights, nodes, strict=True))
        scale = max(abs(w * p(u)) for w, u in zip(weights, nodes, strict=True))
        assert value == pytest.approx(exact, abs=1e-11 * max(1.0, scale))


@pytest.mark.parametrize("low", [-1 + 1e-9, -1 - 1e-9])
def test_moments_are_continuous_where_their_formula_changes(low: float) -> None:
    """The series and the recursion agree with quadrature on both sides of |k low| = 1."""
    for p, value in enumerate(exponential_moments(low, 1.0, 4)):
        exact, _ = quad(lambda v, p=p: math.exp(v) * v**p, low, 0, epsabs=1e-14)
        assert value == pytest.approx(exact, rel=1e-11)


@pytest.mark.parametrize(
    ("sampler", "order"),
    [(DEIS, 3), (UNIPC, 3), (MULTISTEP, 2), (ExponentialAdams(order=2), 2),
     (ExponentialAdams(order=1), 1), (replace(DEIS, order=2), 2)],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("denoise", [True, False])
def test_convergence_at_their_order(
    sampler: GridSampler, order: int, denoise: bool, process: Process
) -> None:
    """Twice the steps divide the error of mean and variance by 2^order, give or take a quarter."""
    sampler = replace(sampler, denoise=denoise)
    coarse, fine = (error(sampler, process, n, ode=True) for n in (64, 128))
    assert fine < coarse / (0.75 * 2**order)
    assert fine < 10.0**-order


@pytest.mark.parametrize("sampler", [SA, MULTISTEP_SDE], ids=repr)
def test_stochastic_members_have_the_exact_law(sampler: GridSampler, process: Process) -> None:
    """The error of mean and variance falls at first order or faster, to 1 % at 200 steps."""
    coarse, fine = (error(sampler, process, n, ode=False) for n in (100, 200))
    assert fine < max(coarse / 1.7, 1e-5)
    assert fine < 0.01


def test_half_the_noise_lies_between(process: Process) -> None:
    """With tau = 0.5 the moments are the data's up to the mismatch of the prior and the steps."""
    sampler = replace(SDE[2], steps=200)
    ends = [limit(process, ode=ode, denoise=True) for ode in (False, True)]
    low, high = (sorted(pair) for pair in zip(*ends, strict=True))
    mean, var = moments(sampler, process)
    assert low[0] - 2e-3 < mean < low[1] + 2e-3
    assert high[0] - 2e-3 < var < high[1] + 2e-3


@pytest.mark.parametrize("sampler", [*ODE, *SDE], ids=repr)
def test_a_constant_prediction_is_integrated_exactly(
    sampler: GridSampler, process: Process
) -> None:
    """eps_hat = c or x0_hat = c: any number of steps give the exact law, item by item."""
    sampler = replace(sampler, denoise=False, steps=3)
    ends = torch.tensor([process.T, process.t_sampling], dtype=torch.float64)
    (a_t, a_s), (sigma_t, sigma_s) = process.marginal(ends)
    x_T = torch.linspace(-2, 3, 6, dtype=torch.float64).reshape(6, 1)
    is_eps = getattr(sampler, "prediction", "data") == "epsilon"

    def eps(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a, sigma = (per_item(v, x) for v in process.marginal(t))
        return torch.full_like(x, 0.7) if is_eps else (x - 0.7 * a) / sigma

    noise = Noise(0, 0, 6, dtype=torch.float64)
    x = sampler(eps, process, (1,), noise, start=(x_T, process.T)).x
    stochastic = getattr(sampler, "tau", 0.0) or getattr(sampler, "stochastic", False)
    if is_eps:
        expected = a_s / a_t * x_T + 0.7 * a_s * (sigma_s / a_s - sigma_t / a_t)
    elif not stochastic:
        expected = 0.7 * a_s + sigma_s / sigma_t * (x_T - 0.7 * a_t)
    else:
        tau = getattr(sampler, "tau", 1.0)
        ratio = (sigma_s / a_s) / (sigma_t / a_t)
        mean = 0.7 * a_s + sigma_s / sigma_t * ratio ** (tau**2) * (x_T - 0.7 * a_t)
        std = sigma_s * (1 - ratio ** (2 * tau**2)).sqrt()
        assert bool(((x - mean).abs() < 5 * std).all())
        many = Noise(0, 0, 4000, dtype=torch.float64)
        x = sampler(eps, process, (1,), many, start=(x_T[:1].expand(4000, 1), process.T)).x
        assert abs(x.mean() - mean[0]) < 4 * std / 4000**0.5
        assert abs(x.std() / std - 1) < 4 / 8000**0.5
        return
    torch.testing.assert_close(x, expected.expand_as(x), rtol=1e-9, atol=1e-9)


def diffusers_samples(
    scheduler, sampler: GridSampler, process: Process, eps, x: torch.Tensor, noise: Noise
) -> torch.Tensor:
    """The scheduler's samples at t_sampling, with the sampler's nodes as its sigmas.

    Its variables are those of a VP: x / a sqrt(1 / (1 + (sigma/a)^2)).
    """
    nodes = sampler.nodes(process, process.T)
    sbars = torch.tensor([math.exp(node.u) for node in nodes], dtype=torch.float64)
    scheduler.num_inference_steps, scheduler.sigmas = len(nodes) - 1, sbars
    scheduler.set_begin_index(0)
    scheduler.timesteps = torch.arange(len(nodes) - 1, 0, -1)
    scale = (1 + sbars.square()).rsqrt()
    y = x / nodes[0].a * scale[0]
    for i, t in enumerate(scheduler.timesteps):
        eps_hat = eps(y / scale[i] * nodes[i].a, nodes[i].t.expand(len(x)))
        options = {}
        if "sde" in getattr(scheduler.config, "algorithm_type", ""):
            options["variance_noise"] = noise.normal(tuple(x.shape[1:]))
        y = scheduler.step(eps_hat, t, y, **options).prev_sample
    return y / scale[-1] * nodes[-1].a


@pytest.mark.parametrize("sampler", [MULTISTEP, MULTISTEP_SDE], ids=["ode", "sde"])
@pytest.mark.parametrize("grid", ["logsnr", "karras"])
def test_2m_is_that_of_diffusers(
    sampler: GridSampler, grid: str, process: Process, mixture: GaussianMixture
) -> None:
    """The samples of diffusers' scheduler on the same sigmas and noise, to float32."""
    sampler = replace(sampler, steps=12, grid=grid, denoise=False)
    scheduler = DPMSolverMultistepScheduler(
        solver_order=2,
        algorithm_type="sde-dpmsolver++" if sampler.stochastic else "dpmsolver++",
        solver_type="midpoint",
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    )
    eps = mixture.eps(process)
    x = process.prior_sampling((2,), Noise(1, 0, 16, dtype=torch.float64))
    theirs = diffusers_samples(
        scheduler, sampler, process, eps, x, Noise(2, 0, 16, dtype=torch.float64)
    )
    ours = sampler(eps, process, (2,), Noise(2, 0, 16, dtype=torch.float64), start=(x, process.T)).x
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def test_unipc_is_that_of_diffusers(process: Process, mixture: GaussianMixture) -> None:
    """The samples of diffusers' UniPC-3 on the same sigmas.

    Its first two steps replace a weight of the Adams method by 1/2, which is the same where
    x0_hat is constant: so it is at the first two nodes here, and a mixture's afterwards.
    """
    sampler = replace(UNIPC, steps=12, denoise=False)
    nodes = sampler.nodes(process, process.T)
    exact = mixture.eps(process)

    def eps(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a, sigma = (per_item(v, x) for v in process.marginal(t))
        early = per_item((t > 0.5 * (nodes[1].t + nodes[2].t)).double(), x)
        return early * (x - 0.7 * a) / sigma + (1 - early) * exact(x, t)

    scheduler = UniPCMultistepScheduler(
        solver_order=3, solver_type="bh2", lower_order_final=False, final_sigmas_type="sigma_min"
    )
    noise = Noise(1, 0, 16, dtype=torch.float64)
    x = process.prior_sampling((2,), noise)
    theirs = diffusers_samples(scheduler, sampler, process, eps, x, noise)
    ours = sampler(eps, process, (2,), noise, start=(x, process.T)).x
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sampler", [*ODE, *SDE], ids=repr)
@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_nfe_is_what_the_network_sees(
    sampler: GridSampler, denoise: bool, steps: int, process: Process
) -> None:
    """One evaluation a step, at descending times in [t_sampling, T], each with one time an item."""
    seen, exact = [], gaussian_eps(process)

    def counting(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert t.shape == (3,)
        assert t.dtype == x.dtype
        seen.append(t[0].item())
        return exact(x, t)

    sampler = replace(sampler, steps=steps, denoise=denoise)
    samples = sampler(counting, process, (2, 2), Noise(0, 0, 3))
    assert samples.nfe == len(seen) == steps == sampler.with_nfe(steps).steps
    assert samples.x.shape == (3, 2, 2)
    assert samples.x.dtype == torch.float32
    assert seen == sorted(seen, reverse=True)
    assert max(seen) <= process.T * (1 + 1e-6)
    assert min(seen) >= process.t_sampling * (1 - 1e-6)


@pytest.mark.parametrize("sampler", [*ODE, *SDE], ids=repr)
def test_samples_do_not_depend_on_the_batch_split(
    sampler: ReverseSampler, mixture: GaussianMixture, process: Process
) -> None:
    """Two batches give the samples of one batch to rounding."""
    eps = mixture.eps(process)
    whole = sampler(eps, process, (2,), Noise(3, 0, 10)).x
    parts = [sampler(eps, process, (2,), Noise(3, *part)).x for part in ((0, 4), (4, 6))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", [*ODE, *SDE], ids=repr)
def test_a_start_is_carried_to_the_data(sampler: ReverseSampler, process: Process) -> None:
    """From x_t at t = 0.02 the clean items come back to within five times the noise at t."""
    x0 = torch.linspace(-1, 2, 8).reshape(8, 1)
    t = torch.full((8,), 0.02)
    x_t = process.perturb(x0, t, Noise(1, 0, 8).normal((1,)))
    seen, exact = [], gaussian_eps(process)

    def watching(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(t.max().item())
        return exact(x, t)

    back = sampler(watching, process, (1,), Noise(0, 0, 8), start=(x_t, 0.02)).x
    assert max(seen) == pytest.approx(0.02)
    assert (back - x0).abs().max().item() < 5 * process.noise_to_signal(t)[0].item()


@pytest.mark.parametrize("sampler", [DEIS, UNIPC, MULTISTEP, MULTISTEP_SDE, SA], ids=repr)
def test_a_mixture_is_sampled_at_32_evaluations(
    sampler: GridSampler, mixture: GaussianMixture, process: Process
) -> None:
    """Mean log density of the samples is minus the entropy, within 4 standard errors and 2 %."""
    n = 3000
    x = sampler.with_nfe(32)(mixture.eps(process), process, (2,), Noise(0, 0, n)).x.double()
    exact = mixture.log_prob(mixture.sample(50_000, torch.Generator().manual_seed(0))[0])
    tolerance = 4 * exact.std() * (1 / n + 1 / 50_000) ** 0.5 + 0.02 * exact.mean().abs()
    assert abs(mixture.log_prob(x).mean() - exact.mean()) < tolerance


@pytest.mark.parametrize(
    "build",
    [
        lambda: ExponentialAdams(0),
        lambda: ExponentialAdams(order=4),
        lambda: ExponentialAdams(prediction="score"),
        lambda: ExponentialAdams(prediction="epsilon", tau=1.0),
        lambda: ExponentialAdams(tau=-1.0),
        lambda: DPMSolverMultistep(grid="even"),
        lambda: UNIPC.nodes(VariancePreserving(), 1e-3),
        lambda: MULTISTEP.nodes(VarianceExploding(), 0.0),
    ],
)
def test_bad_options_are_refused(build) -> None:
    """An option or a start out of range says what is allowed."""
    with pytest.raises(OptionError) as refusal:
        build()
    assert refusal.value.allowed
