"""SFD's losses by finite differences and by hand, its optimum on Gaussians, and its one step."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from cli_harness import only, tiny
from torch import nn
from toy_models import ignore_progress, recorded_gradients

from msgm_bench import (
    Data,
    DataStats,
    DiscreteDDPM,
    Examples,
    IdentityCodec,
    Labels,
    Model,
    Noise,
    OptionError,
    RunSpec,
    Training,
    UniformDequantization,
    VarianceExploding,
    VariancePreserving,
    half_range,
    run,
)
from msgm_bench.experiment.plan import resolve
from msgm_bench.testing import ToyBackbone, check_method, toy_images, trained
from msgm_bench.testing.toy_tracks import CLASS
from msgm_bench.training import NoisedBatches, Runtime, Trainer
from msgm_builtin.methods.sfd import SFD
from msgm_builtin.methods.sfd_batch import draw_batch, uniform_index
from msgm_builtin.methods.sfd_losses import (
    GeneratorBatch,
    fake_score_loss,
    generate,
    generator_loss,
)
from msgm_builtin.methods.sfd_options import DRAWING_TASKS
from msgm_builtin.samplers.one_step import OneStep

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
    return Model(Smooth(seed), process, IdentityCodec(), (2,), Labels(3))


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
    return Model(Gaussians(process, means, v), process, IdentityCodec(), (1,), Labels(3))


def a_draw(N, D, dtype=torch.float64):
    """A batch's random numbers: half of it is of class 2, which becomes class 0."""
    generator = torch.Generator().manual_seed(N)
    z, eps = (torch.randn(N, D, generator=generator, dtype=dtype) for _ in range(2))
    t = 0.2 + 0.6 * torch.rand(N, generator=generator, dtype=dtype)
    c = torch.arange(N) % 2 + 1
    s = torch.where(c == 2, 0, c)
    w = torch.where(c == 2, 0.3, 1.0).to(dtype)
    return GeneratorBatch(c, s, w, t, z, eps)


def trainer_of(options=None, base=None, forget_labels=(2,), **budget):
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
    labels = {"forget": forget_labels, "retain": tuple({0, 1, 2} - set(forget_labels))}
    noised_batches, runtime = (
        NoisedBatches({}, model, 0, chosen.batch_size),
        Runtime(torch.device("cpu")),
    )
    return Trainer(model, SFD.create(options), noised_batches, chosen, runtime, 0, base, labels)


def random_batch(trainer, *stream):
    """The random numbers of a batch of the method that is being trained."""
    return draw_batch(trainer, trainer.method.options, trainer.method.time_range, None, *stream)


def one_step(trainer, z, c):
    """What the trained generator makes of noise for one class."""
    batch = GeneratorBatch(torch.full((len(z),), c), *[torch.zeros(0)] * 3, z, torch.zeros(0))
    return generate(trainer.model, batch, trainer.method.t_i)


@pytest.mark.parametrize("alpha", [0.5, 1.2])
@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_the_generators_gradient_is_that_of_its_loss(process, alpha):
    """Finite differences of the formula, written out again with omega held, in float64."""
    theta, phi, psi = (smooth(process, seed) for seed in range(3))
    batch, t_i = a_draw(6, 2), 0.6
    x_g = generate(theta, batch, t_i)
    loss = (batch.w * generator_loss(phi, psi, x_g, batch, alpha)).sum()
    got = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(theta.parameters()))])
    a_i, sigma_i = (float(v) for v in process.marginal(torch.tensor(t_i, dtype=torch.float64)))
    a, sigma = (v[:, None] for v in process.marginal(batch.t))

    def x0(model, x_t, t, a, sigma, c):
        return (x_t - sigma * model.network(x_t, t, c)) / a

    def formula(omega):
        x = sigma_i * batch.z
        x_g = x0(theta, x, torch.full_like(batch.t, t_i), a_i, sigma_i, batch.c)
        x_t = a * x_g + sigma * batch.eps
        x_phi = x0(phi, x_t, batch.t, a, sigma, batch.s)
        gap = x_phi - x0(psi, x_t, batch.t, a, sigma, batch.c)
        held = (x_phi - x_g).abs().mean(1) if omega is None else omega
        return (batch.w * (gap * (x_phi - x_g - alpha * gap)).sum(1) / held).sum(), held

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
    phi, batch = smooth(PROCESSES[0], 1), a_draw(8, 2)
    loss = generator_loss(phi, smooth(PROCESSES[0], 1), batch.z, batch, 1.2)
    is_retain = batch.c == batch.s
    assert torch.equal(loss[is_retain], torch.zeros(4).double())
    assert bool((loss[~is_retain] != 0).all())


def test_an_items_gradient_on_gaussians_is_closed_form():
    """Equal variances: -(1 - kappa)^2 (m_s - m_c)/omega, kappa = v/(v + sbar^2), whatever alpha.

    x_phi - x_psi = (1 - kappa)(m_s - m_c) does not depend on x_g, and x_phi - x_g has the slope
    kappa - 1.
    """
    phi = gaussians(means=MEANS.double())
    batch = a_draw(8, 1)
    x_g = batch.z.clone().requires_grad_()
    loss = generator_loss(phi, phi, x_g, batch, 1.2).sum()
    (got,) = torch.autograd.grad(loss, x_g)
    sbar = PROCESS.noise_to_signal(batch.t)[:, None]
    kappa, m = V / (V + sbar**2), MEANS.double()
    x_phi = m[batch.s] + kappa * (batch.z + sbar * batch.eps - m[batch.s])
    omega = (x_phi - batch.z).abs()
    expected = -((1 - kappa) ** 2) * (m[batch.s] - m[batch.c]) / omega
    torch.testing.assert_close(got, expected)


def test_the_fake_score_matches_noise_on_what_is_generated():
    """sum_n w_n |eps_psi - eps|^2 on the generator's items; x_g is a constant of it."""
    theta, psi, batch = smooth(PROCESSES[0], 0), smooth(PROCESSES[0], 2), a_draw(6, 2)
    process = PROCESSES[0]
    a_i, sigma_i = (float(v) for v in process.marginal(torch.tensor(0.6, dtype=torch.float64)))
    x = sigma_i * batch.z
    x_g = generate(theta, batch, 0.6)
    by_hand = (x - sigma_i * theta.network(x, torch.full((6,), 0.6).double(), batch.c)) / a_i
    torch.testing.assert_close(x_g, by_hand)
    a, sigma = (v[:, None] for v in process.marginal(batch.t))
    predicted = psi.network(a * by_hand + sigma * batch.eps, batch.t, batch.c)
    torch.testing.assert_close(
        fake_score_loss(psi, x_g, batch), (predicted - batch.eps).square().sum(1)
    )


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_step_of_both_networks(reduction):
    """psi steps first, by Adam with betas (0, 0.999); theta descends its clipped gradient."""
    trainer = trainer_of(
        {"reduction": reduction, "max_grad_value": 0.05, "fake_learning_rate": 0.02}
    )
    method = trainer.method
    method.setup(trainer)
    gradients = recorded_gradients(trainer)
    before = [p.detach().clone() for p in method.psi.parameters()]
    batch, theta_batch = random_batch(trainer, 0, "psi", 0), random_batch(trainer, 0, "theta")
    x_g = generate(trainer.model, batch, method.t_i).detach()
    twin = gaussians()  # psi as it starts
    loss = (batch.w * fake_score_loss(twin, x_g, batch)).sum()
    slopes = torch.autograd.grad(loss, list(twin.parameters()))
    method.update(trainer, 0)
    assert float(method.recorded["loss_fake"]) == pytest.approx(float(loss.detach()), rel=1e-5)
    for parameter, old, slope in zip(method.psi.parameters(), before, slopes, strict=True):
        # Adam's first step is the sign of the gradient, where the gradient is far from 1e-8
        expected = old - 0.02 * slope.sign() * (slope.abs() > 1e-5)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-3, atol=1e-5)
    other = trainer_of({"reduction": reduction})
    x_g = generate(other.model, theta_batch, method.t_i)
    losses = generator_loss(other.base, method.psi, x_g, theta_batch, 1.2)
    (gradient,) = other.gradients((theta_batch.w * losses).sum())
    torch.testing.assert_close(
        gradients[0].float(), gradient.clamp(-0.05, 0.05), rtol=1e-4, atol=1e-6
    )
    assert float(gradient.abs().max()) > 0.05  # the clipping matters


def test_labels_weights_and_times_of_a_batch():
    """A quarter is forgotten, at a retained class of phi; both parts' weights sum to theirs."""
    options = {
        "safe_class": "random",
        "forget_fraction": 0.25,
        "forget_weight": 0.3,
        "sigma_range": (0.2, 2.0),
    }
    trainer = trainer_of(options, forget_labels=(1,), batch_size=400)
    trainer.method.setup(trainer)
    batch = random_batch(trainer, 0, "theta")
    is_forget = batch.c == 1
    assert int(is_forget.sum()) == 100
    assert set(batch.c[~is_forget].tolist()) == set(batch.s.tolist()) == {0, 2}
    assert torch.equal(batch.c[~is_forget], batch.s[~is_forget])
    assert float(batch.w[is_forget].sum()) == pytest.approx(0.3)
    assert float(batch.w[~is_forget].sum()) == pytest.approx(1.0)
    ratios = PROCESS.noise_to_signal(batch.t)
    assert 0.2 <= float(ratios.min()) < 0.22
    assert 1.8 < float(ratios.max()) <= 2.0001
    assert not torch.equal(batch.z, random_batch(trainer, 1, "theta").z)


@pytest.mark.parametrize(
    ("safe", "forget_labels", "expected"),
    [
        ("next", (0,), {0: {1}}),
        ("next", (2,), {2: {0}}),
        ("next", (1, 2), {1: {0}, 2: {0}}),
        (0, (1,), {1: {0}}),
        (2, (0, 1), {0: {2}, 1: {2}}),
        ("random", (1,), {1: {0, 2}}),
    ],
)
def test_the_safe_class(safe, forget_labels, expected):
    """The next kept one round the circle, a named one, or any; always a kept one."""
    trainer = trainer_of({"safe_class": safe}, forget_labels=forget_labels, batch_size=64)
    trainer.method.setup(trainer)
    batch = random_batch(trainer, 0, "theta")
    assert {c: set(batch.s[batch.c == c].tolist()) for c in forget_labels} == expected


def test_the_first_stage_distils_kept_classes_alone():
    """Forgotten ones weigh nothing in the first half of four steps, and all they should after."""
    trainer = trainer_of({"first_stage_fraction": 0.5, "forget_weight": 0.3})
    trainer.method.setup(trainer)
    draws = [random_batch(trainer, step, "theta") for step in range(4)]
    totals = [float(batch.w[batch.c == 2].sum()) for batch in draws]
    assert totals == pytest.approx([0.0, 0.0, 0.3, 0.3])


def test_picks_are_even_and_inside():
    """Equal shares of [0, 1), and the last one at the last float below 1."""
    u = torch.tensor([0.0, 0.33, 0.34, 0.66, 0.67, 1 - 2**-24])
    assert uniform_index(3, u).tolist() == [0, 0, 1, 1, 2, 2]
    assert uniform_index(9, torch.tensor([1 - 2**-24])).tolist() == [8]


def test_noise_levels_follow_the_datas_range():
    """[0, 1] has half the noise of [-1, 1]: on VE each time lies log 2 / log_ratio lower."""
    trainer = trainer_of({"sigma_range": (0.2, 2.0)})
    trainer.method.setup(trainer)
    whole = (trainer.method.t_i, *trainer.method.time_range)
    assert PROCESS.noise_to_signal(torch.tensor(whole[0])).item() == pytest.approx(2.5)
    trainer.model.codec = UniformDequantization(16, 0.0, 1.0)
    trainer.method.setup(trainer)
    half = (trainer.method.t_i, *trainer.method.time_range)
    shift = math.log(2) / PROCESS.log_ratio
    assert [a - b for a, b in zip(whole, half, strict=True)] == pytest.approx([shift] * 3, rel=1e-4)


def test_published_times_of_the_discrete_process():
    """The generator sits at step 440 of 0 .. 999, the distillation on steps 38 to 711."""
    trainer = trainer_of(base=gaussians(DiscreteDDPM()), batch_size=4096)
    trainer.method.setup(trainer)
    assert trainer.method.t_i == 441 / 1000
    steps = random_batch(trainer, 0, "theta").t * 1000 - 1
    assert (round(float(steps.min())), round(float(steps.max()))) == (38, 711)
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)


def test_gaussians_are_distilled_and_the_forgotten_one_is_gone(tmp_path):
    """One step draws N(m_c, v) of classes of D_g, and N(m_s, v) of the forgotten one.

    The family holds the optimum: x_g = (1 - kappa) m + kappa sbar z is any Gaussian.
    """
    options = {
        "safe_class": 1,
        "forget_weight": 1.0,
        "fake_learning_rate": 0.05,
        "sigma_range": (0.2, 3.0),
    }
    budget = {"steps": 300, "batch_size": 128, "learning_rate": 0.02, "lr_schedule": "cosine"}
    trainer = trainer_of(options, adam_betas=(0.0, 0.999), **budget)
    trainer.run(tmp_path, ignore_progress)
    z = Noise(5, 0, 4000).normal((1,))
    for c, mean in ((0, -1.0), (1, 0.5), (2, 0.5)):
        with torch.no_grad():
            x = one_step(trainer, z, c)
        assert float(x.mean()) == pytest.approx(mean, abs=0.1)
        assert float(x.std()) == pytest.approx(math.sqrt(V), rel=0.15)


def test_conformance():
    """Resumes to the bit between its two optimisers, and touches no data."""
    check_method(SFD)


def test_the_forget_set_reaches_it_by_labels_alone():
    """Other forgotten classes give other weights, from the same absence of data."""
    data = toy_images()
    first, second = (
        trained(SFD, {"forget_weight": 1.0}, "finetune", data, targets, track=CLASS)
        for targets in ((0,), (1,))
    )
    assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_passes_are_counted(tmp_path):
    """A generation without a graph, psi's match, and three evaluations with one: 4 1/3 a step."""
    trainer = trainer_of()
    trainer.run(tmp_path, ignore_progress)
    assert trainer.log.rows[-1]["passes"] == pytest.approx(4 * (4 + 1 / 3))


def test_unconditional_models_are_skipped_before_training(cache, tmp_path):
    """The result says why, and no stage was entered."""
    result = run(RunSpec.model_validate(GRID), tmp_path / "runs")
    assert result.status == "skipped"
    assert "it needs --conditional" in (result.reason or "")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"safe_class": 3}, "safe_class = 3, which is not retained"),
        ({"safe_class": 12}, "safe_class = 12, which is not retained"),
        ({"sigma_range": (2.0, 1.0)}, "the smaller one first"),
        ({"forget_fraction": 1.0}, "'forget_fraction' of sfd"),
    ],
)
def test_options_out_of_range_stop_before_training(params, message):
    """A safe class that is forgotten or not there, and a range that is none."""
    with pytest.raises(OptionError) as caught:
        resolve(RunSpec.model_validate(GRID | {"conditional": True, "params": params}))
    assert message in str(caught.value)


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
    with pytest.raises(OptionError, match=r"sigma_range = .* on this process"):
        SFD.create({"sigma_range": sigmas}).skip(model, "finetune")
    assert SFD.create({"sigma_range": (sigmas[0] / 1e4, 1e9)}).skip(model, "finetune") is None


def test_the_generators_noise_is_that_of_the_process():
    """The published one, or the last of a process with less; the sampler takes either."""
    stats = replace(DataStats.of(toy_images()), classes=3)
    model = ToyBackbone.create().build(stats)
    betas = torch.linspace(0.00085, 0.012, 50, dtype=torch.float64)
    last = math.sqrt(1 / float((1 - betas).prod()) - 1) / half_range(model.codec)
    for process, expected in ((DiscreteDDPM(), 2.5), (DiscreteDDPM(50, 0.00085, 0.012), last)):
        model.process = process
        required = SFD.create().required_task_options(model)
        options = required["prompt_generation"]["sampler_options"]
        assert options["sigma"] == pytest.approx(expected, rel=1e-5)
        OneStep.create(options).check(model)
        assert SFD.create().skip(model, "finetune") is None
        stated = SFD.create({"generator_sigma": 0.25}).required_task_options(model)
        assert stated["prompt_generation"]["sampler_options"] == {"sigma": 0.25}


def test_a_refusal_names_the_kept_classes():
    """By label and name."""
    items = Examples(torch.zeros(2, 1), torch.tensor([0, 1]))
    with pytest.raises(OptionError, match="0 \\(cat\\)"):
        SFD.create({"safe_class": 1}).check_data(Data(items, items, ("cat", "dog")), (1,))


ROWS = ("ua", "ua_unrecognisable", "ra", "ra_unrecognisable")


def test_one_step_is_what_is_evaluated(bench, cache, fast, new_registry, monkeypatch, tmp_path):
    """Whatever was asked: in protocol, provenance, report and card, and again by ``evaluate``."""
    monkeypatch.setenv(
        "MSGM_BENCH_PLUGINS",
        "datasets.gaussians,backbones.*,samplers.*,methods.*,judges.bayes,tasks.class_generation,"
        "tasks.likelihood,metrics.unlearning_accuracy,metrics.nll",
    )
    new_registry.cache_clear()
    flags = ("-t", "class_generation.sampler=em", "-t", "class_generation.guidance=2")
    code, _, err = bench(*tiny("--conditional", *flags, method="sfd", out="runs"))
    assert code == 0, err
    actual = only(tmp_path / "runs")
    rows = {row["metric"]: row for row in actual["metrics"]}
    assert set(ROWS) <= set(rows)
    assert not [name for name in rows if name.startswith("nll")]
    skipped = {skip["name"]: skip["reason"] for skip in actual["provenance"]["skipped"]}
    assert "which has no density" in skipped["likelihood"]
    how = {"sampler": "one_step", "nfe": 1, "guidance": 0.0, "sampler_options": {"sigma": 2.5}}
    task = actual["protocols"][rows["ua"]["protocol"]]["settings"]["class_generation"]
    assert how.items() <= task.items()
    required = actual["provenance"]["limits"]["required_task_options"]
    assert set(required) == {*DRAWING_TASKS}
    assert all(options == how for options in required.values())
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
    assert scored["metrics"] == actual["metrics"]
    assert scored["provenance"]["skipped"] == actual["provenance"]["skipped"]
