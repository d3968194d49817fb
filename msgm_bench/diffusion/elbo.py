"""The variational bound on -log p(x) of a discrete DDPM."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from msgm_bench.diffusion.ddpm import DiscreteDDPM
from msgm_bench.diffusion.likelihood import Likelihood
from msgm_bench.diffusion.noise import Noise
from msgm_bench.diffusion.noise_prediction import ConditionalEpsFn, CountedEps, EpsFn
from msgm_bench.diffusion.process import per_item
from msgm_bench.errors import OptionError


@dataclass(frozen=True)
class ElboTerms:
    """The bound's constants on the grid k = 0..N-1, float64.

    Attributes:
        c: c_0 = log(2 pi beta_0), c_k = log(beta_k / btilde_k) + btilde_k / beta_k - 1 [N], where
            btilde_k = beta_k (1 - alphabar_{k-1}) / (1 - alphabar_k).
        w: w_k = beta_k / (alpha_k (1 - alphabar_k)) [N].
    """

    c: Tensor
    w: Tensor

    @classmethod
    def of(cls, process: DiscreteDDPM) -> ElboTerms:
        """Return the constants of a process."""
        beta, alphabar = process.betas, process.alphas_cumprod
        ratio = (1 - alphabar[:-1]) / (1 - alphabar[1:])  # btilde_k / beta_k
        decoder = torch.log(2 * math.pi * beta[:1])
        c = torch.cat([decoder, ratio - 1 - torch.log(ratio)])
        return cls(c, beta / ((1 - beta) * (1 - alphabar)))


def elbo_nll(
    eps: EpsFn | ConditionalEpsFn,
    process: DiscreteDDPM,
    x: Tensor,
    noise: Noise,
    *,
    condition: Tensor | None = None,
    timesteps: int | None = None,
) -> Likelihood:
    """Variational bound on -log p(x) [N] in nats, with reverse variance beta_k.

    L = KL(q(x_T | x) || N(0, I)) + 1/2 sum_{k=0}^{N-1} (D c_k + w_k ||eps - eps_hat(x_k, k)||^2),
    with one draw of eps a term and c, w as in `ElboTerms`; k = 0 is the Gaussian decoder of
    variance beta_0, k >= 1 the KL divergences of the reverse steps.

    Args:
        eps: The noise predictor.
        process: The discrete process that eps was trained on.
        x: Items, shape [N, *item_shape].
        noise: The source of all randomness.
        condition: Condition of each item [N], for -log p(x | condition); None: -log p(x).
        timesteps: Evaluations an item, 2..N: k = 0 always, and `timesteps` - 1 of k = 1..N-1,
            drawn in proportion to w_k, one from each of as many equal strata of that law, so
            that the sum stays unbiased; all N if None.

    Raises:
        OptionError: if timesteps is out of range.

    Source: Ho et al. 2020, Eq. 5, 7, 8 and 12, with their sigma_t^2 = beta_t; strata after
    Kingma et al. 2021 (VDM), appendix I.1.
    """
    if timesteps is not None and not 2 <= timesteps <= process.steps:
        raise OptionError(f"timesteps={timesteps}", f"2 to {process.steps}, or none for all")
    terms, counted = ElboTerms.of(process), CountedEps(eps, condition)
    with torch.no_grad():
        nats = _prior_kl(process, x) + 0.5 * x[0].numel() * terms.c.sum()
        for k, weight in _draws(terms.w, timesteps, noise):
            nats = nats + 0.5 * weight * _squared_error(counted, process, x, k, noise)
    failed = ~torch.isfinite(nats)
    reason = "the bound is not finite"
    reasons = {int(i): reason for i in torch.nonzero(failed).flatten().tolist()}
    return Likelihood(torch.where(failed, math.inf, nats), failed, counted.nfe, reasons)


def _draws(w: Tensor, timesteps: int | None, noise: Noise) -> Iterator[tuple[Tensor, float]]:
    """Yield k (one for all, or one an item) and the weight of its squared error."""
    if timesteps is None:
        yield from ((torch.tensor(k), float(w[k])) for k in range(len(w)))
        return
    yield torch.tensor(0), float(w[0])
    mass = torch.cumsum(w[1:], 0)
    strata = timesteps - 1
    for stratum in range(strata):
        u = (stratum + noise.uniform(()).double().cpu()) / strata
        k = 1 + torch.searchsorted(mass, u * mass[-1], right=True)
        yield k.clamp(max=len(w) - 1), float(mass[-1]) / strata


def _prior_kl(process: DiscreteDDPM, x: Tensor) -> Tensor:
    """Return KL(N(a x, sigma^2 I) || N(0, I)) at T, shape [N], float64."""
    alphabar = float(process.alphas_cumprod[-1])
    y = x.flatten(1).double()
    return 0.5 * (alphabar * y.square().sum(1) - y.shape[1] * (alphabar + math.log1p(-alphabar)))


def _squared_error(
    eps: CountedEps, process: DiscreteDDPM, x: Tensor, k: Tensor, noise: Noise
) -> Tensor:
    """Return ||eps - eps_hat(x_k, k)||^2 [N], float64, for one draw of eps an item."""
    alphabar = process.alphas_cumprod[k].to(x.device)
    z = noise.normal(tuple(x.shape[1:])).to(x)
    a, sigma = per_item(alphabar.sqrt(), x), per_item((1 - alphabar).sqrt(), x)
    t = (k + 1).double() / process.steps
    return (z - eps(a * x + sigma * z, t)).flatten(1).double().square().sum(1)
