from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from msgm_bench.diffusion import GaussianMixture, Noise, Process
from msgm_bench.errors import OptionError


def oracle(mixture: GaussianMixture) -> MixtureSameFamily:
    """The same law in torch.distributions."""
    components = MultivariateNormal(mixture.means, mixture.covariances)
    return MixtureSameFamily(Categorical(mixture.weights), components)


def test_log_prob_and_posterior_are_torch_distributions(mixture: GaussianMixture) -> None:
    """Density and responsibilities equal torch.distributions' to rounding."""
    x, _ = mixture.sample(200, torch.Generator().manual_seed(0))
    law = oracle(mixture)
    torch.testing.assert_close(mixture.log_prob(x), law.log_prob(x))
    joint = law.component_distribution.log_prob(x[:, None]) + torch.log(mixture.weights)
    torch.testing.assert_close(mixture.posterior(x), torch.softmax(joint, 1))


def test_sample_has_the_mixtures_moments(mixture: GaussianMixture) -> None:
    """Component shares, mean and covariance lie within 4 standard errors."""
    n = 20_000
    x, component = mixture.sample(n, torch.Generator().manual_seed(0))
    w = mixture.weights
    share = torch.bincount(component, minlength=3) / n
    assert bool(((share - w).abs() < 4 * (w * (1 - w) / n).sqrt()).all())
    law = oracle(mixture)
    assert bool(((x.mean(0) - law.mean).abs() < 4 * (law.variance / n).sqrt()).all())
    fourth = ((x - law.mean) ** 4).mean(0)
    error = ((fourth - law.variance**2) / n).sqrt()
    assert bool(((x.var(0) - law.variance).abs() < 4 * error).all())


def test_eps_is_minus_sigma_times_the_diffused_score(
    mixture: GaussianMixture, process: Process
) -> None:
    """At each item's own time eps_hat equals -sigma grad log p_t by automatic differentiation."""
    x, _ = mixture.sample(6, torch.Generator().manual_seed(0))
    t = torch.linspace(process.t_min, 1, 6, dtype=torch.float64)
    eps_hat = mixture.eps(process)(x, t)
    for i in range(6):
        y = x[i : i + 1].clone().requires_grad_()
        law = oracle(mixture.diffused(process, t[i]))
        (score,) = torch.autograd.grad(law.log_prob(y).sum(), y)
        sigma = process.marginal(t[i])[1]
        torch.testing.assert_close(eps_hat[i : i + 1], -sigma * score, rtol=1e-6, atol=1e-8)


def test_noise_moments_are_conditional_moments(mixture: GaussianMixture, process: Process) -> None:
    """E[eps] equals eps_hat, and both moments equal a self-normalised Monte-Carlo average."""
    n, t = 200_000, torch.tensor([0.3], dtype=torch.float64)
    x = torch.tensor([[0.5, 1.0]], dtype=torch.float64)
    first, second = mixture.noise_moments(process, x, t)
    torch.testing.assert_close(first, mixture.eps(process)(x, t))
    a, sigma = process.marginal(t)
    eps = Noise(0, 0, n, dtype=torch.float64).normal((2,))
    weight = torch.exp(mixture.log_prob((x - sigma * eps) / a))  # p(eps | x_t) ~ N(eps) p(x0)
    weight = weight / weight.sum()
    products = (eps[:, :, None] * eps[:, None, :]).flatten(1)
    for values, exact in ((eps, first[0]), (products, second[0].flatten())):
        estimate = (weight[:, None] * values).sum(0)
        error = ((weight[:, None] * (values - estimate)) ** 2).sum(0).sqrt()
        assert bool(((estimate - exact).abs() < 4 * error).all())


def test_subset_renormalises(mixture: GaussianMixture) -> None:
    """A subset keeps its components' ratio and sums to one."""
    part = mixture.subset([0, 1])
    torch.testing.assert_close(part.weights, torch.tensor([2 / 3, 1 / 3], dtype=torch.float64))
    assert torch.equal(part.means, mixture.means[:2])


def test_results_take_the_dtype_of_x(mixture: GaussianMixture, process: Process) -> None:
    """Float32 in, float32 out."""
    x, t = torch.zeros(3, 2), torch.full((3,), 0.5)
    results = [mixture.log_prob(x), mixture.posterior(x), mixture.eps(process)(x, t)]
    assert {result.dtype for result in results} == {torch.float32}


@pytest.mark.parametrize(
    ("weights", "means", "covariances"),
    [
        (torch.ones(2), torch.zeros(1, 2), torch.eye(2)[None]),
        (torch.tensor([-1.0]), torch.zeros(1, 2), torch.eye(2)[None]),
        (torch.ones(1), torch.zeros(1, 2), -torch.eye(2)[None]),
        (torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1.0, 0.5], [0.0, 1.0]]])),
    ],
)
def test_bad_parameters_are_refused(weights, means, covariances) -> None:
    """Shapes that disagree, weights below zero and matrices that are no covariance are refused."""
    with pytest.raises(OptionError):
        GaussianMixture(weights, means, covariances)
