"""What a forward process keeps: marginal, drift, diffusion and transitions are of one process."""

from __future__ import annotations

import json
import math

import torch
from torch import Tensor

from msgm_bench.diffusion import Noise, Process

POINTS = 33
ROUNDING = 1e-8
"""Relative error that float64 leaves in a', (sigma^2)' and compositions."""


def check_process(process: Process) -> None:
    """The formulas of a process agree with each other, in float64 on times in (t_min, T).

    a' = f a and (sigma^2)' - 2 f sigma^2 = g^2 by automatic differentiation; transition(s, t) is
    a_t / a_s with sigma_t^2 - alpha^2 sigma_s^2, and composes through any time between; sigma / a
    is ``noise_to_signal``, increases, and has ``t_from_noise_to_signal`` as its
    inverse. Training times lie in
    [t_min, T] and reach over it; grids descend to t_sampling; the prior has the spread of x_T
    for data of a variance from 0 to 1; ``spec`` is JSON.

    Raises:
        AssertionError: One of them does not hold; the sentence names the formula.
    """
    name = type(process).__name__
    low, high = process.t_min, process.T
    assert 0 < low < 1, f"{name}: t_min = {low} is not in (0, 1)"
    assert 0 < process.t_sampling < 1, f"{name}: t_sampling is not in (0, 1)"
    inner = (torch.arange(POINTS, dtype=torch.float64) + 0.37) / POINTS
    t = low + (high - low) * inner
    _check_positive(name, process, t)
    _check_rates(name, process, t)
    _check_transition(name, process, t)
    _check_inverse(name, process, t)
    _check_times(name, process)
    _check_prior(name, process)
    json.dumps(process.spec(), allow_nan=False)


def _close(value: Tensor, truth: Tensor, tolerance: float = ROUNDING) -> bool:
    scale = truth.abs().clamp(min=1e-12)
    return bool(((value - truth).abs() <= tolerance * scale).all())


def _check_positive(name: str, process: Process, t: Tensor) -> None:
    for what, value in zip(("a", "sigma"), process.marginal(t), strict=True):
        positive = bool((value > 0).all() and torch.isfinite(value).all())
        assert positive, f"{name}: {what}(t) is not positive and finite"
        assert value.shape == t.shape, f"{name}: {what}(t) has shape {tuple(value.shape)}"
        assert value.dtype == t.dtype, f"{name}: {what}(t) of float64 times is {value.dtype}"


def _check_rates(name: str, process: Process, t: Tensor) -> None:
    t = t.clone().requires_grad_(True)
    a, sigma = process.marginal(t)
    if a.requires_grad:
        (da,) = torch.autograd.grad(a.sum(), t, retain_graph=True)
    else:
        da = torch.zeros_like(t)  # a is a constant
    (dvar,) = torch.autograd.grad(sigma.square().sum(), t)
    f, g = (rate.detach() for rate in process.drift_diffusion(t))
    a, sigma = a.detach(), sigma.detach()
    drift = bool(((da - f * a).abs() <= ROUNDING * da.abs().clamp(min=1e-6)).all())
    assert drift, f"{name}: a' = f a does not hold: drift_diffusion or marginal is wrong"
    held = _close(g.square(), dvar - 2 * f * sigma.square(), 1e-6)
    assert held, f"{name}: g^2 = (sigma^2)' - 2 f sigma^2 does not hold"


def _check_transition(name: str, process: Process, t: Tensor) -> None:
    s, m, u = t[: POINTS // 3], t[POINTS // 3 : 2 * (POINTS // 3)], t[2 * (POINTS // 3) :]
    (a_s, sigma_s), (a_u, sigma_u) = process.marginal(s), process.marginal(u)
    alpha, variance = process.transition(s, u)
    assert _close(alpha * a_s, a_u), f"{name}: transition(s, t) has not alpha = a_t / a_s"
    marginal = alpha.square() * sigma_s.square() + variance
    assert _close(marginal, sigma_u.square()), (
        f"{name}: transition(s, t) does not lead from the marginal at s to that at t: variance "
        "= sigma_t^2 - alpha^2 sigma_s^2 does not hold"
    )
    (alpha_1, variance_1), (alpha_2, variance_2) = (
        process.transition(s, m),
        process.transition(m, u),
    )
    composed = alpha_2.square() * variance_1 + variance_2
    together = _close(alpha_1 * alpha_2, alpha) and _close(composed, variance)
    assert together, f"{name}: transition(s, m) and transition(m, t) do not compose"


def _check_inverse(name: str, process: Process, t: Tensor) -> None:
    a, sigma = process.marginal(t)
    ratio = process.noise_to_signal(t)
    assert _close(ratio, sigma / a), f"{name}: noise_to_signal is not sigma / a"
    assert bool((ratio.diff() > 0).all()), f"{name}: sigma / a does not increase"
    back = process.t_from_noise_to_signal(ratio)
    inverse = _close(process.noise_to_signal(back), ratio, 1e-6) and _close(back, t, 1e-5)
    assert inverse, f"{name}: t_from_noise_to_signal is not the inverse of noise_to_signal"


def _check_times(name: str, process: Process) -> None:
    times = process.sample_times(torch.linspace(0, 1 - 1e-9, 2_001, dtype=torch.float64))
    inside = bool((times >= process.t_min).all() and (times <= process.T).all())
    assert inside, f"{name}: sample_times leaves [t_min, T]"
    width = process.T - process.t_min
    ends = float(times.min() - process.t_min), float(process.T - times.max())
    assert max(ends) < 0.01 * width, f"{name}: sample_times does not reach over [t_min, T]"
    grid = process.grid(process.grid_points() or 50)
    assert bool((grid.diff() < 0).all()), f"{name}: grid does not descend"
    assert math.isclose(float(grid[0]), process.T), f"{name}: grid does not start at T"
    assert math.isclose(float(grid[-1]), process.t_sampling), f"{name}: grid misses t_sampling"
    labels = process.timestep(grid)
    distinct = bool(torch.isfinite(labels).all()) and len(set(labels.tolist())) == len(grid)
    assert distinct, f"{name}: timestep labels two times of a grid alike"


def _check_prior(name: str, process: Process) -> None:
    ends = process.marginal(torch.tensor([process.T], dtype=torch.float64))
    a, sigma = (float(value) for value in ends)
    close = 0.99 * sigma < process.prior_std < 1.01 * math.hypot(a, sigma)
    assert close, f"{name}: prior_std is not that of x_T"
    x = process.prior_sampling((2,), Noise(0, 0, 4_096, dtype=torch.float64))
    spread = abs(float(x.std()) / process.prior_std - 1) < 0.1
    assert spread, f"{name}: prior_sampling does not draw N(0, prior_std^2 I)"
    z = torch.zeros(1, 2, dtype=torch.float64)
    density = -math.log(2 * math.pi * process.prior_std**2)
    right = math.isclose(float(process.prior_logp(z)), density, rel_tol=1e-6)
    assert right, f"{name}: prior_logp is not the density of N(0, prior_std^2 I)"
