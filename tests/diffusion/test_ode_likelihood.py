from __future__ import annotations

import math

import pytest
import torch

from msgm_bench.diffusion import GaussianMixture, Noise, Process, bits_per_dim, ode_nll
from msgm_bench.diffusion.processes import VarianceExploding, VariancePreserving
from msgm_bench.errors import OptionError

N = 100


def draw(mixture: GaussianMixture, n: int = N) -> torch.Tensor:
    """Items of the mixture, float64."""
    return mixture.sample(n, torch.Generator().manual_seed(5))[0]


@pytest.mark.parametrize("law", ["gaussian", "mixture"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exact_trace_gives_the_density(
    law: str, dtype: torch.dtype, process: Process, request: pytest.FixtureRequest
) -> None:
    """The mean NLL of every process is within 0.02 bits/dim of the exact density's."""
    mixture: GaussianMixture = request.getfixturevalue(law)
    x = draw(mixture)
    result = ode_nll(mixture.eps(process), process, x.to(dtype), Noise(0, 0, N))
    assert not result.failed.any()
    assert result.nats.dtype == torch.float64
    gap = bits_per_dim(result.nats + mixture.log_prob(x), 2)
    assert abs(gap.mean()) < 0.02
    # an item sees the mismatch of the prior: its marginal is not N(0, prior_std^2) exactly
    prior = mixture.diffused(process, 1.0)
    x_T = prior.sample(4000, torch.Generator().manual_seed(0))[0]
    mismatch = bits_per_dim(process.prior_logp(x_T) - prior.log_prob(x_T), 2).abs().max()
    assert gap.abs().max() < 0.02 + mismatch


def test_hutchinson_is_exact_where_the_jacobian_is_diagonal(
    gaussian: GaussianMixture, process: Process
) -> None:
    """For independent coordinates one Rademacher probe gives the exact trace."""
    x, eps = draw(gaussian), gaussian.eps(process)
    exact = ode_nll(eps, process, x, Noise(0, 0, N))
    one_probe = ode_nll(eps, process, x, Noise(0, 0, N), divergence="hutchinson")
    torch.testing.assert_close(one_probe.nats, exact.nats, rtol=0, atol=1e-3)


def test_hutchinson_is_unbiased(mixture: GaussianMixture, process: Process) -> None:
    """Averaged over probes it gives the exact trace's NLL within 4 standard errors."""
    probes = 128
    x, eps = draw(mixture, 4), mixture.eps(process)
    exact = ode_nll(eps, process, x, Noise(0, 0, 4)).nats
    repeated = x.repeat_interleave(probes, 0)
    noise = Noise(0, 0, 4 * probes)
    nats = ode_nll(eps, process, repeated, noise, divergence="hutchinson").nats.reshape(4, probes)
    assert bool(((nats.mean(1) - exact).abs() < 4 * nats.std(1) / probes**0.5 + 1e-3).all())
    assert abs(bits_per_dim((nats.mean(1) - exact).mean(), 2)) < 0.02 + 4 * bits_per_dim(
        nats.std(1).mean() / (4 * probes) ** 0.5, 2
    )


def test_a_dead_network_leaves_the_scaled_prior(process: Process) -> None:
    """With eps_hat = 0 the density is the prior's, scaled by a(T) / a(t_min)."""
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(3, 2, 2)
    a, _ = process.marginal(torch.tensor([process.t_min, 1.0], dtype=torch.float64))
    scale = a[1] / a[0]
    expected = -(process.prior_logp(scale * x) + 4 * torch.log(scale))
    for divergence in ("exact", "hutchinson"):
        result = ode_nll(
            lambda x, t: torch.zeros_like(x), process, x, Noise(0, 0, 3), divergence=divergence
        )
        torch.testing.assert_close(result.nats, expected)


@pytest.mark.parametrize(("solver", "order"), [("heun", 2), ("rk4", 4)])
def test_fixed_steps_converge_at_their_order(
    solver: str, order: int, mixture: GaussianMixture
) -> None:
    """Twice the steps divide the error by 2^order, give or take a quarter of it."""
    process, x = VariancePreserving(), draw(mixture, 10)
    eps = mixture.eps(process)
    tight = ode_nll(eps, process, x, Noise(0, 0, 10), rtol=1e-9, atol=1e-9, max_nfe=9999).nats
    coarse, fine = (
        (ode_nll(eps, process, x, Noise(0, 0, 10), solver=solver, steps=n).nats - tight)
        .abs()
        .mean()
        for n in (40, 80)
    )
    assert coarse / fine > 0.75 * 2**order


def test_nfe_is_what_the_network_sees(mixture: GaussianMixture, process: Process) -> None:
    """The reported evaluations are the calls of eps_hat, and times stay in [t_min, T]."""
    calls, low, high = 0, 1.0, 0.0

    def counting(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        nonlocal calls, low, high
        calls += 1
        low, high = min(low, t.min().item()), max(high, t.max().item())
        return mixture.eps(process)(x, t)

    result = ode_nll(counting, process, draw(mixture, 8), Noise(0, 0, 8))
    assert result.nfe == calls
    assert low == pytest.approx(process.t_min)
    assert high <= 1 + 1e-12
    assert calls < 400


def damaged(mixture: GaussianMixture, process: Process, how: str):
    """The exact eps_hat, except for items whose first coordinate is beyond 500 sigma-free units."""
    eps = mixture.eps(process)

    def eps_hat(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a, _ = process.marginal(t)
        bad = (x[:, :1] / a[:, None]) > 500
        wrong = {
            "nan": torch.full_like(x, math.nan),
            "explodes": x.abs() ** 3,
            "oscillates": 30 * torch.sin(1e4 * x),
        }[how]
        return torch.where(bad, wrong, eps(x, t))

    return eps_hat


@pytest.mark.parametrize("how", ["nan", "explodes", "oscillates"])
def test_failing_items_are_found_and_leave_the_others_alone(
    how: str, mixture: GaussianMixture
) -> None:
    """Bisection finds exactly the damaged items; the others have the values they have alone."""
    process = VarianceExploding()
    eps = damaged(mixture, process, how)
    good = draw(mixture, 5)
    x = good.clone()
    x = torch.cat([x[:4], torch.tensor([[1e3, 0.0]]).double(), x[4:], torch.tensor([[2e3, 1.0]])])
    result = ode_nll(eps, process, x, Noise(0, 0, 7), max_nfe=200)
    bad = [4, 6]
    assert result.failed.nonzero().flatten().tolist() == bad
    assert sorted(result.reasons) == bad
    assert all(result.reasons.values())
    assert bool(torch.isinf(result.nats[bad]).all())
    alone = ode_nll(eps, process, good, Noise(0, 0, 5), max_nfe=200)
    assert torch.equal(result.nats[~result.failed], alone.nats)


def test_the_result_does_not_depend_on_the_order(mixture: GaussianMixture) -> None:
    """A shuffled batch, failures included, gives the shuffled values to rounding."""
    process = VarianceExploding()
    eps = damaged(mixture, process, "nan")
    x = torch.cat([draw(mixture, 14), torch.tensor([[1e3, 0.0], [2e3, 1.0]])])
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    plain = ode_nll(eps, process, x, Noise(0, 0, 16)).nats
    shuffled = ode_nll(eps, process, x[order], Noise(0, 0, 16)).nats
    torch.testing.assert_close(shuffled, plain[order], rtol=1e-9, atol=1e-9)


def test_a_batch_of_failures_costs_a_bounded_number_of_evaluations() -> None:
    """With every item failing, the work is max_nfe for each of the 2 N - 1 attempts at most."""
    x = torch.zeros(8, 2)
    result = ode_nll(
        lambda x, t: 50 * torch.sin(1e5 * x + 1e5 * t[:, None]),
        VariancePreserving(),
        x,
        Noise(0, 0, 8),
        max_nfe=20,
    )
    assert result.failed.all()
    assert result.nfe <= 20 * 15
    assert set(result.reasons.values()) == {"max_nfe exceeded"}


def test_an_assertion_of_the_network_is_not_swallowed() -> None:
    """Only the solver's own assertions count as failed integrations."""

    def broken(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        raise AssertionError("wrong number of channels")

    with pytest.raises(AssertionError, match="channels"):
        ode_nll(broken, VariancePreserving(), torch.zeros(2, 2), Noise(0, 0, 2))


@pytest.mark.parametrize(
    "options",
    [
        {"divergence": "slow"},
        {"solver": "euler"},
        {"solver": "rk4"},
        {"steps": 5},
        {"rtol": 0.0},
        {"max_nfe": 0},
    ],
)
def test_bad_options_are_refused(options: dict, gaussian: GaussianMixture) -> None:
    """An option out of range raises before any work."""
    process = VariancePreserving()
    with pytest.raises(OptionError):
        ode_nll(gaussian.eps(process), process, torch.zeros(2, 2), Noise(0, 0, 2), **options)


def test_bits_per_dim_converts_units() -> None:
    """A nat is 1 / log 2 bits: log 2 nats a dimension are one bit, and the offset is added."""
    assert bits_per_dim(torch.tensor(6 * math.log(2)), 3, offset=8.0).item() == pytest.approx(10)


def conditional_eps(mixture: GaussianMixture, process: Process):
    """The exact eps_hat(x, t, k) of the mixture's components."""
    parts = [mixture.subset([k]).eps(process) for k in range(len(mixture.weights))]

    def eps_hat(x: torch.Tensor, t: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return torch.stack([part(x, t) for part in parts])[k, torch.arange(len(x))]

    return eps_hat


def test_a_condition_gives_the_conditional_density(mixture: GaussianMixture) -> None:
    """-log p(x | k) of each item under the component that it is told, by both solvers."""
    process = VarianceExploding()
    x, k = mixture.sample(N, torch.Generator().manual_seed(5))
    exact = torch.stack([mixture.subset([c]).log_prob(x) for c in range(3)])[k, torch.arange(N)]
    result = ode_nll(conditional_eps(mixture, process), process, x, Noise(0, 0, N), condition=k)
    assert not result.failed.any()
    assert abs(bits_per_dim(result.nats + exact, 2).mean()) < 0.02
    other = ode_nll(
        conditional_eps(mixture, process), process, x, Noise(0, 0, N), condition=(k + 1) % 3
    )
    assert bool((other.nats.mean() > result.nats.mean() + 1).all())


def test_conditions_stay_with_their_items_when_some_fail(mixture: GaussianMixture) -> None:
    """After a bisection the sound items have the values that they have without the failed one."""
    process = VarianceExploding()
    x, k = mixture.sample(6, torch.Generator().manual_seed(5))
    eps = conditional_eps(mixture, process)

    def damaged_eps(x: torch.Tensor, t: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, :1] > 500, math.nan, eps(x, t, k))

    spoiled = x.clone()
    spoiled[2] = 1e4
    sound = torch.tensor([0, 1, 3, 4, 5])
    result = ode_nll(damaged_eps, process, spoiled, Noise(0, 0, 6), condition=k)
    alone = ode_nll(eps, process, x[sound], Noise(0, 0, 5), condition=k[sound])
    assert result.failed.tolist() == [False, False, True, False, False, False]
    torch.testing.assert_close(result.nats[sound], alone.nats)
