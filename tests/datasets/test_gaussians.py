"""The mixture in the plane against torch.distributions and numbers in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from msgm_bench import (
    Backbone,
    Data,
    DataStats,
    DiscreteDDPM,
    IdentityCodec,
    OptionError,
    Process,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from msgm_builtin.backbones.ddpm import DDPM
from msgm_builtin.backbones.vesde import VESDE
from msgm_builtin.datasets.gaussians import Gaussians, MixtureDensity
from msgm_builtin.judges.bayes import Bayes

DENSITY = MixtureDensity()
PROCESSES = (VarianceExploding(), VariancePreserving(), SubVariancePreserving(), DiscreteDDPM())
SETS = (None, (0, 2), (1,), (0, 1))


def law(classes: Sequence[int] | None, a: float = 1.0, sigma: float = 0.0) -> MixtureSameFamily:
    """The paper's mixture, weights 4/5, 2/5, 4/5, diffused to a x0 + sigma eps."""
    chosen = [0, 1, 2] if classes is None else list(classes)
    weights = torch.tensor([0.8, 0.4, 0.8], dtype=torch.float64)[chosen]
    means = torch.tensor([[-2.0, -2.0], [0.0, 0.0], [2.0, 2.0]], dtype=torch.float64)[chosen]
    covariance = (a**2 + sigma**2) * torch.eye(2, dtype=torch.float64)
    components = MultivariateNormal(a * means, covariance.expand(len(chosen), 2, 2))
    return MixtureSameFamily(Categorical(weights), components)


def points(n: int = 400) -> torch.Tensor:
    """Points over all of the mixture and beyond it."""
    return 4 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def data() -> Data:
    """The dataset with its default sizes."""
    return Gaussians.create().load()


@pytest.mark.parametrize("classes", SETS)
def test_log_prob_is_torch_distributions(classes: Sequence[int] | None) -> None:
    """The density of all classes, and of any renormalised few, to rounding."""
    x = points()
    torch.testing.assert_close(DENSITY.log_prob(x, classes), law(classes).log_prob(x))


def test_posterior_is_bayes_rule() -> None:
    """p(k | x) = w_k p_k(x) / p(x), and rows sum to one."""
    x = points()
    whole = law(None)
    joint = whole.component_distribution.log_prob(x[:, None]).exp()
    joint = joint * whole.mixture_distribution.probs
    expected = joint / joint.sum(1, keepdim=True)
    torch.testing.assert_close(DENSITY.posterior(x), expected)
    torch.testing.assert_close(DENSITY.posterior(x).sum(1), torch.ones(400, dtype=torch.float64))


@pytest.mark.parametrize("classes", SETS)
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_eps_is_minus_sigma_times_the_score(
    process: Process, classes: Sequence[int] | None
) -> None:
    """eps_hat = -sigma grad log p_t by automatic differentiation, at four times."""
    eps = DENSITY.eps(process, classes)
    for time in (process.t_min, 0.2, 0.7, 1.0):
        x = points(20).requires_grad_()
        t = torch.full((20,), time, dtype=torch.float64)
        a, sigma = (float(v[0]) for v in process.marginal(t))
        (score,) = torch.autograd.grad(law(classes, a, sigma).log_prob(x).sum(), x)
        torch.testing.assert_close(eps(x.detach(), t), -sigma * score, rtol=1e-6, atol=1e-9)


def test_typicality_is_the_share_of_less_likely_points() -> None:
    """exp(-d^2/2) of a point is the share of its class's points farther from the mean."""
    n = 100_000
    x, y = DENSITY.mixture.sample(n, torch.Generator().manual_seed(0))
    distance = (x - DENSITY.mixture.means[y]).norm(dim=1)
    means = DENSITY.mixture.means
    for d in (0.0, 0.5, 1.0, 2.0, 3.0):
        outward = torch.tensor([[-d, 0.0]], dtype=torch.float64) + means[:1]
        share = float((distance > d).double().mean())
        expected = float(DENSITY.typicality(outward)[0])
        error = math.sqrt(expected * (1 - expected) / n)
        assert abs(share - expected) <= 4 * error


EDGE = (4 - math.log(2)) / (2 * math.sqrt(2))


def exact_ratio(keep_middle: bool) -> float:
    """UR of an exact model under Bayes' rule, in closed form.

    Along u = (x + y)/sqrt 2 the means are -2 sqrt 2, 0 and 2 sqrt 2, and the middle wins where
    0.2 exp(-u^2/2) > 0.4 exp(-(|u| - 2 sqrt 2)^2/2), that is |u| < EDGE.
    """
    normal = Normal(0.0, 1.0)

    def inside(mean: float) -> float:
        ends = torch.tensor([EDGE - mean, -EDGE - mean], dtype=torch.float64)
        return float(normal.cdf(ends[0]) - normal.cdf(ends[1]))

    outer = inside(2 * math.sqrt(2))
    return 0.8 * outer + 0.2 * inside(0.0) if keep_middle else outer


def test_bayes_rule_changes_its_mind_at_the_edge() -> None:
    """The judge says middle in the strip |x + y| < sqrt 2 EDGE and outside it never."""
    judge = Bayes.create()
    judge.density = DENSITY
    ends = [0.0, EDGE - 1e-9, EDGE + 1e-9, 1e-9 - EDGE, -EDGE - 1e-9, 3.0]
    u = torch.tensor(ends, dtype=torch.float64)
    for v in (-2.0, 0.0, 1.0):
        x = torch.stack([u + v, u - v], dim=1) / math.sqrt(2)
        assert judge.predict(x).classes.tolist() == [1, 1, 2, 1, 0, 2]


@pytest.mark.parametrize(
    ("classes", "percent"), [((0, 2), 4.9), (None, 19.0)], ids=["unseen", "standard"]
)
def test_unlearning_ratio_of_exact_models(classes: Sequence[int] | None, percent: float) -> None:
    """Exact unseen has UR 4.9 % and exact standard 19.0 %, in closed form and by the judge."""
    exact = exact_ratio(classes is None)
    assert 100 * exact == pytest.approx(percent, abs=0.06)
    n = 100_000
    sample = DENSITY.mixture if classes is None else DENSITY.mixture.subset(classes)
    x, _ = sample.sample(n, torch.Generator().manual_seed(5))
    judge = Bayes.create()
    judge.density = DENSITY
    share = float((judge.predict(x).classes == 1).double().mean())
    assert abs(share - exact) < 4 * math.sqrt(exact * (1 - exact) / n)


def test_judge_recognises_all_but_its_level() -> None:
    """The judge gives up about ``level`` of the true points, and all noise far from them."""
    judge = Bayes.create({"rejection_rate": 0.01})
    judge.density = DENSITY
    n = 100_000
    x, _ = DENSITY.mixture.sample(n, torch.Generator().manual_seed(2))
    given_up = 1 - float(judge.predict(x).recognised.double().mean())
    assert given_up <= 0.01 + 4 * math.sqrt(0.01 * 0.99 / n)  # a point may be near another mean
    assert given_up > 0.005
    far = torch.tensor([[9.0, -9.0], [-8.0, 0.0], [0.0, 40.0]])
    assert not judge.predict(far).recognised.any()


def test_data_have_the_sizes_and_types_of_the_contract(data: Data) -> None:
    """Float points in the plane with integer labels; default and given sizes."""
    assert (len(data.train), len(data.test)) == (50_000, 60_000)
    assert data.shape == (2,)
    assert data.levels is None
    assert (data.train.x.dtype, data.train.y.dtype) == (torch.float32, torch.int64)
    assert data.classes == ("left", "middle", "right")
    small = Gaussians.create({"train_size": 100, "test_size": 200}).load()
    assert (len(small.train), len(small.test)) == (100, 200)


def test_data_are_the_same_every_time(data: Data) -> None:
    """Loading again gives the same bytes; train and test are different draws."""
    again = Gaussians.create().load()
    for old, new in ((data.train, again.train), (data.test, again.test)):
        assert torch.equal(old.x, new.x)
        assert torch.equal(old.y, new.y)
    assert not torch.isin(data.test.x[:, 0], data.train.x[:, 0]).all()


def test_data_follow_the_mixture(data: Data) -> None:
    """Shares, means and covariances of the classes lie within four standard errors."""
    for part in (data.train, data.test):
        n = len(part)
        for label, (weight, mean) in enumerate(((0.4, -2.0), (0.2, 0.0), (0.4, 2.0))):
            own = part.x[part.y == label].double()
            assert abs(len(own) / n - weight) < 4 * math.sqrt(weight * (1 - weight) / n)
            error = 1 / math.sqrt(len(own))
            assert bool(((own.mean(0) - mean).abs() < 4 * error).all())
            covariance = own.T.cov()
            assert bool(((covariance.diag() - 1).abs() < 4 * math.sqrt(2) * error).all())
            assert abs(float(covariance[0, 1])) < 4 * error


@pytest.mark.parametrize("backbone", [VESDE, DDPM])
def test_points_are_their_own_model_space(backbone: type[Backbone], data: Data) -> None:
    """The codec is the identity, and carries the +8 of the paper's table in its unit."""
    codec = backbone.create({"width": 8, "depth": 1}).build(DataStats.of(data)).codec
    assert isinstance(codec, IdentityCodec)
    x = data.test.x[:10]
    assert torch.equal(codec.decode(codec.encode(x)), x)
    assert not codec.dequantised
    assert (codec.bits_offset, codec.unit) == (8.0, "bits/dim+8")


@pytest.mark.parametrize("option", ["train_size", "test_size"])
def test_too_few_points_are_refused(option: str) -> None:
    """Sizes under 100 are an error that names the option."""
    with pytest.raises(OptionError, match=option):
        Gaussians.create({option: 99})
