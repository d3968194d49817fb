"""States on a model's trajectory from noise to a class."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from msgm_bench import Conditioned, Noise, Session


@torch.no_grad()
def trajectory_states(
    session: Session, step: int, c_f: Tensor, num_steps: int, guidance: float
) -> tuple[Tensor, Tensor]:
    """x_t and t of guided DDIM with the model in training: each item stops at another step.

    A whole trajectory has ``num_steps`` even steps; items take 0, 1, ... or all but the last, each
    number equally often.

    Args:
        session: Its model is evaluated, without dropout.
        step: Number of the batch, for the noise.
        c_f: Classes ``int64 [N]``, one an item.
        num_steps: Steps of a whole trajectory.
        guidance: w of (1 + w) eps_c - w eps_null.

    Returns:
        States ``[N, *shape]`` and their times ``[N]``, longest trajectories first.
    """
    model, N = session.model, len(c_f)
    training = model.training
    model.eval()
    host = Noise(session.noise("length", step, count=1).seed, 0, 1)  # waits for no device
    offset = host.uniform(()).double()
    lengths = ((N - 1 - torch.arange(N) + offset) / N * num_steps).long()
    times = model.process.grid(num_steps)
    x = model.process.prior_sampling(model.shape, session.noise("prior", step, count=N))
    for k, (t, s) in enumerate(pairwise(times)):
        n = sum(length > k for length in lengths.tolist())
        if n == 0:
            break
        eps = Conditioned(model, c_f[:n], guidance).eps(x[:n], x.new_full((n,), t.tolist()))
        (a_t, sigma_t), (a_s, sigma_s) = (model.process.marginal(v) for v in (t, s))
        x0_hat = (x[:n] - sigma_t * eps) / a_t
        x = torch.cat([a_s * x0_hat + sigma_s * eps, x[n:]])
    model.train(training)
    return x, times[lengths].to(x, non_blocking=True)
