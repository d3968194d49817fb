"""SFD's losses by finite differences and by hand, its optimum on Gaussians, and its one step."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from cli_harness import only, tiny
from torch import nn
from toy_models import descents, silent

from msgm_bench import (
    Data,
    DataStats,
    DiscreteDDPM,
    Examples,
    IdentityCodec,
    Model,
    Noise,
    OptionError,
    RunSpec,
    Training,
    UniformDequantization,
    VarianceExploding,
    VariancePreserving,
    run,
)
from msgm_bench.experiment.plan import resolve
from msgm_bench.testing import ToyBackbone, check_method, toy_images, trained
from msgm_bench.training import NoisedBatches, Runtime, Trainer
from msgm_builtin.methods.sfd import SFD, Draw, distillation, generated, matching, pick

PROCESS, V = VarianceExploding(0.01, 10.0), 0.25
MEANS = torch.tensor([[-1.0], [0.5], [2.0]])
PROCESSES = [VariancePreserving(), VarianceExploding(0.05, 20.0)]
GRID = {"dataset": "digits", "forget": "3", "backbone": "vesde", "method": "sfd"}


class Smooth(nn.Module):
    """A nonlinear network of 21 weights for items of two dimensions and three classes."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        sizes = ((3, 2), (3,), (2, 3), (4, 2))
        self.W, self.b, self.U, self.e = (
            nn.Parameter(torch.randn(size, generator=generator, dtype=torch.float64))
            for size in sizes
        )

    def forward(self, x_t, t, condition):
        """eps_hat."""
        hidden = torch.tanh(x_t @ self.W.T + self.b * t[:, None])
        return hidden @ self.U.T + self.e[condition]


def smooth(process, seed):
    """A model of it in float64."""
    return Model(Smooth(seed), process, IdentityCodec(), (2,), classes=3)


class Gaussians(nn.Module):
    """The exact eps_hat of classes N(m_c, v): sigma (x_t - a m_c)/(a^2 v + sigma^2)."""

    def __init__(self, process, means=MEANS, v=V):
        super().__init__()
        self.process = process
        self.m = nn.Parameter(torch.cat([means, means.mean(0, keepdim=True)]))
        self.log_v = nn.Parameter(torch.full((len(means) + 1, 1), math.log(v)).to(means))

    def forward(self, x_t, t, condition):
        """eps_hat."""
        a, sigma = (v[:, None].to(x_t) for v in self.process.marginal(t))
        m, v = self.m[condition], self.log_v[condition].exp()
        return sigma * (x_t - a * m) / (a**2 * v + sigma**2)


def gaussians(process=PROCESS, means=MEANS, v=V):
    """A model of it."""
    return Model(Gaussians(process, means, v), process, IdentityCodec(), (1,), classes=3)


def a_draw(N, D, dtype=torch.float64):
    """A batch's random numbers: half of it is of class 2, which becomes class 0."""
    generator = torch.Generator().manual_seed(N)
    z, eps = (torch.randn(N, D, generator=generator, dtype=dtype) for _ in range(2))
    t = 0.2 + 0.6 * torch.rand(N, generator=generator, dtype=dtype)
    c = torch.arange(N) % 2 + 1
    s = torch.where(c == 2, 0, c)
    w = torch.where(c == 2, 0.3, 1.0).to(dtype)
    return Draw(c, s, w, t, z, eps)


def trainer_of(options=None, base=None, forgotten=(2,), **budget):
    """The real trainer without any item, from ``base``."""
    base = gaussians() if base is None else base
    model = gaussians(base.process)
    model.load_state_dict(base.state_dict())
    base.eval().requires_grad_(False)
    defaults = {
        "steps": 4,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "ema_decay": 0.0,
        "max_grad_norm": 1e9,
    }
    chosen = Training(**defaults | budget)
    labels = {"forget": forgotten, "retain": tuple({0, 1, 2} - set(forgotten))}
    noised_batches, runtime = (
        NoisedBatches({}, model, 0, chosen.batch_size),
        Runtime(torch.device("cpu")),
    )
    return Trainer(model, SFD.create(options), noised_batches, chosen, runtime, 0, base, labels)


@pytest.mark.parametrize("alpha", [0.5, 1.2])
@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_the_generators_gradient_is_that_of_its_loss(process, alpha):
    """Finite differences of the formula, written out again with omega held, in float64."""
    theta, phi, psi = (smooth(process, seed) for seed in range(3))
    draw, t_i = a_draw(6, 2), 0.6
    x_g = generated(theta, draw.z, t_i, draw.c)
    loss = (draw.w * distillation(phi, psi, x_g, draw, alpha)).sum()
    got = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(theta.parameters()))])
    a_i, sigma_i = (float(v) for v in process.marginal(torch.tensor(t_i, dtype=torch.float64)))
    a, sigma = (v[:, None] for v in process.marginal(draw.t))

    def x0(model, x_t, t, a, sigma, c):
        return (x_t - sigma * model.network(x_t, t, c)) / a

    def formula(omega):
        x = sigma_i * draw.z
        x_g = x0(theta, x, torch.full_like(draw.t, t_i), a_i, sigma_i, draw.c)
        x_t = a * x_g + sigma * draw.eps
        x_phi = x0(phi, x_t, draw.t, a, sigma, draw.s)
        gap = x_phi - x0(psi, x_t, draw.t, a, sigma, draw.c)
        held = (x_phi - x_g).abs().mean(1) if omega is None else omega
        return (draw.w * (gap * (x_phi - x_g - alpha * gap)).sum(1) / held).sum(), held

    with torch.no_grad():
        value, omega = formula(None)
        expected, h = [], 1e-6
        for parameter in theta.parameters():
            for i in range(parameter.numel()):
                ends = []
                for step in (h, -h):
                    parameter.view(-1)[i] += step
                    ends.append(float(formula(omega)[0]))
                    parameter.view(-1)[i] -= step
                expected.append((ends[0] - ends[1]) / (2 * h))
    assert float(loss.detach()) == pytest.approx(float(value), rel=1e-12)
    torch.testing.assert_close(got, torch.tensor(expected).double(), rtol=1e-6, atol=1e-7)


def test_nothing_moves_where_fake_and_teacher_agree():
    """At psi = phi the loss of a kept class is zero; that of a forgotten one is not."""
    phi, draw = smooth(PROCESSES[0], 1), a_draw(8, 2)
    loss = distillation(phi, smooth(PROCESSES[0], 1), draw.z, draw, 1.2)
    kept = draw.c == draw.s
    assert torch.equal(loss[kept], torch.zeros(4).double())
    assert bool((loss[~kept] != 0).all())


def test_an_items_gradient_on_gaussians_is_closed_form():
    """Equal variances: -(1 - kappa)^2 (m_s - m_c)/omega, kappa = v/(v + sbar^2), whatever alpha.

    x_phi - x_psi = (1 - kappa)(m_s - m_c) does not depend on x_g, and x_phi - x_g has the slope
    kappa - 1.
    """
    phi = gaussians(means=MEANS.double())
    draw = a_draw(8, 1)
    x_g = draw.z.clone().requires_grad_()
    loss = distillation(phi, phi, x_g, draw, 1.2).sum()
    (got,) = torch.autograd.grad(loss, x_g)
    sbar = PROCESS.noise_to_signal(draw.t)[:, None]
    kappa, m = V / (V + sbar**2), MEANS.double()
    x_phi = m[draw.s] + kappa * (draw.z + sbar * draw.eps - m[draw.s])
    omega = (x_phi - draw.z).abs()
    expected = -((1 - kappa) ** 2) * (m[draw.s] - m[draw.c]) / omega
    torch.testing.assert_close(got, expected)


def test_the_fake_score_matches_noise_on_what_is_generated():
    """sum_n w_n |eps_psi - eps|^2 on the generator's items; x_g is a constant of it."""
    theta, psi, draw = smooth(PROCESSES[0], 0), smooth(PROCESSES[0], 2), a_draw(6, 2)
    process = PROCESSES[0]
    a_i, sigma_i = (float(v) for v in process.marginal(torch.tensor(0.6, dtype=torch.float64)))
    x = sigma_i * draw.z
    x_g = generated(theta, draw.z, 0.6, draw.c)
    by_hand = (x - sigma_i * theta.network(x, torch.full((6,), 0.6).double(), draw.c)) / a_i
    torch.testing.assert_close(x_g, by_hand)
    a, sigma = (v[:, None] for v in process.marginal(draw.t))
    predicted = psi.network(a * by_hand + sigma * draw.eps, draw.t, draw.c)
    torch.testing.assert_close(matching(psi, x_g, draw), (predicted - draw.eps).square().sum(1))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_step_of_both_networks(reduction):
    """psi steps first, by Adam with betas (0, 0.999); theta descends its clipped gradient."""
    trainer = trainer_of({"reduction": reduction, "clip_value": 0.05, "fake_rate": 0.02})
    method = trainer.method
    method.setup(trainer)
    seen = descents(trainer)
    before = [p.detach().clone() for p in method.psi.parameters()]
    draw, later = method.drawn(trainer, 0, "psi", 0), method.drawn(trainer, 0, "theta")
    x_g = generated(trainer.model, draw.z, method.t_i, draw.c).detach()
    twin = gaussians()  # psi as it starts
    loss = (draw.w * matching(twin, x_g, draw)).sum()
    slopes = torch.autograd.grad(loss, list(twin.parameters()))
    method.update(trainer, 0)
    assert float(method.recorded["loss_fake"]) == pytest.approx(float(loss.detach()), rel=1e-5)
    for parameter, old, slope in zip(method.psi.parameters(), before, slopes, strict=True):
        # Adam's first step is the sign of the gradient, where the gradient is far from 1e-8
        expected = old - 0.02 * slope.sign() * (slope.abs() > 1e-5)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-3, atol=1e-5)
    fresh = trainer_of({"reduction": reduction})
    x_g = generated(fresh.model, later.z, method.t_i, later.c)
    losses = distillation(fresh.base, method.psi, x_g, later, 1.2)
    (gradient,) = fresh.gradients((later.w * losses).sum())
    torch.testing.assert_close(seen[0].float(), gradient.clamp(-0.05, 0.05), rtol=1e-4, atol=1e-6)
    assert float(gradient.abs().max()) > 0.05  # the clipping matters


def test_labels_weights_and_times_of_a_batch():
    """A quarter is forgotten, told a kept class; both parts' weights sum to theirs."""
    options = {"safe": "random", "share": 0.25, "forget_weight": 0.3, "sigmas": (0.2, 2.0)}
    trainer = trainer_of(options, forgotten=(1,), batch_size=400)
    trainer.method.setup(trainer)
    draw = trainer.method.drawn(trainer, 0, "theta")
    forgotten = draw.c == 1
    assert int(forgotten.sum()) == 100
    assert set(draw.c[~forgotten].tolist()) == set(draw.s.tolist()) == {0, 2}
    assert torch.equal(draw.c[~forgotten], draw.s[~forgotten])
    assert float(draw.w[forgotten].sum()) == pytest.approx(0.3)
    assert float(draw.w[~forgotten].sum()) == pytest.approx(1.0)
    ratios = PROCESS.noise_to_signal(draw.t)
    assert 0.2 <= float(ratios.min()) < 0.22
    assert 1.8 < float(ratios.max()) <= 2.0001
    assert not torch.equal(draw.z, trainer.method.drawn(trainer, 1, "theta").z)


@pytest.mark.parametrize(
    ("safe", "forgotten", "told"),
    [
        ("next", (0,), {0: {1}}),
        ("next", (2,), {2: {0}}),
        ("next", (1, 2), {1: {0}, 2: {0}}),
        (0, (1,), {1: {0}}),
        (2, (0, 1), {0: {2}, 1: {2}}),
        ("random", (1,), {1: {0, 2}}),
    ],
)
def test_the_safe_class(safe, forgotten, told):
    """The next kept one round the circle, a named one, or any; always a kept one."""
    trainer = trainer_of({"safe": safe}, forgotten=forgotten, batch_size=64)
    trainer.method.setup(trainer)
    draw = trainer.method.drawn(trainer, 0, "theta")
    assert {c: set(draw.s[draw.c == c].tolist()) for c in forgotten} == told


def test_the_first_stage_distils_kept_classes_alone():
    """Forgotten ones weigh nothing in the first half of four steps, and all they should after."""
    trainer = trainer_of({"first_stage": 0.5, "forget_weight": 0.3})
    trainer.method.setup(trainer)
    draws = [trainer.method.drawn(trainer, step, "theta") for step in range(4)]
    totals = [float(draw.w[draw.c == 2].sum()) for draw in draws]
    assert totals == pytest.approx([0.0, 0.0, 0.3, 0.3])


def test_picks_are_even_and_inside():
    """Equal shares of [0, 1), and the last one at the last float below 1."""
    u = torch.tensor([0.0, 0.33, 0.34, 0.66, 0.67, 1 - 2**-24])
    assert pick(3, u).tolist() == [0, 0, 1, 1, 2, 2]
    assert pick(9, torch.tensor([1 - 2**-24])).tolist() == [8]


def test_noise_levels_follow_the_datas_range():
    """[0, 1] has half the noise of [-1, 1]: on VE each time lies log 2 / log_ratio lower."""
    trainer = trainer_of({"sigmas": (0.2, 2.0)})
    trainer.method.setup(trainer)
    whole = trainer.method.t_i, trainer.method.low, trainer.method.high
    assert PROCESS.noise_to_signal(torch.tensor(whole[0])).item() == pytest.approx(2.5)
    trainer.model.codec = UniformDequantization(16, 0.0, 1.0)
    trainer.method.setup(trainer)
    half = trainer.method.t_i, trainer.method.low, trainer.method.high
    shift = math.log(2) / PROCESS.log_ratio
    assert [a - b for a, b in zip(whole, half, strict=True)] == pytest.approx([shift] * 3, rel=1e-4)


def test_published_times_of_the_discrete_process():
    """The generator sits at step 440 of 0 .. 999, the distillation on steps 38 to 711."""
    trainer = trainer_of(base=gaussians(DiscreteDDPM()), batch_size=4096)
    trainer.method.setup(trainer)
    assert trainer.method.t_i == 441 / 1000
    steps = trainer.method.drawn(trainer, 0, "theta").t * 1000 - 1
    assert (round(float(steps.min())), round(float(steps.max()))) == (38, 711)
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)


def test_gaussians_are_distilled_and_the_forgotten_one_is_gone(tmp_path):
    """One step draws N(m_c, v) of kept classes, and N(m_s, v) where the forgotten one was asked.

    The family holds the optimum: x_g = (1 - kappa) m + kappa sbar z is any Gaussian.
    """
    options = {"safe": 1, "forget_weight": 1.0, "fake_rate": 0.05, "sigmas": (0.2, 3.0)}
    budget = {"steps": 300, "batch_size": 128, "learning_rate": 0.02, "lr_schedule": "cosine"}
    trainer = trainer_of(options, adam_betas=(0.0, 0.999), **budget)
    trainer.run(tmp_path, silent)
    z = Noise(5, 0, 4000).normal((1,))
    for c, mean in ((0, -1.0), (1, 0.5), (2, 0.5)):
        with torch.no_grad():
            x = generated(trainer.model, z, trainer.method.t_i, torch.full((4000,), c))
        assert float(x.mean()) == pytest.approx(mean, abs=0.1)
        assert float(x.std()) == pytest.approx(math.sqrt(V), rel=0.15)


def test_conformance():
    """Resumes to the bit between its two optimisers, and touches no data."""
    check_method(SFD)


def test_the_forget_set_reaches_it_by_labels_alone():
    """Other forgotten classes give other weights, from the same absence of data."""
    data = toy_images()
    first, second = (
        trained(SFD, {"forget_weight": 1.0}, "finetune", data, targets, classes=3)
        for targets in ((0,), (1,))
    )
    assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_passes_are_counted(tmp_path):
    """A generation without a graph, psi's match, and three evaluations with one: 4 1/3 a step."""
    trainer = trainer_of()
    trainer.run(tmp_path, silent)
    assert trainer.log.rows[-1]["passes"] == pytest.approx(4 * (4 + 1 / 3))


def test_unconditional_models_are_skipped_before_training(cache, tmp_path):
    """The result says why, and no stage was entered."""
    result = run(RunSpec.model_validate(GRID), tmp_path / "runs")
    assert result.status == "skipped"
    assert "it needs --conditional" in (result.reason or "")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"safe": 3}, "safe = 3, which is not kept"),
        ({"safe": 12}, "safe = 12, which is not kept"),
        ({"sigmas": (2.0, 1.0)}, "the smaller one first"),
        ({"share": 1.0}, "'share' of sfd"),
    ],
)
def test_options_out_of_range_stop_before_training(params, said):
    """A safe class that is forgotten or not there, and a range that is none."""
    with pytest.raises(OptionError) as caught:
        resolve(RunSpec.model_validate(GRID | {"conditional": True, "params": params}))
    assert said in str(caught.value)


def test_presets():
    """Published: Adam without momentum, 50,000 steps, clipped by value alone."""
    spec = GRID | {"conditional": True}
    for preset in ("full", "paper"):
        budget = resolve(RunSpec.model_validate(spec | {"preset": preset})).training.budget
        assert (budget.steps, budget.batch_size, budget.learning_rate) == (50_000, 256, 1e-5)
        assert (budget.adam_betas[0], budget.ema_decay, budget.warmup_steps) == (0.0, 0.9999, 0)
        assert (budget.use_ema_warmup, budget.continue_optimizer) == (False, False)


@pytest.mark.parametrize("sigmas", [(200.0, 300.0), (1e-9, 1e-8)])
def test_noise_levels_beyond_the_process_are_refused(sigmas):
    """They would all be its last one."""
    model = ToyBackbone.create().build(replace(DataStats.of(toy_images()), classes=3))
    with pytest.raises(OptionError, match=r"sigmas = .* on this process"):
        SFD.create({"sigmas": sigmas}).skip(model, "finetune")
    assert SFD.create({"sigmas": (sigmas[0] / 1e4, 1e9)}).skip(model, "finetune") is None


def test_a_refusal_names_the_kept_classes():
    """By label and name."""
    items = Examples(torch.zeros(2, 1), torch.tensor([0, 1]))
    with pytest.raises(OptionError, match="0 \\(cat\\)"):
        SFD.create({"safe": 1}).check_data(Data(items, items, ("cat", "dog")), (1,))


ROWS = ("ua", "ua_unrecognisable", "ra", "ra_unrecognisable")


def test_one_step_is_what_is_evaluated(bench, cache, fast, new_registry, monkeypatch, tmp_path):
    """Whatever was asked: in protocol, provenance, report and card, and again by ``evaluate``."""
    monkeypatch.setenv(
        "MSGM_BENCH_PLUGINS",
        "datasets.gaussians,backbones.*,samplers.*,methods.*,judges.bayes,tasks.class_generation,"
        "tasks.likelihood,metrics.unlearning_accuracy,metrics.nll",
    )
    new_registry.cache_clear()
    asked = ("-t", "class_generation.sampler=em", "-t", "class_generation.guidance=2")
    code, _, err = bench(*tiny("--conditional", *asked, method="sfd", out="runs"))
    assert code == 0, err
    found = only(tmp_path / "runs")
    rows = {row["metric"]: row for row in found["metrics"]}
    assert set(ROWS) <= set(rows)
    assert not [name for name in rows if name.startswith("nll")]
    assert "no density" not in rows
    assert "a generator has no density" in found["provenance"]["left_out"]["likelihood"]
    how = {"sampler": "one_step", "nfe": 1, "guidance": 0.0, "sampler_options": {"sigma": 2.5}}
    task = found["protocols"][rows["ua"]["protocol"]]["settings"]["class_generation"]
    assert how.items() <= task.items()
    assert found["provenance"]["limits"]["demands"] == {"class_generation": how}
    (folder,) = (tmp_path / "runs").iterdir()
    assert "class_generation: sampler = one_step, nfe = 1" in (folder / "report.md").read_text()
    card = json.loads((folder / "model" / "model.json").read_text())
    assert card["limits"]["maker"] == "sfd"
    code, _, err = bench("export", folder, "elsewhere")
    assert code == 2
    assert "only its own sampler draws from" in err
    evaluated = ("evaluate", str(folder / "model"), "--dataset", "gaussians", "--forget", "middle")
    sizes = ("--samples", "32", "-d", "train_size=500", "-d", "test_size=500")
    code, _, err = bench(*evaluated, *sizes, "--out", "scored")
    assert code == 0, err
    scored = only(tmp_path / "scored")
    assert scored["metrics"] == found["metrics"]
    assert scored["provenance"]["left_out"] == found["provenance"]["left_out"]
