"""Concept Ablation's loss against an independent derivation, its items, its conformance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from text_toy import trainer_of

from msgm_bench import Conditioned, OptionError, ProbabilityFlow
from msgm_bench.testing import check_method
from msgm_bench.testing.toy_text import toy_captions, toy_text_model
from msgm_bench.testing.toys import toy_model
from msgm_text.methods.ca import CA

SMALL = {"num_items": 12, "nfe": 5, "guidance": 1.0}


def ready(options=None, **trainer):
    """The method and its session, prepared; the model is no longer the base."""
    method = CA.create(SMALL | (options or {}))
    session = trainer_of(method, **trainer)
    method.setup(session)
    for unit in range(method.num_preparation_steps(session)):
        method.preparation_step(session, unit)
    with torch.no_grad():
        for parameter in session.parameters:
            parameter.mul_(1.5)
    return method, session


def anchored(session, captions):
    """Embeddings of the captions' texts with ``middle`` for ``top``."""
    texts = [session.prompt_book.texts[c].replace("top", "middle") for c in captions.tolist()]
    return session.model.prompts.embed_texts(texts)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v"])
@pytest.mark.parametrize("target", ["model", "noise"])
def test_loss_is_the_formula(prediction_type, target):
    """Mean squares of outputs, written out; v networks are compared in v, and targets are fixed."""
    method, session = ready({"target": target})
    model = session.model
    model.prediction_type = prediction_type
    batch = method.anchor_batch(session, 0)
    a, sigma = (v[:, None, None, None] for v in model.process.marginal(batch.t))

    def output(hidden):
        """What the network makes of x_t."""
        return model.network(batch.x_t, batch.t, hidden)

    own = output(model.prompts.embed(batch.y))
    wanted = output(anchored(session, batch.y)).detach()
    if target == "noise":
        v = a * batch.eps - sigma * batch.x0
        wanted = batch.eps if prediction_type == "epsilon" else v
    expected = (own - wanted).square().mean()
    actual = method.ablation_loss(session, batch)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)
    names = ["unet.attn2.to_k.weight", "unet.attn2.to_v.weight"]
    weights = [model.network.get_parameter(name) for name in names]
    gradients = (torch.autograd.grad(loss, weights) for loss in (actual, expected))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_step_descends_both_terms():
    """The gradient of L_f + lambda L_r, with L_r of the retain batch, in keys and values alone."""
    method, session = ready({"retain_weight": 0.3})
    model, batch = session.model, method.anchor_batch(session, 2)
    names = [name for name, p in model.network.named_parameters() if p.requires_grad]
    assert names == ["unet.attn2.to_k.weight", "unet.attn2.to_v.weight"]
    retain = session.batch("retain", 2)
    L_r = (model.eps(retain.x_t, retain.t, retain.condition) - retain.eps).square().mean()
    loss = method.ablation_loss(session, batch) + 0.3 * L_r
    expected = torch.autograd.grad(loss, session.parameters)
    method.update(session, 2)
    for parameter, gradient in zip(session.parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_items_are_the_bases_drawings_of_anchors():
    """What Heun's method draws of the guided base for the anchors' texts, captions in turn."""
    method, session = ready(batch_size=5)
    y = torch.tensor(session.forget_labels * 6)
    assert torch.equal(method.items.y, y)
    guided = Conditioned(session.base, anchored(session, y), 1.0)
    noise = session.noise("generated", count=12)
    with torch.no_grad():
        x = ProbabilityFlow().with_nfe(5)(guided.eps_fn, guided.process, guided.shape, noise).x
    expected = x.clamp(*session.model.codec.bounds)
    torch.testing.assert_close(method.items.x, expected, rtol=1e-4, atol=1e-4)


def test_an_anchor_of_the_options():
    """It takes the place of the prompts' own, for drawing and for matching."""
    method, session = ready({"anchor": "low"})
    book = session.prompt_book
    expected = [text.replace("top", "low") for text in book.texts]
    assert method.anchored.texts == method.items.prompts.texts == (*expected, "")
    bare = replace(toy_captions(), prompts=replace(book, anchors={}))
    with pytest.raises(OptionError, match="top"):
        CA.create().check_data(bare, (0,))
    CA.create({"anchor": "low"}).check_data(bare, (0,))


def test_other_models_are_skipped_and_other_parts_trained():
    """Classes have no anchor; weights=all trains all, and auto what is published."""
    assert "--text" in CA.create().skip(toy_model(3), "finetune")
    model = toy_text_model()
    assert CA.create().skip(model, "finetune") is None
    assert CA.create().part(model, "finetune") == "cross_kv"
    assert CA.create({"weights": "all"}).part(model, "finetune") == "all"


def test_published_budget():
    """100 steps of 8 items at 2e-6 an item, constant, clipped at 1, without an average."""
    budget = CA.presets["paper"]["finetuning"]
    assert (budget["steps"], budget["batch_size"]) == (100, 8)
    assert budget["learning_rate"] == pytest.approx(8 * 2e-6)


def test_conforms():
    """Killed while the base draws or later, it ends with the same bits; D_g matters."""
    check_method(CA, SMALL)
