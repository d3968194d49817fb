"""Obtuse and Orthogonal against their closed-form optima (docs/mathematics.md, 3).

Two layers. A network with one free eps_hat a point, on a small population with repeated points,
is minimised exactly: the optimum must be the formula to rounding. Then networks are trained by
the real trainer on a mixture whose posterior moments are known: the learned field must be the
formula, and must not be any formula with a wrong sign, alpha, schedule, product or reduction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from msgm_bench import (
    Batch,
    Batches,
    DataStats,
    Examples,
    GaussianMixture,
    IdentityCodec,
    Model,
    Training,
    VarianceExploding,
)
from msgm_bench.training.batches import NoisedBatches
from msgm_bench.training.runtime import Runtime
from msgm_bench.training.trainer import Trainer
from msgm_builtin.backbones.vesde import VESDE
from msgm_builtin.methods.msgm import Obtuse, Orthogonal
from msgm_builtin.methods.msgm_base import MSGM

D = 3


@dataclass(frozen=True)
class Moments:
    """What the optimum depends on, at N points x_t.

    Attributes:
        eps_g: E_g[eps | x_t] [N, D].
        first: E_f[eps | x_t] [N, D].
        second: E_f[eps eps^T | x_t] [N, D, D].
        r: p_f,t / p_g,t [N].
    """

    eps_g: Tensor
    first: Tensor
    second: Tensor
    r: Tensor


Formula = Callable[[Moments, Tensor], Tensor]


def obtuse(m: Moments, c: Tensor) -> Tensor:
    """eps_g - (c/2) E_f[eps]."""
    return m.eps_g - c[:, None] / 2 * m.first


def released(m: Moments, c: Tensor) -> Tensor:
    """Obtuse with the released code's sign."""
    return obtuse(m, -c)


def mirrored(m: Moments, c: Tensor) -> Tensor:
    """Obtuse with |eps_hat|^2/D at weight 1/2, (eps_g - (c/2) E_f[eps]) / (1 + c/2)."""
    return obtuse(m, c) / (1 + c[:, None] / 2)


def inner(m: Moments, c: Tensor) -> Tensor:
    """[I + (c/D) E_f[eps eps^T]]^-1 eps_g."""
    eye = torch.eye(D, dtype=m.second.dtype)
    return torch.linalg.solve(eye + c[:, None, None] / D * m.second, m.eps_g)


def elementwise(m: Moments, c: Tensor) -> Tensor:
    """eps_g,i / (1 + c E_f[eps_i^2])."""
    return m.eps_g / (1 + c[:, None] * torch.diagonal(m.second, dim1=1, dim2=2))


PRODUCTS: Mapping[str, Formula] = {
    "obtuse": obtuse,
    "released": released,
    "inner": inner,
    "elementwise": elementwise,
}


@dataclass(frozen=True)
class Case:
    """A method and the formula of its optimum."""

    method: type[MSGM]
    formula: Formula
    options: Mapping[str, Any] = field(default_factory=dict)
    alpha: float = 0.7
    every: int = 1

    def create(self) -> MSGM:
        """The method with its options."""
        return self.method.create(
            {"alpha": self.alpha, "forget_interval": self.every, **self.options}
        )

    def weight(self, m: Moments) -> Tensor:
        """c = (1 - alpha) r / (alpha every)."""
        return (1 - self.alpha) * m.r / (self.alpha * self.every)

    def right(self, m: Moments) -> Tensor:
        """The optimum."""
        return self.formula(m, self.weight(m))

    def wrong(self, m: Moments) -> dict[str, Tensor]:
        """The optima of the mistakes that the tests must notice."""
        c, off = self.weight(m), 1 - self.alpha
        mistakes = {
            "unseen": self.formula(m, 0 * c),
            "alpha": self.formula(m, c * (self.alpha / off) * (0.1 / 0.9)),
            "swapped alpha": self.formula(m, c * (self.alpha / off) ** 2),
            "schedule": self.formula(m, c * (self.every if self.every > 1 else 1 / 4)),
            "reduction: sum": self.formula(m, c * D),
            "reduction: mean of a mean": self.formula(m, c / D),
        }
        others = {name: f(m, c) for name, f in PRODUCTS.items() if f is not self.formula}
        return mistakes | others


CASES = {
    "obt": Case(Obtuse, obtuse),
    "obt released": Case(Obtuse, released, {"sign": "released"}),
    "ort inner": Case(Orthogonal, inner),
    "ort elementwise": Case(Orthogonal, elementwise, {"product": "elementwise"}),
}
EXACT = CASES | {
    "obt alpha=0.95": Case(Obtuse, obtuse, alpha=0.95),
    "obt every=4": Case(Obtuse, obtuse, every=4),
    "obt mirrored": Case(Obtuse, mirrored, {"norm_weight": 0.5}),
    "ort inner alpha=0.6": Case(Orthogonal, inner, alpha=0.6),
    "ort inner every=4": Case(Orthogonal, inner, every=4),
    "ort elementwise every=2": Case(Orthogonal, elementwise, {"product": "elementwise"}, every=2),
}
MISTAKES = (
    "unseen",
    "alpha",
    "swapped alpha",
    "schedule",
    "reduction: sum",
    "reduction: mean of a mean",
    *PRODUCTS,
)


def pairs(cases: Mapping[str, Case]) -> list[Any]:
    """Each case with each of its mistakes."""
    return [
        pytest.param(case, mistake, id=f"{name}-{mistake}")
        for name, case in cases.items()
        for mistake in MISTAKES
        if PRODUCTS.get(mistake) is not case.formula
    ]


def rms(difference: Tensor) -> float:
    """sqrt(E |difference|^2 / D)."""
    return float(difference.square().mean().sqrt())


# The losses alone, exactly --------------------------------------------------------------------


class Table(nn.Module):
    """One free eps_hat a point; x_t holds the index of the point."""

    def __init__(self) -> None:
        super().__init__()
        self.values = torch.zeros(0)

    def forward(self, x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """The point's own value."""
        return self.values[x_t[:, 0].long()]


def population(counts: list[int], seed: int) -> tuple[Batch, list[Tensor]]:
    """``counts[k]`` noises that lead to point k: all in one batch, and grouped by point."""
    generator = torch.Generator().manual_seed(seed)
    groups = [torch.randn(n, D, generator=generator, dtype=torch.float64) + 1 for n in counts]
    eps = torch.cat(groups)
    point = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    x_t = point[:, None].expand(-1, D).double()
    batch = Batch(x0=x_t, t=torch.full((len(eps),), 0.5), eps=eps, x_t=x_t, y=point)
    return batch, groups


def minimiser(case: Case, retain: Batch, forget: Batch, points: int) -> Tensor:
    """Where the loss, summed over a cycle of the schedule, is least: one Newton step.

    Every objective is quadratic in eps_hat, so that one step is exact.
    """
    table, method = Table(), case.create()
    model = Model(table, VarianceExploding(), IdentityCodec(), (D,))

    def objective(values: Tensor) -> Tensor:
        table.values = values
        batches = Batches(method.name, {"retain": retain, "forget": forget})
        cycle = [method.loss(model, batches, step) for step in range(case.every)]
        return torch.stack(cycle).sum()

    start = torch.zeros(points, D, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective(start), start)
    hessian = torch.autograd.functional.hessian(objective, start.detach())
    hessian = hessian.reshape(points * D, points * D)
    assert bool((torch.linalg.eigvalsh(hessian) > 0).all())
    return -torch.linalg.solve(hessian, gradient.flatten()).reshape(points, D)


@pytest.fixture(scope="module")
def finite() -> tuple[Batch, Batch, Moments]:
    """Retain and forget populations over three points, where r is 1/2, 1 and 3/2."""
    retain, of_g = population([8, 8, 8], seed=1)
    forget, of_f = population([5, 10, 15], seed=2)
    moments = Moments(
        eps_g=torch.stack([e.mean(0) for e in of_g]),
        first=torch.stack([e.mean(0) for e in of_f]),
        second=torch.stack([e.T @ e / len(e) for e in of_f]),
        r=torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64),
    )
    return retain, forget, moments


@pytest.mark.parametrize("name", EXACT)
def test_minimum_of_the_loss_is_the_formula(
    finite: tuple[Batch, Batch, Moments], name: str
) -> None:
    """The exact minimiser of the implemented loss equals the closed form to rounding."""
    retain, forget, moments = finite
    case = EXACT[name]
    found = minimiser(case, retain, forget, len(moments.r))
    torch.testing.assert_close(found, case.right(moments), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("case", "mistake"), pairs(EXACT))
def test_minimum_of_the_loss_is_no_other_formula(
    finite: tuple[Batch, Batch, Moments], case: Case, mistake: str
) -> None:
    """A formula with one mistake misses the exact minimiser by over 1 % of its size."""
    retain, forget, moments = finite
    found = minimiser(case, retain, forget, len(moments.r))
    assert rms(found - case.wrong(moments)[mistake]) > 0.01 * rms(found)


# Trained networks -----------------------------------------------------------------------------

RETAIN = GaussianMixture(
    torch.ones(2),
    torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.5, 0.0]]),
    1.2 * torch.eye(D).expand(2, D, D),
)
FORGET = GaussianMixture(
    torch.ones(1),
    torch.tensor([[0.4, 0.6, -0.4]]),
    torch.tensor([[[0.7, 0.3, 0.0], [0.3, 0.6, -0.15], [0.0, -0.15, 0.6]]]),
)  # narrower than RETAIN, so that p_f / p_g is bounded and so is every optimum
BUDGET = Training(
    steps=1200,
    batch_size=1024,
    learning_rate=2e-2,
    warmup_steps=100,
    lr_schedule="cosine",
    max_grad_norm=1e9,
    ema_decay=0.995,
)
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
ITEMS = 200_000
PART = 1 / 3  # of the distance from the right formula to the nearest wrong one


@dataclass(frozen=True)
class Trial:
    """A trained field at points drawn where its objective has weight, and what it should be."""

    field: Tensor
    moments: Moments
    gradient_norms: list[float]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trial]:
    """Train each case once, by the real trainer."""
    done: dict[str, Trial] = {}

    def trained(name: str) -> Trial:
        if name not in done:
            model, norms = fit(CASES[name], tmp_path_factory)
            done[name] = look(CASES[name], model, norms)
        return done[name]

    return trained


def fit(case: Case, folders: pytest.TempPathFactory) -> tuple[Model, list[float]]:
    """The model after the whole budget, and the gradient norms of the log."""
    generator = torch.Generator().manual_seed(0)
    splits = {}
    for split, law in (("retain", RETAIN), ("forget", FORGET)):
        x, y = law.sample(ITEMS, generator)
        splits[split] = Examples(x.float(), y)
    info = DataStats(shape=(D,), levels=None, nll_offset=0.0, std=1.2, max_distance=10.0)
    options = {"sigma_min": 0.5, "sigma_max": 2.0, "width": 32, "depth": 1}
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = VESDE.create(options).build(info)
    noised_batches = NoisedBatches(splits, model, 1, BUDGET.batch_size)
    trainer = Trainer(model, case.create(), noised_batches, BUDGET, Runtime(torch.device("cpu")), 0)
    log = trainer.run(folders.mktemp("train"), lambda *_: None)
    return model, [row["gradient_norm"] for row in log.rows]


def look(case: Case, model: Model, gradient_norms: list[float]) -> Trial:
    """Field and moments at x_t ~ alpha p_g,t + (1 - alpha) p_f,t, t over its range."""
    generator = torch.Generator().manual_seed(3)
    process, parts = model.process, []
    for time in TIMES:
        g, f = RETAIN.diffused(process, time), FORGET.diffused(process, time)
        kept = round(4000 * case.alpha)
        x = torch.cat([g.sample(kept, generator)[0], f.sample(4000 - kept, generator)[0]])
        t = torch.full((len(x),), time, dtype=torch.float64)
        with torch.no_grad():
            learned = model.eps(x.float(), t.float()).double()
        first, second = FORGET.noise_moments(process, x, t)
        ratio = (f.log_prob(x) - g.log_prob(x)).exp()
        parts.append((learned, RETAIN.eps(process)(x, t), first, second, ratio))
    learned, *moments = (torch.cat(part) for part in zip(*parts, strict=True))
    return Trial(learned, Moments(*moments), gradient_norms)


def accepts(trial: Trial, case: Case, formula: Tensor) -> bool:
    """Whether the field lies within ``PART`` of the nearest mistake's distance of ``formula``."""
    right = case.right(trial.moments)
    nearest = min(rms(right - wrong) for wrong in case.wrong(trial.moments).values())
    return rms(trial.field - formula) < PART * nearest


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_trained_network_is_the_formula(train: Callable[[str], Trial], name: str) -> None:
    """With clipping inactive the learned field is the closed form, not any mistaken one."""
    trial, case = train(name), CASES[name]
    assert max(trial.gradient_norms) < BUDGET.max_grad_norm
    assert accepts(trial, case, case.right(trial.moments))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mistake"),
    [(name, param.values[1]) for name in CASES for param in pairs({name: CASES[name]})],
)
def test_trained_network_rejects_a_mistake(
    train: Callable[[str], Trial], name: str, mistake: str
) -> None:
    """A mistaken formula is refused by the bound that the right one meets, and twice as far."""
    trial, case = train(name), CASES[name]
    wrong = case.wrong(trial.moments)[mistake]
    assert not accepts(trial, case, wrong)
    nearer = rms(trial.field - case.right(trial.moments))
    assert 2 * nearer < rms(trial.field - wrong)


@pytest.mark.slow
def test_trained_signs_differ(train: Callable[[str], Trial]) -> None:
    """A network trained with the released sign is refused by the paper's formula."""
    trial = train("obt released")
    case = CASES["obt"]
    assert not accepts(trial, case, case.right(trial.moments))
    assert accepts(trial, case, released(trial.moments, case.weight(trial.moments)))
