"""Prompts as conditions, and networks that predict v."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from msgm_bench import (
    Batch,
    Conditioned,
    IdentityCodec,
    IncompatibleError,
    Model,
    OptionError,
    VarianceExploding,
    VariancePreserving,
    derive_seed,
    dsm_loss,
)
from msgm_bench.testing.toy_text import toy_text_model


@pytest.fixture
def model():
    """A text-to-image model of a few hundred weights."""
    torch.manual_seed(0)
    return toy_text_model().eval()


def inputs(model, n):
    """Noised items, times and prompts."""
    generator = torch.Generator().manual_seed(derive_seed("inputs"))
    x = torch.randn(n, *model.shape, generator=generator)
    t = torch.rand(n, generator=generator) * 0.9 + 0.05
    return x, t, torch.arange(n) % (model.conditioning.count + 1)


def test_an_index_stands_for_its_embedding(model):
    """eps of a prompt's index is eps of its text's embedding, with and without a memo."""
    x, t, c = inputs(model, 12)
    texts = [model.prompts.texts[i] for i in c]
    with torch.no_grad():
        expected = model.eps(x, t, model.prompts.embed_texts(texts))
        assert torch.allclose(model.eps(x, t, c), expected, atol=1e-6)
        assert torch.equal(model.eps(x, t, c), model.eps(x, t, c))
    assert torch.allclose(model.eps(x, t, c), expected, atol=1e-6)  # gradients reach the encoder


def test_no_condition_is_the_empty_prompt(model):
    """The null condition is the index behind the last prompt, and its text is empty."""
    x, t, _ = inputs(model, 5)
    assert model.prompts.texts[model.conditioning.count] == ""
    empty = model.prompts.embed_texts([""] * 5)
    assert torch.allclose(model.eps(x, t), model.eps(x, t, empty), atol=1e-6)


def test_a_memo_follows_the_encoder(model):
    """After a change of the encoder's weights, embeddings are the new encoder's."""
    index = torch.tensor([0, 3])
    with torch.no_grad():
        before = model.prompts.embed(index)
        for parameter in model.prompts.encoder.parameters():
            parameter.add_(0.1)
        after = model.prompts.embed(index)
        expected = model.prompts.embed_texts([model.prompts.texts[i] for i in index])
    assert not torch.allclose(before, after)
    assert torch.allclose(after, expected, atol=1e-6)


def test_a_copy_of_a_model_has_an_encoder_of_its_own(model):
    """The prompts of a deep copy are embedded by the copy's encoder; the original keeps its."""
    index = torch.tensor([1])
    twin = copy.deepcopy(model)
    assert twin.prompts.encoder is twin.network.text_encoder
    with torch.no_grad():
        before = model.prompts.embed(index)
        twin.network.text_encoder.requires_grad_(False)
        for parameter in twin.network.text_encoder.parameters():
            parameter.mul_(2)
        assert torch.equal(model.prompts.embed(index), before)
        assert not torch.allclose(twin.prompts.embed(index), before)


def test_embeddings_depend_on_no_batch(model):
    """A prompt's embedding is the same alone and among others, to the bit."""
    count = model.conditioning.count
    with torch.no_grad():
        whole = model.prompts.embed(torch.arange(count))
        alone = torch.cat([model.prompts.embed(torch.tensor([i])) for i in range(count)])
    assert torch.equal(whole, alone)


def test_guidance_of_embeddings_and_weights_of_items(model):
    """Guided eps of indices and of embeddings agree; w may differ from item to item."""
    x, t, c = inputs(model, 6)
    w = torch.tensor([0.0, 1.0, 2.0, 0.5, 3.0, 0.0])
    with torch.no_grad():
        by_index = Conditioned(model, c, w).eps(x, t)
        by_embedding = Conditioned(model, model.prompts.embed(c), w).eps(x, t)
        for i, weight in enumerate(w.tolist()):
            part = slice(i, i + 1)
            single = Conditioned(model, c[part], weight).eps(x[part], t[part])
            assert torch.allclose(by_index[part], single, atol=1e-5)
    assert torch.allclose(by_index, by_embedding, atol=1e-6)


def test_wrong_conditions(model):
    """A prompt that is not in the table, and prompts of a model without any, are errors."""
    x, t, c = inputs(model, 3)
    with pytest.raises(OptionError, match="conditions from"):
        model.eps(x, t, c + 100)
    with pytest.raises(OptionError, match="is not one of the model's"):
        model.prompts.indices(["a purple light"])
    plain = Model(nn.Identity(), VariancePreserving(), IdentityCodec(), (2,))
    with pytest.raises(IncompatibleError, match="takes no prompt"):
        plain.prompts  # noqa: B018
    with pytest.raises(OptionError, match="no such part"):
        model.part("cros")


class Velocity(nn.Module):
    """v = a eps - sigma x0 of a point mass at ``x0``, exactly: eps = (x_t - a x0)/sigma."""

    def __init__(self, process, x0):
        super().__init__()
        self.process, self.x0 = process, x0
        self.offset = nn.Parameter(torch.zeros_like(x0))

    def forward(self, x_t, t, condition=None):
        """v of ``x_t``."""
        a, sigma = (v[:, None] for v in self.process.marginal(t))
        eps = (x_t - a * self.x0) / sigma
        return a * eps - sigma * self.x0 + self.offset


def test_v_prediction_is_eps_prediction():
    """Of an exact v the model makes the exact eps, at every time."""
    process, x0 = VariancePreserving(), torch.tensor([0.3, -1.2])
    model = Model(Velocity(process, x0), process, IdentityCodec(), (2,), prediction_type="v")
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(0.01, 1.0, 50)
    eps = torch.randn(50, 2, generator=generator)
    x_t = process.perturb(x0.expand(50, 2), t, eps)
    assert torch.allclose(model.eps(x_t, t), eps, atol=1e-4)


def test_the_weighted_loss_is_the_loss_of_v():
    """dsm_loss of a v-predicting network is E |v_hat - v|^2 / D, in value and gradient."""
    process, x0 = VariancePreserving(), torch.tensor([0.3, -1.2])
    network = Velocity(process, x0)
    with torch.no_grad():
        network.offset += torch.tensor([0.5, -0.25])
    model = Model(network, process, IdentityCodec(), (2,), prediction_type="v")
    generator = torch.Generator().manual_seed(1)
    t, eps = torch.linspace(0.05, 0.95, 40), torch.randn(40, 2, generator=generator)
    points = x0.expand(40, 2)
    x_t = process.perturb(points, t, eps)
    loss = dsm_loss(model, Batch(points, t, eps, x_t, torch.zeros(40)))
    a, sigma = (v[:, None] for v in process.marginal(t))
    direct = (network(x_t, t) - (a * eps - sigma * points)).square().mean()
    assert loss.item() == pytest.approx(direct.item(), rel=1e-4)
    assert loss.item() == pytest.approx((0.5**2 + 0.25**2) / 2, rel=1e-4)
    (first,) = torch.autograd.grad(loss, network.offset)
    (second,) = torch.autograd.grad(direct, network.offset)
    assert torch.allclose(first, second, rtol=1e-3)


def test_eps_prediction_has_weight_one():
    """The loss of a network that predicts the noise is not weighted."""
    model = Model(nn.Identity(), VarianceExploding(), IdentityCodec(), (2,))
    assert torch.equal(model.loss_weight(torch.rand(7)), torch.ones(7))
