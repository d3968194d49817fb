"""Classifier-free guidance against Gaussians, where it shifts the mean."""

from __future__ import annotations

import pytest
import torch

from msgm_bench.diffusion import GaussianMixture, Process, VariancePreserving, guided


def draw(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two predictions."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))


def test_two_weights_are_known() -> None:
    """w = 0 is the conditional prediction, w = -1 the unconditional one."""
    eps_c, eps_null = draw(4, 1, 3, 3)
    assert torch.equal(guided(eps_c, eps_null, 0.0), eps_c)
    torch.testing.assert_close(guided(eps_c, eps_null, -1.0), eps_null)


@pytest.mark.parametrize("w", [0.5, 2.0, 7.5])
def test_the_convention_is_that_of_ho_and_salimans(w: float) -> None:
    """(1 + w) eps_c - w eps_null, that is eps_null + s (eps_c - eps_null) with s = 1 + w."""
    eps_c, eps_null = draw(4, 2)
    torch.testing.assert_close(guided(eps_c, eps_null, w), eps_null + (1 + w) * (eps_c - eps_null))


@pytest.mark.parametrize("w", [0.0, 1.0, 2.0])
def test_guidance_moves_the_mean_of_a_gaussian(w: float, process: Process) -> None:
    """p(x | c) = N(m, S) beside p(x) = N(0, S): guided, it is the score of N((1 + w) m, S)."""
    S = torch.tensor([[0.8, 0.3], [0.3, 0.5]])[None]
    m = torch.tensor([[0.7, -0.4]])
    laws = [GaussianMixture(torch.ones(1), mean, S) for mean in (m, 0 * m, (1 + w) * m)]
    x = draw(30, 2)[0]
    t = torch.linspace(0.05, 1.0, 30, dtype=torch.float64)
    eps_c, eps_null, expected = (law.eps(process)(x, t) for law in laws)
    torch.testing.assert_close(guided(eps_c, eps_null, w), expected)


def test_guidance_multiplies_by_the_posterior() -> None:
    """Its score is that of p_t(x | c) p_t(c | x)^w, by automatic differentiation."""
    process, w, time = VariancePreserving(), 1.5, 0.4
    law = GaussianMixture(
        torch.tensor([0.3, 0.7]),
        torch.tensor([[1.0, 0.0], [-1.0, 0.5]]),
        torch.stack([torch.eye(2), 0.5 * torch.eye(2)]),
    )
    x, t = draw(20, 2)[0], torch.full((20,), time, dtype=torch.float64)
    _, sigma = process.marginal(t)
    eps_hat = guided(law.subset([0]).eps(process)(x, t), law.eps(process)(x, t), w)
    y = x.clone().requires_grad_()
    at_t, alone = law.diffused(process, time), law.subset([0]).diffused(process, time)
    energy = alone.log_prob(y) + w * at_t.posterior(y)[:, 0].log()
    (score,) = torch.autograd.grad(energy.sum(), y)
    torch.testing.assert_close(eps_hat, -sigma[:, None] * score)
