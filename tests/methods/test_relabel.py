"""EraseDiff and SalUn on class-conditional models: forgotten classes become other ones."""

from __future__ import annotations

import pytest
import torch
from conditional_toy import K, conditional_model, dsm_gradient, squared_error_gradient, trainer_of
from toy_models import recorded_gradients

from msgm_bench import Conditioned, Model, RunSpec
from msgm_bench.experiment.plan import resolve
from msgm_bench.testing import check_method
from msgm_builtin.methods.erasediff import EraseDiff
from msgm_builtin.methods.relabel import random_retain_class
from msgm_builtin.methods.salun import SalUn


def unconditional():
    """An unconditional model; only ``classes`` is read."""
    model = conditional_model()
    return Model(model.network, model.process, model.codec, (2,))


def gradient(trainer):
    """What the last step went down."""
    return torch.cat([p.grad.reshape(-1) for p in trainer.parameters]).double()


# EraseDiff ---------------------------------------------------------------------------------


@pytest.mark.parametrize("inner_steps", [0, 2])
def test_erasediff_is_the_formula(inner_steps):
    """grad L_r + lambda grad |eps_hat(c_f) - sg eps_hat(c')|^2/D: W_c' of L_f stays where it is."""
    method = EraseDiff.create({"forget_weight": 0.3, "inner_steps": inner_steps})
    trainer = trainer_of(method)
    forget, other = (
        trainer.batch("forget", 0, "outer"),
        int(random_retain_class(trainer, 0, "outer")),
    )
    with torch.no_grad():
        aim = trainer.model.eps(forget.x_t, forget.t, torch.full((8,), other))
    g_f = squared_error_gradient(trainer.model, forget.x_t, forget.y, aim)
    expected = dsm_gradient(trainer.model, trainer.batch("retain", 0)) + 0.3 * g_f
    W_c, W_f = (g_f[2:].reshape(-1, 2)[c] for c in (other, 3))
    assert not W_c.any()
    assert W_f.any()
    recorded = recorded_gradients(trainer)
    method.update(trainer, 0)
    torch.testing.assert_close(recorded[-1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", ["relabel", "uniform"])
def test_erasediff_never_drops_the_forgotten_class(target):
    """L_f is of c_f, never of the null class, however often labels are dropped."""
    method = EraseDiff.create({"target": target})
    trainer = trainer_of(method, label_dropout_prob=1.0)
    batch, _ = method.forget_batch_and_target(trainer, 0, "outer")
    assert trainer.batch("forget", 0, "outer").condition.tolist() == [K] * 8
    assert torch.equal(batch.condition, batch.y)


@pytest.mark.parametrize("dropped", ["retain", "forget"])
def test_erasediff_drops_labels_of_one_split(dropped):
    """The network sees the null class for all of one split, and the true classes of the other."""
    method = EraseDiff.create({"label_dropout_split": dropped, "inner_steps": 0})
    trainer = trainer_of(method, label_dropout_prob=1.0)
    recorded = []
    original = trainer.model.eps
    trainer.model.eps = lambda x, t, c: recorded.append(c) or original(x, t, c)
    other = int(random_retain_class(trainer, 0, "outer"))
    method.update(trainer, 0)
    teacher, retain, forget = recorded
    truth = {
        "retain": trainer.batch("retain", 0).y,
        "forget": trainer.batch("forget", 0, "outer").y,
    }
    for split, c in (("retain", retain), ("forget", forget)):
        expected = torch.full_like(c, K) if split == dropped else truth[split]
        assert torch.equal(c, expected)
    assert set(teacher.tolist()) == {other}


@pytest.mark.parametrize("forget_labels", [(0,), (3,), (1, 4)])
def test_erasediff_draws_among_the_kept_classes(forget_labels):
    """c' is each kept class equally often, and no forgotten one."""
    trainer = trainer_of(EraseDiff.create(), forget_labels)
    classes = torch.cat([random_retain_class(trainer, step, "outer") for step in range(2000)])
    share = torch.bincount(classes, minlength=K) / 2000
    is_retain = torch.tensor([c not in forget_labels for c in range(K)])
    torch.testing.assert_close(share, is_retain / is_retain.sum(), rtol=0, atol=0.05)
    assert not share[~is_retain].any()


# SalUn -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["random_class", "next_class"])
def test_salun_is_the_formula(target):
    """grad |eps_hat(c_f) - sg eps_hat(c')|^2/D + alpha grad L_r, with c' of each item."""
    options = {"target": target, "alpha": 0.4, "mask_fraction": 1.0, "label_dropout": False}
    method = SalUn.create(options)
    trainer = trainer_of(method)
    method.setup(trainer)
    method.saliency.mask.fill_(True)
    forget = trainer.batch("forget", 0)
    other = method.other_classes(trainer, forget, 0)
    with torch.no_grad():
        aim = trainer.model.eps(forget.x_t, forget.t, other)
    expected = squared_error_gradient(trainer.model, forget.x_t, forget.y, aim)
    expected += 0.4 * dsm_gradient(trainer.model, trainer.batch("retain", 0))
    method.update(trainer, 0)
    torch.testing.assert_close(gradient(trainer), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("forget_labels", "expected"),
    [((3,), {3: 4}), ((4,), {4: 0}), ((1, 2), {1: 3, 2: 3}), ((0, 3, 4), {0: 1, 3: 1, 4: 1})],
)
def test_next_class(forget_labels, expected):
    """(c_f + 1) mod K, and on past the forgotten ones."""
    method = SalUn.create({"target": "next_class", "label_dropout": False})
    trainer = trainer_of(method, forget_labels)
    forget = trainer.batch("forget", 0)
    other = method.other_classes(trainer, forget, 0)
    assert other.tolist() == [expected[int(c)] for c in forget.y]


def test_random_class():
    """Each item has a draw of its own among the classes of D_g, all equally likely."""
    method = SalUn.create({"target": "random_class", "label_dropout": False})
    trainer = trainer_of(method, (0, 3), batch_size=500)
    steps = [method.other_classes(trainer, trainer.batch("forget", s), s) for s in range(8)]
    share = torch.bincount(torch.cat(steps), minlength=K) / 4000
    expected = torch.tensor([0, 1 / 3, 1 / 3, 0, 1 / 3])
    torch.testing.assert_close(share, expected, rtol=0, atol=0.03)
    assert not torch.equal(steps[0], steps[1])


@pytest.mark.parametrize(("dropout", "rate"), [(True, 0.3), ("auto", 0.3), (False, 0.0)])
def test_released_label_dropout(dropout, rate):
    """c_f and c' are dropped at the rate, independently of each other; else never."""
    method = SalUn.create({"label_dropout": dropout})
    trainer = trainer_of(method, batch_size=4000, label_dropout_prob=0.3)
    conditions = []
    original = trainer.model.eps
    trainer.model.eps = lambda x, t, c: conditions.append(c) or original(x, t, c)
    forget, retain = trainer.batch("forget", 0), trainer.batch("retain", 0)
    method.forget_loss(trainer, forget, retain, 0)
    null = torch.stack([c == K for c in conditions]).double()
    torch.testing.assert_close(null.mean(1), torch.full((2,), rate).double(), rtol=0, atol=0.03)
    assert float(torch.cov(null)[0, 1]) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("option", "w"), [(0.0, 0.0), (3.0, 3.0), ("auto", 2.0)])
def test_mask_of_guided_outputs(option, w):
    """G is the clipped gradient of |(1 + w) eps_c - w eps_null - eps|^2/D, written out."""
    method = SalUn.create({"mask_guidance": option})
    trainer = trainer_of(method, batch_size=12)
    method.setup(trainer)
    assert method.num_preparation_steps(trainer) == 1
    batch = trainer.noised(trainer.items("forget")[:12], 0, "saliency")
    with torch.no_grad():
        r = Conditioned(trainer.model, batch.y, w).eps(batch.x_t, batch.t) - batch.eps
    r = 2 * r.double() / r.numel()
    of_W = torch.zeros(K + 1, 2).double()
    of_W[3], of_W[K] = (1 + w) * r.sum(0), -w * r.sum(0)
    expected = torch.cat([(r * batch.x_t.double()).sum(0), of_W.reshape(-1)])
    assert expected.norm() > 1
    method.preparation_step(trainer, 0)
    torch.testing.assert_close(
        method.saliency.total.double(), expected / expected.norm(), rtol=1e-4, atol=1e-6
    )


# Both --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "with_classes", "without"),
    [(EraseDiff, "relabel", "uniform"), (SalUn, "next_class", "random_image")],
)
def test_the_model_chooses_the_target(cls, with_classes, without):
    """Relabelling where there are classes, else the label-free target, unless it is named."""
    assert cls.create().target(conditional_model()) == with_classes
    assert cls.create().target(unconditional()) == without
    assert cls.create({"target": without}).target(conditional_model()) == without


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
    method = cls.create(options)
    (name,) = options
    reason = method.skip(unconditional(), "finetune")
    assert name in reason
    assert "--conditional" in reason
    assert method.skip(conditional_model(), "finetune") is None
    assert cls.create().skip(unconditional(), "finetune") is None


def test_refusal_comes_before_training():
    """The plan of such a run has the reason; nothing is trained."""
    run = {"dataset": "digits", "forget": ["3"], "backbone": "ddpm", "method": "erasediff"}
    run |= {"params": {"target": "relabel"}}
    assert "target=relabel" in resolve(RunSpec(**run)).skipped.reason
    assert resolve(RunSpec(**run, conditional=True)).skipped is None


@pytest.mark.parametrize("target", ["auto", "relabel"])
def test_noise_in_input_has_no_label(target):
    """The released noising is of the noise targets."""
    method = EraseDiff.create({"target": target, "noise_in_input": True})
    assert "noise_in_input=true" in method.skip(conditional_model(), "finetune")
    assert (
        EraseDiff.create({"target": "uniform", "noise_in_input": True}).skip(
            conditional_model(), "x"
        )
        is None
    )


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (EraseDiff, {"target": "relabel", "lambda_rule": "cosine"}),
        (SalUn, {"target": "next_class", "label_dropout": True, "mask_guidance": 2.0}),
        (SalUn, {"target": "random_class"}),
    ],
)
def test_conformance(cls, options):
    """On class-conditional models: forget sets differ, resume is exact, nothing leaks."""
    check_method(cls, options)
