"""Samplers against the exact moments of a Gaussian.

For Gaussian data eps_hat is affine in x, so a sampler is an affine map of its draws.  Feeding one
draw at a time (`OneDraw`) reads off the map, and with it the exact mean and variance of the
output, without Monte-Carlo error.  The limit of infinitely many steps is known in closed form
too, prior mismatch and last denoising step included.
"""

from __future__ import annotations

import math

import pytest
import torch

from msgm_bench.diffusion import (
    DDIM,
    Ancestral,
    DiscreteDDPM,
    EulerMaruyama,
    GaussianMixture,
    Noise,
    PredictorCorrector,
    ProbabilityFlow,
    Process,
    ReverseSampler,
    VarianceExploding,
    VariancePreserving,
)
from msgm_bench.diffusion.process import per_item
from msgm_bench.errors import OptionError

M, V = 0.7, 0.5
"""Mean and variance of the one-dimensional data."""


class OneDraw(Noise):
    """Item 0 draws zeros; item k draws a single one, at its k-th draw."""

    def __init__(self, count: int) -> None:
        super().__init__(0, 0, count, dtype=torch.float64)
        self.draws = 0

    def normal(self, item_shape: tuple[int, ...]) -> torch.Tensor:
        """Return the next column of the identity matrix."""
        self.draws += 1
        z = torch.zeros(self.count, *item_shape, dtype=self.dtype)
        z[self.draws] = 1
        return z


def gaussian_eps(process: Process, m: float = M, v: float = V):
    """The exact eps_hat of N(m, v I) in any dimension."""

    def eps(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a, sigma = process.marginal(t.double())
        return per_item(sigma / (a**2 * v + sigma**2), x) * (x - per_item(a, x) * m)

    return eps


def moments(sampler: ReverseSampler, process: Process) -> tuple[float, float]:
    """Mean and variance of the sampler's output, without Monte-Carlo error."""
    noise = OneDraw(2 * sampler.steps + 3)
    x = sampler(gaussian_eps(process), process, (1,), noise).x[:, 0]
    return x[0].item(), (x[1:] - x[0]).square().sum().item()


def limit(process: Process, *, ode: bool, denoise: bool) -> tuple[float, float]:
    """Mean and variance of the same for infinitely many steps."""
    t = torch.tensor([process.t_sampling, 1.0], dtype=torch.float64)
    a_s, a_T = process.marginal(t)[0].tolist()
    var_s, var_T = (GaussianMixture(
        torch.ones(1), torch.tensor([[M]]), torch.tensor([[[V]]])
    ).diffused(process, u).covariances.item() for u in t)  # fmt: skip
    K = math.sqrt(var_s / var_T) if ode else a_T / a_s * var_s / var_T  # d x_s / d x_T
    mean = a_s * M + K * (0 - a_T * M)
    var = K**2 * process.prior_std**2 + (0 if ode else var_s - K**2 * var_T)
    if not denoise:
        return mean, var
    gain = a_s * V / var_s
    return M + gain * (mean - a_s * M), gain**2 * var


FIRST_ORDER = [
    EulerMaruyama(),
    EulerMaruyama(denoise=False),
    Ancestral(),
    Ancestral(variance="posterior"),
    DDIM(),
    DDIM(eta=1.0),
]


def error(sampler: ReverseSampler, process: Process, steps: int, ode: bool) -> float:
    """Distance of the exact moments from their limit."""
    denoise = getattr(sampler, "denoise", True)
    got = moments(type(sampler)(**{**vars(sampler), "steps": steps}), process)
    want = limit(process, ode=ode, denoise=denoise)
    return math.hypot(got[0] - want[0], got[1] - want[1])


@pytest.mark.parametrize("sampler", FIRST_ORDER, ids=repr)
def test_first_order_samplers_converge_to_the_data(
    sampler: ReverseSampler, process: Process
) -> None:
    """The error of mean and variance halves with twice the steps and is small at 250."""
    ode = isinstance(sampler, DDIM) and sampler.eta == 0
    coarse, fine = (error(sampler, process, n, ode) for n in (125, 250))
    assert fine < max(coarse / 1.6, 1e-4)
    assert fine < 0.04


def test_probability_flow_converges_at_second_order(process: Process) -> None:
    """Twice the steps divide the error of mean and variance by four."""
    for denoise in (True, False):
        sampler = ProbabilityFlow(denoise=denoise)
        coarse, fine = (error(sampler, process, n, ode=True) for n in (20, 40))
        assert fine < coarse / 3.2
        assert fine < 0.02


def test_predictor_corrector_keeps_the_law_with_the_expected_norm(process: Process) -> None:
    """The corrector's own bias, r / (2 var) of the variance at most, is all that remains."""
    sampler = PredictorCorrector(500)
    mean, var = moments(sampler, process)
    want_mean, want_var = limit(process, ode=False, denoise=True)
    predictor = error(PredictorCorrector(500, corrector_steps=0), process, 500, ode=False)
    r = 2 * sampler.snr**2  # over sigma^2; averaged over the last times sigma^2 << V
    assert abs(var / want_var - 1) < predictor / V + r / 2
    assert abs(mean - want_mean) < predictor + 1e-3


def test_ddim_with_half_the_noise_keeps_the_law(process: Process) -> None:
    """Between ODE and SDE the moments are the data's, but for steps and the prior's mismatch."""
    ends = [limit(process, ode=ode, denoise=True) for ode in (False, True)]
    mismatch = max(math.hypot(mean - M, var - V) for mean, var in ends)
    mean, var = moments(DDIM(250, 0.5), process)
    worst = max(
        error(DDIM(), process, 250, ode=True), error(DDIM(eta=1.0), process, 250, ode=False)
    )
    assert math.hypot(mean - M, var - V) < mismatch + 1.1 * worst


def test_predictor_alone_converges(process: Process) -> None:
    """Without corrector the reverse-diffusion predictor is of first order."""
    sampler = PredictorCorrector(corrector_steps=0)
    coarse, fine = (error(sampler, process, n, ode=False) for n in (125, 250))
    assert fine < max(coarse / 1.6, 1e-4)
    assert fine < 0.04


def test_item_norms_are_for_many_dimensions() -> None:
    """The bias of a step that depends on the item falls with the dimension."""
    process = VariancePreserving()
    bias = []
    for D, n in ((8, 1000), (64, 1000)):
        sampler = PredictorCorrector(200, norm="item")
        x = sampler(gaussian_eps(process), process, (D,), Noise(0, 0, n)).x
        bias.append(x.var().item() / V - 1)
    assert 0 < bias[1] < bias[0] / 2


@pytest.mark.parametrize(
    "sampler",
    [
        EulerMaruyama(100),
        PredictorCorrector(50),
        ProbabilityFlow(20),
        Ancestral(100),
        DDIM(50),
        DDIM(50, 1.0),
    ],
    ids=repr,
)
def test_draws_have_the_exact_moments_of_the_sampler(sampler: ReverseSampler) -> None:
    """Real draws have the mean and variance of the affine map within 4 standard errors."""
    process, n = DiscreteDDPM(), 10_000
    mean, var = moments(sampler, process)
    x = sampler(gaussian_eps(process), process, (1,), Noise(0, 0, n)).x
    assert abs(x.mean() - mean) < 4 * (var / n) ** 0.5
    assert abs(x.var() - var) < 4 * var * (2 / n) ** 0.5


@pytest.mark.parametrize("sampler", [EulerMaruyama(300), ProbabilityFlow(30)], ids=repr)
def test_a_mixture_is_sampled_with_its_weights(
    sampler: ReverseSampler, mixture: GaussianMixture, process: Process
) -> None:
    """Mean log density of the samples is minus the entropy, within 4 standard errors and 1 %."""
    n = 3000
    x = sampler(mixture.eps(process), process, (2,), Noise(0, 0, n)).x.double()
    exact = mixture.log_prob(mixture.sample(50_000, torch.Generator().manual_seed(0))[0])
    logp = mixture.log_prob(x)
    tolerance = 4 * exact.std() * (1 / n + 1 / 50_000) ** 0.5 + 0.01 * exact.mean().abs()
    assert abs(logp.mean() - exact.mean()) < tolerance


ALL = [
    (EulerMaruyama(7), 7),
    (EulerMaruyama(7, denoise=False), 7),
    (PredictorCorrector(5, corrector_steps=2), 15),
    (PredictorCorrector(5, denoise=False), 10),
    (PredictorCorrector(5, norm="item"), 10),
    (PredictorCorrector(5, norm="batch"), 10),
    (ProbabilityFlow(6), 11),
    (ProbabilityFlow(6, denoise=False), 12),
    (Ancestral(9), 9),
    (DDIM(9), 9),
    (DDIM(1), 1),
    (ProbabilityFlow(1), 1),
]


@pytest.mark.parametrize(("sampler", "nfe"), ALL, ids=repr)
def test_nfe_is_what_the_network_sees(sampler: ReverseSampler, nfe: int, process: Process) -> None:
    """The reported evaluations are the calls of eps_hat, each with one time an item."""
    seen = []
    exact = gaussian_eps(process)

    def counting(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert t.shape == (3,)
        assert t.dtype == x.dtype
        seen.append(t[0].item())
        return exact(x, t)

    samples = sampler(counting, process, (2, 2), Noise(0, 0, 3))
    assert samples.nfe == len(seen) == nfe
    assert samples.x.shape == (3, 2, 2)
    assert samples.x.dtype == torch.float32
    assert seen == sorted(seen, reverse=True)
    assert min(seen) >= process.t_sampling * (1 - 1e-6)


@pytest.mark.parametrize("sampler", [s for s, _ in ALL], ids=repr)
@pytest.mark.parametrize("nfe", [12, 13, 100])
def test_a_budget_is_kept_and_used(sampler: ReverseSampler, nfe: int) -> None:
    """budget_for never exceeds the budget, nor leaves room for one more step."""
    process = VarianceExploding()
    fitted = sampler.with_nfe(nfe)
    run = fitted(gaussian_eps(process), process, (1,), Noise(0, 0, 1))
    assert run.nfe <= nfe
    assert sampler.steps_within(nfe) == fitted.steps
    longer = type(sampler)(**{**vars(fitted), "steps": fitted.steps + 1})
    assert longer(gaussian_eps(process), process, (1,), Noise(0, 0, 1)).nfe > nfe


@pytest.mark.parametrize(
    "sampler",
    [s for s, _ in ALL if getattr(s, "norm", "") != "batch"],
    ids=repr,
)
def test_samples_do_not_depend_on_the_batch_split(
    sampler: ReverseSampler, mixture: GaussianMixture, process: Process
) -> None:
    """Two batches give the samples of one batch to rounding."""
    eps = mixture.eps(process)
    whole = sampler(eps, process, (2,), Noise(3, 0, 10)).x
    parts = [sampler(eps, process, (2,), Noise(3, *part)).x for part in ((0, 4), (4, 6))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "sampler",
    [EulerMaruyama(20), PredictorCorrector(20), ProbabilityFlow(20), Ancestral(20), DDIM(20)],
    ids=repr,
)
def test_a_given_start_is_carried_to_the_data(sampler: ReverseSampler, process: Process) -> None:
    """From x_t at t = 0.02 the clean items come back to within four times the noise at t."""
    x0 = torch.linspace(-1, 2, 8).reshape(8, 1)
    t = torch.full((8,), 0.02)
    x_t = process.perturb(x0, t, Noise(1, 0, 8).normal((1,)))
    seen = []
    eps = gaussian_eps(process)

    def watching(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(t.max().item())
        return eps(x, t)

    back = sampler(watching, process, (1,), Noise(0, 0, 8), start=(x_t, 0.02)).x
    assert max(seen) == pytest.approx(0.02)
    noise_to_signal = process.noise_to_signal(t)[0].item()
    assert (back - x0).abs().max().item() < 5 * noise_to_signal


@pytest.mark.parametrize("sampler", [Ancestral(1001), DDIM(1001)], ids=repr)
def test_more_steps_than_the_grid_are_refused(sampler: ReverseSampler) -> None:
    """A discrete process says how many steps it has; a continuous one has as many as asked."""
    process = DiscreteDDPM()
    with pytest.raises(OptionError, match="at most 1000 steps"):
        sampler(gaussian_eps(process), process, (1,), Noise(0, 0, 1))


@pytest.mark.parametrize(
    "build",
    [
        lambda: EulerMaruyama(0),
        lambda: ProbabilityFlow(0),
        lambda: PredictorCorrector(snr=0),
        lambda: PredictorCorrector(corrector_steps=-1),
        lambda: PredictorCorrector(norm="image"),
        lambda: Ancestral(variance="learned"),
        lambda: DDIM(eta=2),
        lambda: PredictorCorrector().with_nfe(1),
    ],
)
def test_bad_options_are_refused(build) -> None:
    """An option out of range says what is allowed."""
    with pytest.raises(OptionError) as refusal:
        build()
    assert refusal.value.allowed


def test_different_samplers_agree_from_the_same_prior_draw(mixture: GaussianMixture) -> None:
    """DDIM and Heun solve the same ODE: from the same x_T they end at the same x0."""
    process = VariancePreserving()
    eps, options = mixture.eps(process), ((2,), Noise(2, 0, 50, dtype=torch.float64))
    heun = ProbabilityFlow(200)(eps, process, *options).x
    ddim = DDIM(2000)(eps, process, (2,), Noise(2, 0, 50, dtype=torch.float64)).x
    assert (heun - ddim).abs().mean() < 0.02
