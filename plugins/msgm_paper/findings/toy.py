"""The paper's mixture, and the models of it in closed form (docs/mathematics.md, 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from msgm_bench import (
    EpsFn,
    Interval,
    Noise,
    ProbabilityFlow,
    Process,
    adams_nll,
    bits_per_dim,
    derive_seed,
    wilson,
)
from msgm_builtin.datasets.gaussians import OFFSET, MixtureDensity

RETAIN, FORGET = (0, 2), (1,)
MIDDLE = FORGET[0]
EVERY = 4  # L_f is descended at every fourth step, as in section 4.5
DENSITY = MixtureDensity()
STEPS = 64  # of Heun's method, for samples


def moderated(process: Process, alpha: float, sign: int, every: int = EVERY) -> EpsFn:
    r"""The optimum of equation 9 with equation 8, where L_f is ``sign`` times the printed one.

    Per (x, t), in eps_hat, with means over D for both losses:

    .. math:: \hat\epsilon = \hat\epsilon_g - \mathrm{sign} \frac{c}{2} E_f[\epsilon | x_t],
       \quad c = \frac{(1 - \alpha)\, p_{f,t}(x)}{\alpha k\, p_{g,t}(x)}.

    Args:
        process: The forward process.
        alpha: Weight of L_g, in (0, 1]; 1 is the model retrained without D_f.
        sign: 1 as printed, -1 as the released code has it.
        every: k; L_f is descended at every k-th step.
    """
    g, f = DENSITY.mixture.subset(RETAIN), DENSITY.mixture.subset(FORGET)
    eps_g, eps_f = g.eps(process), f.eps(process)
    weight = sign * (1 - alpha) / (2 * alpha * every)

    def eps_hat(x: Tensor, t: Tensor) -> Tensor:
        """``t [N]`` is one time for the whole batch, as samplers and solvers have it."""
        time = float(t[0])
        log_r = f.diffused(process, time).log_prob(x) - g.diffused(process, time).log_prob(x)
        return eps_g(x, t) - weight * log_r.exp()[:, None] * eps_f(x, t)

    return eps_hat


def held_out(forget: bool, count: int) -> Tensor:
    """Points ``float64 [count, 2]`` of D_f, or of D_g."""
    classes, name = (FORGET, "forget") if forget else (RETAIN, "retain")
    generator = torch.Generator().manual_seed(derive_seed("paper findings", name))
    return DENSITY.mixture.subset(classes).sample(count, generator)[0]


def is_middle(x: Tensor) -> Tensor:
    """Whether the middle is the most likely class of points ``[N, 2]``; of no finite one."""
    return torch.isfinite(x).all(dim=1) & (DENSITY.posterior(x).argmax(dim=1) == MIDDLE)


def unlearning_ratio(eps: EpsFn, process: Process, count: int) -> Interval:
    """Share of samples of the probability flow whose most likely class is the middle, in %."""
    noise = Noise(derive_seed("paper findings", "samples"), 0, count, dtype=torch.float64)
    x = ProbabilityFlow(STEPS)(eps, process, (2,), noise).x
    return wilson(int(is_middle(x).sum()), count).scaled(100)


def nll(eps: EpsFn, process: Process, x: Tensor) -> Tensor:
    """NLL of each point in bits/dim + 8; infinite where the integration failed."""
    likelihood = adams_nll(eps, process, x, Noise(0, 0, len(x)), nodes=64)
    return bits_per_dim(likelihood.nats.double(), 2, OFFSET)
