"""Exponential multistep samplers: polynomials in log(sigma/a) under an exponential factor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from msgm_bench.diffusion.exponential_weights import exponential_weights
from msgm_bench.diffusion.noise import Noise
from msgm_bench.diffusion.noise_prediction import CountedEps
from msgm_bench.diffusion.ode_samplers import karras_grid
from msgm_bench.diffusion.process import Process
from msgm_bench.diffusion.samplers import ReverseSampler, posterior_mean
from msgm_bench.errors import OptionError

Grid = Literal["logsnr", "karras"]
RHO = 7.0


def log_grid(process: Process, t_start: float, points: int, grid: Grid) -> list[float]:
    """u = log(sigma/a) at ``points`` descending times from t_start to t_sampling.

    ``logsnr``: even in u; ``karras``: even in (sigma/a)^(1/7).
    """
    ends = torch.tensor([t_start, process.t_sampling], dtype=torch.float64)
    high, low = process.noise_to_signal(ends).tolist()
    if grid == "karras":
        return karras_grid(high, low, points, RHO).log().tolist()
    return torch.linspace(math.log(high), math.log(low), points, dtype=torch.float64).tolist()


@dataclass(frozen=True)
class Node:
    """A time of the grid.

    Attributes:
        u: log(sigma/a).
        t: The time, float64.
        a: Signal.
        sigma: Noise.
    """

    u: float
    t: Tensor
    a: float
    sigma: float

    @classmethod
    def at(cls, process: Process, u: float) -> Node:
        """The node at log(sigma/a) = u."""
        t = process.t_from_noise_to_signal(torch.tensor(math.exp(u), dtype=torch.float64))
        a, sigma = process.marginal(t)
        return cls(u, t, float(a), float(sigma))


History = list[tuple[Node, Tensor]]
"""Nodes, and what was predicted there; the latest last."""


@dataclass(frozen=True)
class GridSampler(ReverseSampler):
    """A sampler with one evaluation at each node of a grid in log(sigma/a).

    nfe = steps; with ``denoise`` the last step is the posterior mean at t_sampling.

    Attributes:
        grid: Where the nodes lie.
        denoise: Whether the last step is the posterior mean.
    """

    steps: int = 24
    grid: Grid = "logsnr"
    denoise: bool = True

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            OptionError: An option is out of range.
        """
        super().__post_init__()
        if self.grid not in ("logsnr", "karras"):
            raise OptionError(f"grid={self.grid!r}", "'logsnr' or 'karras'")

    def nodes(self, process: Process, t_start: float) -> list[Node]:
        """The nodes of the grid, the last of them at t_sampling.

        Raises:
            OptionError: t_start is not above t_sampling.
        """
        if t_start <= process.t_sampling:
            raise OptionError(f"sampling from t={t_start:g}", f"{process.t_sampling:g} < t <= 1")
        points = self.steps if self.denoise else self.steps + 1
        if points == 1:
            t = torch.tensor(t_start, dtype=torch.float64)
            return [Node.at(process, float(process.noise_to_signal(t).log()))]
        return [Node.at(process, u) for u in log_grid(process, t_start, points, self.grid)]

    def steps_within(self, nfe: int) -> int:
        """Return nfe."""
        return nfe


@dataclass(frozen=True)
class ExponentialAdams(GridSampler):
    """Exponential Adams methods on the probability flow ODE, or on a reverse SDE (``tau``).

    The prediction is a polynomial in u = log(sigma/a) = -lambda through the last ``order`` nodes:

    epsilon, with sum_j w_j p(u_j) = int_{u_t}^{u_s} e^(u - u_s) p(u) du:
    x_s = a_s/a_t x_t + sigma_s sum_j w_j eps_j;

    data, with h = lambda_s - lambda_t, k = 1 + tau^2 and
    sum_j w_j p(lambda_j) = int_{lambda_t}^{lambda_s} e^(k (lambda - lambda_s)) p(lambda) dlambda:
    x_s = sigma_s/sigma_t e^(-tau^2 h) x_t + a_s k sum_j w_j x0_j
    + sigma_s sqrt(1 - e^(-2 tau^2 h)) z.

    With ``corrector`` the evaluation at the predicted x_s is added to the nodes and the step is
    made again with the same noise, without another evaluation. Members: DEIS (epsilon), UniPC
    (data, corrector), SA-Solver (data, corrector, tau > 0).

    Source: Zhang and Chen 2023, arXiv:2204.13902, section 3.3 (tAB-DEIS); Zhao et al. 2023,
    arXiv:2302.04867, section 3; Xue et al. 2023, arXiv:2309.05019, section 4.
    """

    order: int = 3
    prediction: Literal["epsilon", "data"] = "data"
    corrector: bool = False
    tau: float = 0.0

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            OptionError: An option is out of range.
        """
        super().__post_init__()
        if self.prediction not in ("epsilon", "data") or self.order not in (1, 2, 3):
            raise OptionError(
                f"prediction={self.prediction!r}, order={self.order}",
                "'epsilon' or 'data', and an order of 1, 2 or 3",
            )
        if self.tau < 0 or (self.tau and self.prediction == "epsilon"):
            raise OptionError(
                f"tau={self.tau}, prediction={self.prediction!r}",
                "tau >= 0, and 0 for the prediction of epsilon",
            )

    def solve(
        self, eps: CountedEps, process: Process, x: Tensor, t_start: float, noise: Noise
    ) -> Tensor:
        """Predict x at the next node, evaluate there, correct."""
        nodes = self.nodes(process, t_start)
        history: History = []
        x_before, z = x, None
        for i, node in enumerate(nodes):
            is_last = i + 1 == len(nodes)
            if is_last and not self.denoise:
                break
            eps_hat = eps(x, node.t)
            history = [*history[-self.order :], (node, self._value(x, eps_hat, node))]
            if self.corrector and i:
                x = self._step(nodes[i - 1], node, history, x_before, z)
            if is_last:
                return (x - node.sigma * eps_hat) / node.a
            z = noise.normal(tuple(x.shape[1:])) if self.tau else None
            x_before = x
            x = self._step(node, nodes[i + 1], history[-self.order :], x, z)
        return x

    def _value(self, x: Tensor, eps_hat: Tensor, node: Node) -> Tensor:
        """What is interpolated: eps_hat, or x0_hat."""
        return eps_hat if self.prediction == "epsilon" else (x - node.sigma * eps_hat) / node.a

    def _step(self, t: Node, s: Node, history: History, x: Tensor, z: Tensor | None) -> Tensor:
        """x_s from x_t, with the polynomial through the values of ``history``."""
        if self.prediction == "epsilon":
            w = exponential_weights([node.u for node, _ in history], t.u, s.u, 1.0)
            return s.a / t.a * x + s.sigma * _combine(w, history)
        rate, h = 1 + self.tau**2, t.u - s.u
        w = exponential_weights([-node.u for node, _ in history], -t.u, -s.u, rate)
        decay = math.exp(-(self.tau**2) * h)
        x = s.sigma / t.sigma * decay * x + s.a * rate * _combine(w, history)
        return x if z is None else x + s.sigma * math.sqrt(1 - decay**2) * z


@dataclass(frozen=True)
class DPMSolverMultistep(GridSampler):
    """DPM-Solver++ 2M, and with ``stochastic`` its SDE variant.

    With h = lambda_s - lambda_t, r = (lambda_t - lambda_{t'})/h of the step before it from t', and
    D = x0_t + (x0_t - x0_{t'})/(2 r):
    x_s = sigma_s/sigma_t x_t + a_s (1 - e^-h) D, or
    x_s = sigma_s/sigma_t e^-h x_t + a_s (1 - e^-2h) D + sigma_s sqrt(1 - e^-2h) z.

    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2 and appendix B.
    """

    stochastic: bool = False

    def solve(
        self, eps: CountedEps, process: Process, x: Tensor, t_start: float, noise: Noise
    ) -> Tensor:
        """Extrapolate x0_hat to the middle of the step."""
        nodes = self.nodes(process, t_start)
        previous: tuple[Tensor, float] | None = None  # x0_hat, and the length of its step
        for t, s in pairwise(nodes):
            h = t.u - s.u
            x0_hat = (x - t.sigma * eps(x, t.t)) / t.a
            D = x0_hat
            if previous is not None:
                D = x0_hat + (x0_hat - previous[0]) * (h / (2 * previous[1]))
            previous = x0_hat, h
            decay = math.exp(-h)
            if self.stochastic:
                z = noise.normal(tuple(x.shape[1:]))
                x = s.sigma / t.sigma * decay * x + s.a * (1 - decay**2) * D
                x = x + s.sigma * math.sqrt(1 - decay**2) * z
            else:
                x = s.sigma / t.sigma * x + s.a * (1 - decay) * D
        return posterior_mean(eps, process, x, nodes[-1].t) if self.denoise else x


def _combine(weights: list[float], history: History) -> Tensor:
    """sum_j w_j v_j."""
    terms = [w * value for w, (_, value) in zip(weights, history, strict=True)]
    return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]
