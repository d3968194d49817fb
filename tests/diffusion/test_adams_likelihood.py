"""The likelihood by exponential Adams steps against closed forms and dopri5."""

from __future__ import annotations

import math

import pytest
import torch
from test_ode_likelihood import conditional_eps, damaged, draw

from msgm_bench import OptionError
from msgm_bench.diffusion import (
    GaussianMixture,
    Noise,
    Process,
    VarianceExploding,
    VariancePreserving,
    adams_nll,
    bits_per_dim,
    ode_nll,
)

N = 24


def bits(nats: torch.Tensor) -> torch.Tensor:
    """In bits/dim of two dimensions."""
    return bits_per_dim(nats, 2)


def test_32_nodes_give_the_density(mixture: GaussianMixture, process: Process) -> None:
    """The exact trace is within 0.01 bits/dim of dopri5 at 1e-7; all but one item take 32 nodes."""
    x, eps = draw(mixture, N), mixture.eps(process)
    tight = ode_nll(eps, process, x, Noise(0, 0, N), rtol=1e-7, atol=1e-7, max_nfe=9999)
    result = adams_nll(eps, process, x, Noise(0, 0, N))
    assert (result.evaluations == 32).sum() >= N - 1
    assert result.nfe == result.evaluations.max() <= 96
    assert not result.failed.any()
    assert bits(result.nats - tight.nats).abs().max() < 0.01


def test_the_density_of_a_gaussian_in_closed_form(
    gaussian: GaussianMixture, process: Process
) -> None:
    """-log p is that of the prior carried back by the flow's exact scale, within 0.005 bits/dim."""
    x = draw(gaussian, N)
    ends = torch.tensor([process.t_min, process.T], dtype=torch.float64)
    a, sigma = process.marginal(ends)
    mean, var = gaussian.means[0], gaussian.covariances[0].diagonal()
    std = (a.square()[:, None] * var + sigma.square()[:, None]).sqrt()
    x_T = a[1] * mean + std[1] / std[0] * (x - a[0] * mean)
    exact = -(process.prior_logp(x_T) + torch.log(std[1] / std[0]).sum())
    for dtype in (torch.float64, torch.float32):
        nats = adams_nll(gaussian.eps(process), process, x.to(dtype), Noise(0, 0, N)).nats
        assert nats.dtype == torch.float64
        assert bits(nats - exact).abs().max() < 0.005


def test_convergence_at_fourth_order(mixture: GaussianMixture, process: Process) -> None:
    """Twice the nodes divide the error by sixteen or more, give or take a quarter."""
    x, eps = draw(mixture, 4), mixture.eps(process)

    def nll(nodes: int) -> torch.Tensor:
        return adams_nll(eps, process, x, Noise(0, 0, 4), nodes=nodes).nats

    limit = nll(400)
    coarse, fine = ((nll(nodes) - limit).abs().mean() for nodes in (64, 128))
    assert coarse / fine > 0.75 * 2**4


def test_a_dead_network_leaves_the_scaled_prior(process: Process) -> None:
    """With eps_hat = 0 the density is the prior's, scaled by a(T) / a(t_min)."""
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(3, 2, 2)
    a, _ = process.marginal(torch.tensor([process.t_min, 1.0], dtype=torch.float64))
    expected = -(process.prior_logp(a[1] / a[0] * x) + 4 * torch.log(a[1] / a[0]))
    for divergence in ("exact", "hutchinson"):
        result = adams_nll(
            lambda x, t: torch.zeros_like(x), process, x, Noise(0, 0, 3), divergence=divergence
        )
        torch.testing.assert_close(result.nats, expected)


def correlated(process: Process):
    """The exact eps_hat of a Gaussian in 16 dimensions whose coordinates all depend on another."""
    factor = torch.randn(16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    covariance = factor @ factor.T / 16 + 0.05 * torch.eye(16)
    law = GaussianMixture(torch.ones(1), torch.zeros(1, 16), covariance[None])
    return law.eps(process), law.sample(8, torch.Generator().manual_seed(0))[0]


def spread(process: Process, draws: int = 60, **options) -> torch.Tensor:
    """Variance over probes of the NLL in nats, mean over items, and the mean NLL of each item."""
    eps, x = correlated(process)
    repeated = x.repeat_interleave(draws, 0)
    nats = adams_nll(
        eps, process, repeated, Noise(3, 0, len(repeated)), divergence="hutchinson", **options
    ).nats.reshape(8, draws)
    return torch.stack([nats.var(1), nats.mean(1)])


def test_probes_are_unbiased_and_their_variance_falls() -> None:
    """Fresh probes have a quarter of one probe's variance or less; four on a graph, a quarter."""
    process = VariancePreserving()
    eps, x = correlated(process)
    exact = adams_nll(eps, process, x, Noise(0, 0, 8)).nats
    fixed, fresh, four = (
        spread(process, **options) for options in ({"fresh_probes": False}, {}, {"probes": 4})
    )
    for variance, mean in (fixed, fresh, four):
        assert bool(((mean - exact).abs() < 5 * (variance / 60).sqrt()).all())
    assert fresh[0].mean() < 0.25 * fixed[0].mean()
    assert four[0].mean() == pytest.approx(0.25 * float(fresh[0].mean()), rel=0.25)


def test_one_graph_a_node_whatever_the_probes(mixture: GaussianMixture) -> None:
    """Evaluations are the nodes, at ascending times in [t_min, T], with one time an item."""
    process, seen = VarianceExploding(), []
    eps = mixture.eps(process)

    def counting(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert t.shape == (3,)
        seen.append(t[0].item())
        return eps(x, t)

    x = draw(mixture, 3)
    options = {"divergence": "hutchinson", "probes": 3, "nodes": 32}
    result = adams_nll(counting, process, x, Noise(0, 0, 3), **options)
    assert result.nfe == len(seen) == 32
    assert seen == sorted(seen)
    assert seen[0] == pytest.approx(process.t_min)
    assert seen[-1] == pytest.approx(process.T)


def test_an_item_does_not_depend_on_its_batch(mixture: GaussianMixture, process: Process) -> None:
    """Two batches give the values of one, probes included."""
    x, eps = draw(mixture, 10), mixture.eps(process)

    def nll(start: int, stop: int) -> torch.Tensor:
        noise = Noise(3, start, stop - start)
        return adams_nll(eps, process, x[start:stop], noise, divergence="hutchinson").nats

    torch.testing.assert_close(torch.cat([nll(0, 4), nll(4, 10)]), nll(0, 10), rtol=1e-9, atol=1e-9)


def test_failing_items_leave_the_others_alone(mixture: GaussianMixture) -> None:
    """Items whose values never are finite are infinite with a reason; the others cost 32."""
    process = VarianceExploding()
    x = draw(mixture, 7)
    x[[2, 5]] = torch.tensor([[1e3, 0.0], [2e3, 1.0]], dtype=torch.float64)
    result = adams_nll(damaged(mixture, process, "nan"), process, x, Noise(0, 0, 7))
    sound = torch.tensor([0, 1, 3, 4, 6])
    alone = adams_nll(mixture.eps(process), process, x[sound], Noise(0, 0, 5))
    assert result.failed.nonzero().flatten().tolist() == sorted(result.reasons) == [2, 5]
    assert all(result.reasons.values())
    assert bool(torch.isinf(result.nats[[2, 5]]).all())
    assert result.evaluations[sound].tolist() == [32] * 5
    assert result.nfe == sum(32 * 2**i for i in range(6))
    torch.testing.assert_close(result.nats[sound], alone.nats, rtol=1e-12, atol=1e-12)


def decay(process: Process):
    """eps_hat = -k x / (a^2 + sigma^2)^(1/2) with the condition k: the larger k, the stiffer."""

    def eps(x: torch.Tensor, t: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        a, sigma = process.marginal(t)
        return (-k / (a.square() + sigma.square()).sqrt()).to(x)[:, None] * x

    return eps


def test_stiff_items_are_solved_by_shorter_steps(process: Process) -> None:
    """xbar_T = xbar e^(-k A) and log p has -D k A, A = asinh(s_T) - asinh(s_min), s = sigma/a.

    At 32 nodes the steps of k = 12 are unstable: up to 0.03 bits/dim of some hundred are lost to
    shorter ones. Items that are not stiff keep 32, and no item depends on the others.
    """
    x = torch.tensor([[0.3, -0.2], [0.5, 0.9], [-0.4, 0.1]], dtype=torch.float64)
    k = torch.tensor([0.0, 12.0, 0.3], dtype=torch.float64)
    ends = torch.tensor([process.t_min, process.T], dtype=torch.float64)
    a, _ = process.marginal(ends)
    s = process.noise_to_signal(ends)
    A = s[1].asinh() - s[0].asinh()
    x_T = a[1] / a[0] * x * torch.exp(-k * A)[:, None]
    exact = -(process.prior_logp(x_T) + 2 * torch.log(a[1] / a[0]) - 2 * k * A)
    options = {"divergence": "hutchinson"}
    result = adams_nll(decay(process), process, x, Noise(0, 0, 3), condition=k, **options)
    assert bits(result.nats - exact).abs().max() < 0.03
    assert result.evaluations[[0, 2]].tolist() == [32, 32]
    assert result.evaluations[1] >= 96
    alone = adams_nll(decay(process), process, x[1:2], Noise(0, 1, 1), condition=k[1:2], **options)
    torch.testing.assert_close(alone.nats, result.nats[1:2], rtol=1e-9, atol=1e-9)
    assert alone.evaluations == result.evaluations[1]


def test_unstable_steps_that_overflow_are_shortened_too() -> None:
    """Where 32 nodes leave the range of a network's numbers, shorter steps give the closed form."""
    process = VariancePreserving()
    stiff = decay(process)

    def overflowing(x: torch.Tensor, t: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return stiff(x, t, k).masked_fill(x.abs() > 1e6, math.nan)

    x, k = torch.tensor([[0.5, 0.9]], dtype=torch.float64), torch.tensor([12.0])
    ends = torch.tensor([process.t_min, process.T], dtype=torch.float64)
    a, _ = process.marginal(ends)
    A = process.noise_to_signal(ends).asinh().diff()
    x_T = a[1] / a[0] * x * torch.exp(-k * A)
    exact = -(process.prior_logp(x_T) + 2 * torch.log(a[1] / a[0]) - 2 * k * A)
    result = adams_nll(overflowing, process, x, Noise(0, 0, 1), condition=k)
    assert not result.reasons
    assert result.evaluations[0] > 32
    assert bits(result.nats - exact).abs().max() < 0.03


def test_items_that_never_settle_fail_alone() -> None:
    """With 1,024 nodes still unstable: infinite, with the reason; the others have their values."""
    process = VarianceExploding()
    x, k = torch.full((2, 2), 0.5, dtype=torch.float64), torch.tensor([1e5, 0.0])
    result = adams_nll(decay(process), process, x, Noise(0, 0, 2), condition=k)
    assert result.failed.tolist() == [True, False]
    assert bool(torch.isinf(result.nats[0]))
    assert bool(result.nats[1].isfinite())
    assert list(result.reasons) == [0]


def test_a_condition_gives_the_conditional_density(mixture: GaussianMixture) -> None:
    """-log p(x | k) of each item is the value of its component's own model."""
    process = VariancePreserving()
    x, k = mixture.sample(N, torch.Generator().manual_seed(5))
    nats = adams_nll(
        conditional_eps(mixture, process), process, x, Noise(0, 0, N), condition=k
    ).nats
    for c in range(3):
        own = adams_nll(mixture.subset([c]).eps(process), process, x, Noise(0, 0, N)).nats
        torch.testing.assert_close(nats[k == c], own[k == c])
    assert math.isfinite(float(nats.sum()))


@pytest.mark.parametrize("options", [{"nodes": 3}, {"probes": 0}, {"divergence": "slow"}])
def test_bad_options_are_refused(options: dict, gaussian: GaussianMixture) -> None:
    """An option out of range raises before any work."""
    process = VariancePreserving()
    with pytest.raises(OptionError, match="nodes="):
        adams_nll(gaussian.eps(process), process, torch.zeros(2, 2), Noise(0, 0, 2), **options)
