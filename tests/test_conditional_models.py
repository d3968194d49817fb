"""Models that are told a class: what they take, what they refuse, and guided ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from msgm_bench import (
    Batch,
    Conditioned,
    IdentityCodec,
    IncompatibleError,
    Labels,
    Model,
    OptionError,
    VariancePreserving,
    dsm_loss,
    guided,
)


class Told(nn.Module):
    """eps_hat = x_t + c for the class c, or x_t where there is none; counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x_t, t, condition=None):
        """The sum."""
        self.calls.append(len(x_t))
        return x_t if condition is None else x_t + condition[:, None]


def model(classes=3):
    """Points in the plane."""
    return Model(Told(), VariancePreserving(), IdentityCodec(), (2,), classes and Labels(classes))


X, T = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.full((4,), 0.5)
Y = torch.tensor([0, 1, 2, 3])


def test_no_condition_is_the_null_class():
    """A class-conditional model takes K for None; an unconditional one is told nothing."""
    assert torch.equal(model().eps(X, T), X + 3)
    assert torch.equal(model().eps(X, T, Y), X + Y[:, None])
    assert torch.equal(model(None).eps(X, T), X)
    assert torch.equal(model().eps_fn(X, T), X + 3)
    assert torch.equal(model().null(2), torch.tensor([3, 3]))


def test_the_score_is_that_of_the_class():
    """s = -eps_hat(x, t, c) / sigma(t)."""
    _, sigma = VariancePreserving().marginal(T)
    torch.testing.assert_close(model().score(X, T, Y), -(X + Y[:, None]) / sigma[:, None])


@pytest.mark.parametrize(
    ("classes", "condition", "error", "said"),
    [
        (None, Y, IncompatibleError, "a class for an unconditional model"),
        (3, torch.tensor([0, 1, 2, 4]), OptionError, "conditions from 0 to 4 for a model of 3"),
        (3, torch.tensor([-1, 1, 2, 3]), OptionError, "0 to 2, and 3 for the null condition"),
        (3, Y[:2], OptionError, r"shape \(2,\) for 4 items"),
        (3, Y[:, None], OptionError, "one condition an item"),
    ],
)
def test_wrong_conditions(classes, condition, error, said):
    """What is no class of the model is refused, with what would be one."""
    with pytest.raises(error, match=said):
        model(classes).eps(X, T, condition)


def test_an_unconditional_model_has_no_null_class():
    """Asking for it is an error that names the way to a model that has one."""
    with pytest.raises(IncompatibleError, match="--conditional"):
        model(None).null(1)


@pytest.mark.parametrize("w", [0.0, 2.0])
def test_conditioned_models_are_guided(w):
    """Its eps is (1 + w) eps(c) - w eps(null), in one call of the network, or a plain one."""
    inner = model()
    found = Conditioned(inner, Y, w).eps_fn(X, T)
    assert inner.network.calls == [8 if w else 4]
    torch.testing.assert_close(found, guided(inner.eps(X, T, Y), inner.eps(X, T), w))
    torch.testing.assert_close(found, X + (1 + w) * Y[:, None] - w * 3)


def test_conditioned_models_are_models():
    """Score, shape, process and further conditions work as on the model within."""
    outer = Conditioned(model(), Y, 1.0)
    _, sigma = VariancePreserving().marginal(T)
    torch.testing.assert_close(outer.score(X, T), -outer.eps(X, T) / sigma[:, None])
    torch.testing.assert_close(outer.eps(X, T, outer.null(4)), X + 3)
    assert (outer.shape, outer.dim, outer.conditioning.count) == ((2,), 2, 3)


def test_dsm_loss_tells_the_condition():
    """The loss is that of the batch's condition, not of its labels."""
    condition = torch.tensor([0, 3, 2, 3])
    eps = X + condition[:, None]
    batch = Batch(X, T, eps, X, Y, condition)
    assert float(dsm_loss(model(), batch)) == 0
    assert float(dsm_loss(model(), Batch(X, T, eps, X, Y, Y))) > 0
    assert float(dsm_loss(model(None), Batch(X, T, X, X, Y))) == 0
