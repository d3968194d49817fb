"""EraseDiff and SalUn on class-conditional models: forgotten classes become other ones."""

from __future__ import annotations

import pytest
import torch
from conditional_toy import K, matching, slope, told, trainer_of
from toy_models import descents

from msgm_bench import Conditioned, Model, RunSpec
from msgm_bench.experiment.plan import resolve
from msgm_bench.testing import check_method
from msgm_builtin.methods.erasediff import EraseDiff, other_class
from msgm_builtin.methods.salun import SalUn


def unconditional():
    """A model that is told no class; only ``classes`` is read."""
    model = told()
    return Model(model.network, model.process, model.codec, (2,))


def gradient(trainer):
    """What the last step went down."""
    return torch.cat([p.grad.reshape(-1) for p in trainer.parameters]).double()


# EraseDiff ---------------------------------------------------------------------------------


@pytest.mark.parametrize("inner_steps", [0, 2])
def test_erasediff_is_the_formula(inner_steps):
    """grad L_r + lambda grad |eps_hat(c_f) - sg eps_hat(c')|^2/D: W_c' of L_f stays where it is."""
    made = EraseDiff.create({"weight": 0.3, "inner_steps": inner_steps})
    trainer = trainer_of(made)
    forget, other = trainer.batch("forget", 0, "outer"), other_class(trainer, 0, "outer")
    with torch.no_grad():
        aim = trainer.model.eps(forget.x_t, forget.t, torch.full((8,), other))
    g_f = slope(trainer.model, forget.x_t, forget.y, aim)
    expected = matching(trainer.model, trainer.batch("retain", 0)) + 0.3 * g_f
    W_c, W_f = (g_f[2:].reshape(-1, 2)[c] for c in (other, 3))
    assert not W_c.any()
    assert W_f.any()
    seen = descents(trainer)
    made.update(trainer, 0)
    torch.testing.assert_close(seen[-1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", ["relabel", "uniform"])
def test_erasediff_tells_the_forgotten_class(target):
    """L_f is of c_f, never of the null class, however often labels are dropped."""
    made = EraseDiff.create({"target": target})
    trainer = trainer_of(made, label_dropout_prob=1.0)
    batch, _ = made.aimed(trainer, 0, "outer")
    assert trainer.batch("forget", 0, "outer").condition.tolist() == [K] * 8
    assert torch.equal(batch.condition, batch.y)


@pytest.mark.parametrize("dropped", ["retain", "forget"])
def test_erasediff_drops_labels_of_one_split(dropped):
    """The network sees the null class for all of one split, and the true classes of the other."""
    made = EraseDiff.create({"label_dropout": dropped, "inner_steps": 0})
    trainer = trainer_of(made, label_dropout_prob=1.0)
    seen = []
    original = trainer.model.eps
    trainer.model.eps = lambda x, t, c: seen.append(c) or original(x, t, c)
    other = other_class(trainer, 0, "outer")
    made.update(trainer, 0)
    teacher, retain, forget = seen
    truth = {
        "retain": trainer.batch("retain", 0).y,
        "forget": trainer.batch("forget", 0, "outer").y,
    }
    for split, c in (("retain", retain), ("forget", forget)):
        expected = torch.full_like(c, K) if split == dropped else truth[split]
        assert torch.equal(c, expected)
    assert set(teacher.tolist()) == {other}


@pytest.mark.parametrize("forgotten", [(0,), (3,), (1, 4)])
def test_erasediff_draws_among_the_kept_classes(forgotten):
    """c' is each kept class equally often, and no forgotten one."""
    trainer = trainer_of(EraseDiff.create(), forgotten)
    drawn = torch.tensor([other_class(trainer, step, "outer") for step in range(2000)])
    share = torch.bincount(drawn, minlength=K) / 2000
    kept = torch.tensor([c not in forgotten for c in range(K)])
    torch.testing.assert_close(share, kept / kept.sum(), rtol=0, atol=0.05)
    assert not share[~kept].any()


# SalUn -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["random_class", "next_class"])
def test_salun_is_the_formula(target):
    """grad |eps_hat(c_f) - sg eps_hat(c')|^2/D + alpha grad L_r, with c' of each item."""
    options = {"target": target, "alpha": 0.4, "fraction": 1.0, "label_dropout": False}
    made = SalUn.create(options)
    trainer = trainer_of(made)
    made.setup(trainer)
    made.saliency.mask.fill_(True)
    forget = trainer.batch("forget", 0)
    other = made.other_classes(trainer, forget, 0)
    with torch.no_grad():
        aim = trainer.model.eps(forget.x_t, forget.t, other)
    expected = slope(trainer.model, forget.x_t, forget.y, aim)
    expected += 0.4 * matching(trainer.model, trainer.batch("retain", 0))
    made.update(trainer, 0)
    torch.testing.assert_close(gradient(trainer), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("forgotten", "expected"),
    [((3,), {3: 4}), ((4,), {4: 0}), ((1, 2), {1: 3, 2: 3}), ((0, 3, 4), {0: 1, 3: 1, 4: 1})],
)
def test_next_class(forgotten, expected):
    """(c_f + 1) mod K, and on past the forgotten ones."""
    made = SalUn.create({"target": "next_class", "label_dropout": False})
    trainer = trainer_of(made, forgotten)
    forget = trainer.batch("forget", 0)
    other = made.other_classes(trainer, forget, 0)
    assert other.tolist() == [expected[int(c)] for c in forget.y]


def test_random_class():
    """Each item has a draw of its own among the kept classes, all equally likely."""
    made = SalUn.create({"target": "random_class", "label_dropout": False})
    trainer = trainer_of(made, (0, 3), batch_size=500)
    steps = [made.other_classes(trainer, trainer.batch("forget", s), s) for s in range(8)]
    share = torch.bincount(torch.cat(steps), minlength=K) / 4000
    expected = torch.tensor([0, 1 / 3, 1 / 3, 0, 1 / 3])
    torch.testing.assert_close(share, expected, rtol=0, atol=0.03)
    assert not torch.equal(steps[0], steps[1])


@pytest.mark.parametrize(("dropout", "rate"), [(True, 0.3), ("auto", 0.3), (False, 0.0)])
def test_released_label_dropout(dropout, rate):
    """c_f and c' are dropped at the rate, independently of each other; else never."""
    made = SalUn.create({"label_dropout": dropout})
    trainer = trainer_of(made, batch_size=4000, label_dropout_prob=0.3)
    told_classes = []
    original = trainer.model.eps
    trainer.model.eps = lambda x, t, c: told_classes.append(c) or original(x, t, c)
    forget, retain = trainer.batch("forget", 0), trainer.batch("retain", 0)
    made.forget_loss(trainer, forget, retain, 0)
    null = torch.stack([c == K for c in told_classes]).double()
    torch.testing.assert_close(null.mean(1), torch.full((2,), rate).double(), rtol=0, atol=0.03)
    assert float(torch.cov(null)[0, 1]) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("option", "w"), [(0.0, 0.0), (3.0, 3.0), ("auto", 2.0)])
def test_mask_of_guided_outputs(option, w):
    """G is the clipped gradient of |(1 + w) eps_c - w eps_null - eps|^2/D, written out."""
    made = SalUn.create({"mask_guidance": option})
    trainer = trainer_of(made, batch_size=12)
    made.setup(trainer)
    assert made.num_preparation_steps(trainer) == 1
    batch = trainer.noised(trainer.items("forget")[:12], 0, "saliency")
    with torch.no_grad():
        r = Conditioned(trainer.model, batch.y, w).eps(batch.x_t, batch.t) - batch.eps
    r = 2 * r.double() / r.numel()
    of_W = torch.zeros(K + 1, 2).double()
    of_W[3], of_W[K] = (1 + w) * r.sum(0), -w * r.sum(0)
    expected = torch.cat([(r * batch.x_t.double()).sum(0), of_W.reshape(-1)])
    assert expected.norm() > 1
    made.preparation_step(trainer, 0)
    torch.testing.assert_close(
        made.saliency.total.double(), expected / expected.norm(), rtol=1e-4, atol=1e-6
    )


# Both --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "with_classes", "without"),
    [(EraseDiff, "relabel", "uniform"), (SalUn, "next_class", "random_image")],
)
def test_the_model_chooses_the_target(cls, with_classes, without):
    """Relabelling where there are classes, else the label-free target, unless it is named."""
    assert cls.create().target(told()) == with_classes
    assert cls.create().target(unconditional()) == without
    assert cls.create({"target": without}).target(told()) == without


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (EraseDiff, {"target": "relabel"}),
        (SalUn, {"target": "random_class"}),
        (SalUn, {"target": "next_class"}),
        (SalUn, {"mask_guidance": 2.0}),
        (SalUn, {"label_dropout": True}),
    ],
)
def test_what_needs_classes_is_refused(cls, options):
    """Of an unconditional model the option is named, and the way to another one."""
    made = cls.create(options)
    (name,) = options
    reason = made.skip(unconditional(), "finetune")
    assert name in reason
    assert "--conditional" in reason
    assert made.skip(told(), "finetune") is None
    assert cls.create().skip(unconditional(), "finetune") is None


def test_refusal_comes_before_training():
    """The plan of such a cell says so; it has trained nothing."""
    cell = {"dataset": "digits", "forget": ["3"], "backbone": "ddpm", "method": "erasediff"}
    cell |= {"params": {"target": "relabel"}}
    assert "target=relabel" in resolve(RunSpec(**cell)).skipped.reason
    assert resolve(RunSpec(**cell, conditional=True)).skipped is None


@pytest.mark.parametrize("target", ["auto", "relabel"])
def test_faithful_noise_has_no_label(target):
    """The released noising is of the noise targets."""
    made = EraseDiff.create({"target": target, "faithful": True})
    assert "faithful=true" in made.skip(told(), "finetune")
    assert EraseDiff.create({"target": "uniform", "faithful": True}).skip(told(), "x") is None


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (EraseDiff, {"target": "relabel", "rule": "cosine"}),
        (SalUn, {"target": "next_class", "label_dropout": True, "mask_guidance": 2.0}),
        (SalUn, {"target": "random_class"}),
    ],
)
def test_conformance(cls, options):
    """On class-conditional models: forget sets differ, resume is exact, nothing leaks."""
    check_method(cls, options)
