"""Reconstruction: noise added to a latent or to an image, and the way back to an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from msgm_bench.diffusion.exponential_adams import Corrections, adams_flow
from msgm_bench.diffusion.exponential_samplers import Node
from msgm_bench.diffusion.noise import Noise
from msgm_bench.diffusion.noise_prediction import CountedEps, EpsFn
from msgm_bench.diffusion.ode_samplers import heun, karras_grid
from msgm_bench.diffusion.process import Process
from msgm_bench.diffusion.samplers import Samples
from msgm_bench.errors import OptionError

RHO = 7.0  # of the grid
Decoder = Callable[[tuple[Tensor, float], Noise], Samples]
"""From (x_t [N, *item_shape], t), and a source of randomness, to samples of x0."""


class Encoder(Protocol):
    """The probability flow ODE from t_min up to T: the latent z = x_T of an item x = x_{t_min}."""

    def __call__(self, eps: EpsFn, process: Process, x: Tensor) -> Samples:
        """z [N, *item_shape] of x [N, *item_shape], and the evaluations of each."""


@dataclass(frozen=True)
class HeunEncoder:
    """d xbar / d sbar = eps_hat(a xbar, t), xbar = x / a, sbar = sigma / a, by Heun's method.

    Deterministic, on Karras et al.'s grid of sbar, upwards.  nfe = 2 steps.
    Source: Song et al. 2021, Eq. 13 and section 4.3.

    Attributes:
        steps: The number of steps, at least 1.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        """Check the number of steps.

        Raises:
            OptionError: if steps < 1.
        """
        if self.steps < 1:
            raise OptionError(f"steps={self.steps} of encoding", "steps >= 1")

    def __call__(self, eps: EpsFn, process: Process, x: Tensor) -> Samples:
        """Return z [N, *item_shape] of x [N, *item_shape], and the evaluations of each."""
        counted = CountedEps(eps)
        with torch.no_grad():
            z = heun(counted, process, x, _upwards(process, self.steps + 1))
        return Samples(z, counted.nfe)


@dataclass(frozen=True)
class AdamsEncoder:
    """d xbar / du = e^u eps_hat(a xbar, t), u = log(sigma / a), by exponential Adams steps.

    Deterministic, of fourth order, on Karras et al.'s grid, upwards.  nfe = nodes.  Where the flow
    is stiff, as of items that a model has unlearned, too few nodes make unstable steps: the latent
    of such an item is NaN.
    Source: Song et al. 2021, Eq. 13; `adams_flow`.

    Attributes:
        nodes: The number of nodes, at least 2.
    """

    nodes: int = 32

    def __post_init__(self) -> None:
        """Check the number of nodes.

        Raises:
            OptionError: if nodes < 2.
        """
        if self.nodes < 2:
            raise OptionError(f"nodes={self.nodes} of encoding", "nodes >= 2")

    def __call__(self, eps: EpsFn, process: Process, x: Tensor) -> Samples:
        """Return z [N, *item_shape] of x [N, *item_shape], and the evaluations of each."""
        us = _upwards(process, self.nodes).log().tolist()
        first, last = Node.at(process, us[0]), Node.at(process, us[-1])
        counted, corrections = CountedEps(eps), Corrections(x)

        def slope(xbar: Tensor, u: float) -> Tensor:
            node = Node.at(process, u)
            return counted(node.a * xbar, node.t)

        with torch.no_grad():
            z = last.a * adams_flow(slope, x / first.a, us, on_correction=corrections)
        z[corrections.are_unstable] = torch.nan
        return Samples(z, counted.nfe)


def _upwards(process: Process, points: int) -> Tensor:
    """Karras et al.'s grid of sbar from t_min to T, float64 [points]."""
    ends = torch.tensor([process.T, process.t_min], dtype=torch.float64)
    high, low = process.noise_to_signal(ends).tolist()
    return karras_grid(high, low, points, RHO).flip(0)


def reconstruct_latent(
    encode: Encoder,
    decode: Decoder,
    eps: EpsFn,
    process: Process,
    x0: Tensor,
    t: float,
    noise: Noise,
) -> Samples:
    """x0 to its latent z at T, z' = a(t) z + sigma(t) eps', and from (z', T) back to an image.

    Without the perturbation, and with the probability flow ODE for `decode`, the two ways are
    each other's inverse for every eps_hat.  The perturbation is of the latent: what it does to
    the image is what the flow from T makes of it.

    Args:
        encode: The way to T.
        decode: The way back.
        eps: The noise predictor.
        process: The forward process.
        x0: Items [N, *item_shape], in model space.
        t: The time of a(t) and sigma(t), in [0, 1]; at 0 nothing is perturbed.
        noise: The source of all randomness.

    Raises:
        OptionError: if t is out of range.

    Source: MSGM, arXiv:2412.07229, section 4.3 (t = 0.02) and its released code.
    """
    if not 0 <= t <= process.T:
        raise OptionError(f"reconstruction with t={t:g}", "0 <= t <= 1")
    latent = encode(eps, process, x0)
    z = latent.x if t == 0 else perturbed(process, latent.x, t, noise)
    decoded = decode((z, process.T), noise)
    return Samples(decoded.x, latent.nfe + decoded.nfe)


def reconstruct_partial(
    decode: Decoder, process: Process, x0: Tensor, t: float, noise: Noise
) -> Samples:
    """One draw x_t = a(t) x0 + sigma(t) eps of the perturbation kernel, and from (x_t, t) back.

    Args:
        decode: The way back.
        process: The forward process.
        x0: Items [N, *item_shape], in model space.
        t: How far to go, in (t_sampling, 1].
        noise: The source of all randomness.

    Raises:
        OptionError: if t is out of range.
    """
    if not process.t_sampling < t <= process.T:
        raise OptionError(f"reconstruction from t={t:g}", f"{process.t_sampling:g} < t <= 1")
    return decode((perturbed(process, x0, t, noise), t), noise)


def perturbed(process: Process, x: Tensor, t: float, noise: Noise) -> Tensor:
    """Return a(t) x + sigma(t) eps' [N, *item_shape], eps' ~ N(0, I)."""
    at = torch.full((x.shape[0],), t, dtype=x.dtype, device=x.device)
    return process.perturb(x, at, noise.normal(tuple(x.shape[1:])))
