"""SalUn's mask by rank, its targets and its order of clipping, masking and Adam."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from toy_models import (
    budget,
    clouds,
    dsm_gradient,
    ignore_progress,
    input_and_target,
    trainer_of,
    weights,
)

from msgm_bench import Examples, IdentityCodec, Model, OptionError, Training, VariancePreserving
from msgm_bench.testing import check_method
from msgm_bench.training import NoisedBatches, Runtime, Trainer
from msgm_builtin.methods.salun import SalUn
from msgm_builtin.methods.salun_mask import top_mask


def oracle(score, count):
    """Positions of the ``count`` largest, the first of equals first: NumPy's lexicographic sort."""
    score = np.asarray(score)
    return set(np.lexsort((np.arange(len(score)), -score))[:count].tolist())


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("levels", [1, 3, 10**6])
def test_top_is_the_stated_fraction_by_rank(fraction, size, levels):
    """Exactly ceil(fraction P) entries, the largest; ties, many or all, go to the first."""
    score = torch.randint(levels, (size,), generator=torch.Generator().manual_seed(size)).float()
    mask = top_mask(score, fraction)
    count = math.ceil(fraction * size)
    assert int(mask.sum()) == count
    assert set(torch.nonzero(mask).flatten().tolist()) == oracle(score, count)


@pytest.mark.parametrize(("fraction", "size", "count"), [(0.55, 100, 55), (0.07, 100, 7)])
def test_the_fraction_is_the_number_that_was_written(fraction, size, count):
    """0.55 of 100 are 55, though 0.55 * 100 is a little more in floating point."""
    assert fraction * size > count
    assert int(top_mask(torch.arange(float(size)), fraction).sum()) == count


def test_ties_by_hand():
    """Half of (2, 5, 2, 2, 5, 1): both fives, and the first two."""
    mask = top_mask(torch.tensor([2.0, 5.0, 2.0, 2.0, 5.0, 1.0]), 0.5)
    assert mask.tolist() == [True, True, False, False, True, False]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_mask_is_of_the_sum_of_clipped_gradients(reduction, tmp_path):
    """One pass through D_f in batches of 8, 8 and 3; each gradient written out, clipped to 1.

    The loss is summed over the two dimensions or is their mean, and then clipped.
    """
    method = SalUn.create({"mask_fraction": 0.5, "mask_reduction": reduction})
    D = 2 if reduction == "sum" else 1
    trainer = trainer_of(method, clouds({"retain": 20, "forget": 19}))
    method.setup(trainer)
    assert method.num_preparation_steps(trainer) == 3
    items, total, norms = trainer.items("forget"), torch.zeros(6, dtype=torch.float64), []
    for unit in range(3):
        batch = trainer.noised(items[slice(8 * unit, 8 * unit + 8)], unit, "saliency")
        g = D * dsm_gradient(trainer, *input_and_target(batch))
        norms.append(float(g.norm()))
        total += g * min(1.0, 1 / norms[-1])
        method.preparation_step(trainer, unit)
    assert max(norms) > 1  # the clipping matters
    torch.testing.assert_close(method.saliency.total.double(), total, rtol=1e-5, atol=1e-6)
    chosen = torch.nonzero(method.saliency.mask).flatten().tolist()
    assert set(chosen) == oracle(total.abs(), 3)


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_unmasked_weights_stay(fraction, tmp_path):
    """After a whole training the entries outside of the mask have their bits, the others not."""
    method = SalUn.create({"mask_fraction": fraction})
    trainer = trainer_of(method, steps=20)
    before = weights(trainer)
    trainer.run(tmp_path, ignore_progress)
    mask, after = method.saliency.mask, weights(trainer)
    assert int(mask.sum()) == 6 * fraction
    assert torch.equal(after[~mask], before[~mask])
    assert (after != before)[mask].all()


def test_clip_mask_adam():
    """The gradient of L_f + alpha L_r is written out, clipped by its whole norm, then masked."""
    method = SalUn.create({"target": "noise", "alpha": 0.4})
    trainer = trainer_of(method, max_grad_norm=0.05)
    method.setup(trainer)
    mask = torch.tensor([True, False, True, False, False, True])
    method.saliency.mask.copy_(mask)
    retain, forget = trainer.batch("retain", 0), trainer.batch("forget", 0)
    aim = trainer.batch("forget", 0, "target").eps
    g = dsm_gradient(trainer, forget.x_t, aim)
    g += 0.4 * dsm_gradient(trainer, *input_and_target(retain))
    method.update(trainer, 0)
    actual = torch.cat([p.grad.reshape(-1) for p in trainer.parameters]).double()
    torch.testing.assert_close(
        actual, torch.where(mask, 0.05 * g / g.norm(), 0.0), rtol=1e-4, atol=1e-7
    )


def test_random_image_is_where_it_leads():
    """Denoised by eps', x_t is an image of D_g wherever eps' was not cut off."""
    method = SalUn.create({"target_clip_value": 2.0})
    trainer = trainer_of(method, process=VariancePreserving(), batch_size=64)
    retain, forget = trainer.batch("retain", 0), trainer.batch("forget", 0)
    eps = method.relabel_target(trainer, forget, retain, 0)
    a, sigma = (c[:, None] for c in trainer.model.process.marginal(forget.t))
    x0_hat = (forget.x_t - sigma * eps) / a
    inside = eps.abs() < 2.0
    assert 0.2 < float(inside.float().mean()) < 1
    torch.testing.assert_close(x0_hat[inside], retain.x0[inside], rtol=1e-3, atol=1e-3)
    assert (eps.abs() <= 2.0).all()


def test_noise_is_independent_of_what_is_seen():
    """The target noise is Gaussian and uncorrelated with the noise of x_t."""
    method = SalUn.create({"target": "noise"})
    trainer = trainer_of(method, batch_size=4000)
    retain, forget = trainer.batch("retain", 0), trainer.batch("forget", 0)
    eps = method.relabel_target(trainer, forget, retain, 0)
    pair = torch.stack([eps.flatten(), forget.eps.flatten()])
    torch.testing.assert_close(torch.cov(pair), torch.eye(2), rtol=0, atol=0.08)


def test_ascent_climbs(tmp_path):
    """target=ascent descends -L_DSM(D_f) + alpha L_r."""
    method = SalUn.create({"target": "ascent", "alpha": 0.5, "mask_fraction": 1.0})
    trainer = trainer_of(method)
    method.setup(trainer)
    method.saliency.mask.fill_(True)
    g = 0.5 * dsm_gradient(trainer, *input_and_target(trainer.batch("retain", 0)))
    g -= dsm_gradient(trainer, *input_and_target(trainer.batch("forget", 0)))
    method.update(trainer, 0)
    actual = torch.cat([p.grad.reshape(-1) for p in trainer.parameters]).double()
    torch.testing.assert_close(actual, g, rtol=1e-4, atol=1e-5)


def test_released_reduction():
    """1e-3 times the sum over D is 1e-3 D times the mean; on CIFAR-10 that is alpha = 3.07."""
    losses = []
    for options in (
        {"alpha": 0.25, "retain_reduction": "sum"},
        {"alpha": 0.5, "retain_reduction": "mean"},  # D = 2
    ):
        method = SalUn.create(options)
        trainer = trainer_of(method)
        method.setup(trainer)
        losses.append(float(method.update(trainer, 0)))
    assert losses[0] == losses[1]
    assert SalUn.create().options.alpha == pytest.approx(1e-3 * 3 * 32 * 32, abs=5e-3)


@pytest.mark.parametrize("preset", ["full", "paper"])
def test_published_budget(preset):
    """Steps, batch, learning rate and average of the released configuration, and no warm-up."""
    actual = budget("salun", preset)
    assert (actual.steps, actual.batch_size, actual.learning_rate) == (1000, 128, 1e-4)
    assert (actual.ema_decay, actual.max_grad_norm, actual.warmup_steps, actual.lr_schedule) == (
        0.0,
        1.0,
        0,
        "constant",
    )
    assert SalUn.presets[preset]["method"] == {"alpha": 1e-3, "retain_reduction": "sum"}
    c = SalUn.create(SalUn.presets[preset]["method"]).options
    assert (c.mask_guidance, c.mask_reduction, c.label_dropout) == ("auto", "sum", "auto")
    quick = SalUn.create(SalUn.presets["quick"]["method"]).options
    assert (quick.mask_guidance, quick.mask_reduction, quick.label_dropout) == (0, "mean", False)


class Wide(nn.Module):
    """eps_hat = b, whatever x_t."""

    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(torch.full((64,), 0.2))

    def forward(self, x_t, t, condition=None):
        """eps_hat."""
        return self.b.expand_as(x_t)


def wide(method):
    """The trainer of points in 64 dimensions, whose D_f comes in batches of 8, 8, 8 and 2."""
    x = torch.randn(26, 64, generator=torch.Generator().manual_seed(1))
    items = Examples(x, torch.zeros(26, dtype=torch.long))
    model = Model(Wide(), VariancePreserving(), IdentityCodec(), (64,))
    budget = Training(steps=4, batch_size=8, learning_rate=1e-2, ema_decay=0.0, max_grad_norm=1e9)
    noised_batches = NoisedBatches({"retain": items, "forget": items}, model, 0, 8)
    return Trainer(model, method, noised_batches, budget, Runtime(torch.device("cpu")), 0)


def test_batches_weigh_the_same_in_the_released_mask():
    """Of many dimensions the summed gradients are all longer than 1: none weighs more.

    |D g_i| > 1 for every batch, while the means differ in length and are not clipped.
    """
    networks = {}
    for reduction in ("sum", "mean"):
        method = SalUn.create({"mask_reduction": reduction})
        trainer = wide(method)
        method.setup(trainer)
        lengths, previous = [], method.saliency.total.clone()
        for unit in range(method.num_preparation_steps(trainer)):
            method.preparation_step(trainer, unit)
            lengths.append(float((method.saliency.total - previous).norm()))
            previous = method.saliency.total.clone()
        networks[reduction] = lengths
    assert networks["sum"] == pytest.approx([1.0] * len(networks["sum"]), rel=1e-5)
    assert max(networks["mean"]) < 1
    assert max(networks["mean"]) > 1.2 * min(networks["mean"])


@pytest.mark.parametrize(
    ("option", "value"),
    [("mask_fraction", 0), ("mask_fraction", 1.1), ("alpha", -1), ("target_clip_value", 0)],
)
def test_bad_options_are_named(option, value):
    """An option out of range is refused by name."""
    with pytest.raises(OptionError, match=f"option '{option}' of salun"):
        SalUn.create({option: value})


@pytest.mark.parametrize("target", ["random_image", "noise", "ascent"])
def test_conformance(target):
    """Forget sets differ, resume is exact in the pass for the mask and after it, nothing leaks."""
    check_method(SalUn, {"target": target})
