"""What methods of classes do with prompts: anchors, captions of D_g, parts of the network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from text_toy import trainer_of

from msgm_bench import Examples, OptionError, StorageError, UsageError
from msgm_bench.testing.toy_text import toy_captions, toy_text_model
from msgm_bench.testing.toy_tracks import CLASS
from msgm_bench.training.method_state import load_stored_state, stored_state
from msgm_builtin.methods.baselines import Finetune
from msgm_builtin.methods.erasediff import EraseDiff
from msgm_builtin.methods.esd import ESD
from msgm_builtin.methods.prediction_loss import prediction_loss
from msgm_builtin.methods.rgd import RGD
from msgm_builtin.methods.salun import SalUn
from msgm_builtin.methods.selective_amnesia import SelectiveAmnesia
from msgm_builtin.methods.sfd import SFD
from msgm_builtin.methods.sfd_batch import draw_batch


def ready(method, **trainer):
    """The session of a method after ``setup``; the model is no longer the base."""
    session = trainer_of(method, **trainer)
    method.setup(session)
    with torch.no_grad():
        for parameter in session.parameters:
            parameter.mul_(1.5)
    return session


def anchored_eps(session, batch, model=None):
    """eps_hat for the captions' texts with ``middle`` for ``top``."""
    model = model or session.model
    texts = [session.prompt_book.texts[c].replace("top", "middle") for c in batch.y.tolist()]
    return model.eps(batch.x_t, batch.t, model.prompts.embed_texts(texts))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v"])
def test_relabelling_takes_the_caption_with_its_anchor(prediction_type):
    """EraseDiff and SalUn: the mean square of outputs, for c_f and for c_f with the anchor."""
    for method in (EraseDiff.create(), SalUn.create({"label_dropout": False})):
        session = ready(method)
        model = session.model
        model.prediction_type = prediction_type
        forget, retain = session.batch("forget", 0), session.batch("retain", 0)
        forget = replace(forget, condition=forget.y)
        eps = anchored_eps(session, forget)
        if isinstance(method, EraseDiff):
            forget, aim = method.forget_batch_and_target(session, 0, "outer")
            eps = anchored_eps(session, forget)
            actual = method.forget_loss(model, forget, aim)
        else:
            actual = method.forget_loss(session, forget, retain, 0)
        difference = model.eps(forget.x_t, forget.t, forget.y) - eps
        a, _ = model.process.marginal(forget.t)
        scale = a if prediction_type == "v" else torch.ones_like(a)
        expected = (difference / scale[:, None, None, None]).square().mean()
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_dropped_labels_stay_the_null_condition():
    """SalUn's c' is the empty prompt where it is dropped, and an anchored caption elsewhere."""
    method = SalUn.create()
    session = ready(method, label_dropout_prob=0.5)
    forget, K = session.batch("forget", 0), len(session.prompt_book)
    other = method.other_classes(session, forget, 0)
    assert set(other.tolist()) - {K} <= set(forget.y.tolist())
    assert K in other.tolist()


def test_without_anchors_a_caption_of_d_g_stands_for_them():
    """Unless target=anchor is asked for by name, which is an error that names the concept."""
    for method in (SalUn.create(), EraseDiff.create()):
        session = trainer_of(method)
        session.prompts = replace(session.prompts, anchors={})
        method.setup(session)
        assert method.anchored is None
    retain = set(session.retain_labels)
    salun = SalUn.create({"label_dropout": False})
    session = trainer_of(salun)
    session.prompts = replace(session.prompts, anchors={})
    salun.setup(session)
    assert set(salun.other_classes(session, session.batch("forget", 0), 0).tolist()) <= retain
    bare = replace(toy_captions(), prompts=session.prompts)
    SalUn.create().check_data(bare, (0,))
    with pytest.raises(OptionError, match="top"):
        SalUn.create({"target": "anchor"}).check_data(bare, (0,))
    SalUn.create({"target": "anchor", "anchor": "low"}).check_data(bare, (0,))


def test_targets_that_do_not_fit_the_conditions_are_skipped():
    """Anchors are of prompts, an order is of classes, and an int names a class."""
    text, classes = toy_text_model(), CLASS.model()
    assert "--text" in SalUn.create({"target": "anchor"}).skip(classes, "finetune")
    assert "target=anchor" in SalUn.create({"target": "next_class"}).skip(text, "finetune")
    assert "override" in SFD.create({"safe_class": 1}).skip(text, "finetune")
    assert "prompts" in SelectiveAmnesia.create().skip(text, "finetune")
    for method in (SalUn, EraseDiff, SFD, ESD, RGD):
        assert method.create().skip(text, "finetune") is None


@pytest.mark.parametrize("override", ["", "low"])
def test_sfd_reads_the_overriding_concept(override):
    """phi at the caption with the anchor for forgotten ones, at the caption itself for others."""
    method = SFD.create({"override": override})
    session = ready(method)
    word, book = override or "middle", session.prompt_book
    batch = draw_batch(session, method.options, method.time_range, method.safe, 0, "theta")
    texts = [book.texts[c].replace("top", word) for c in batch.c.tolist()]
    torch.testing.assert_close(batch.s, session.base.prompts.embed_texts(texts))
    assert set(batch.c[:4].tolist()) <= set(session.forget_labels)
    assert set(batch.c[4:].tolist()) <= set(session.retain_labels)
    bare = replace(toy_captions(), prompts=replace(book, anchors={}))
    with pytest.raises(OptionError, match="top"):
        SFD.create().check_data(bare, (0,))
    SFD.create({"override": "low"}).check_data(bare, (0,))


def test_sfds_fake_score_trains_the_part_that_the_generator_trains():
    """Other tensors are shared, and lie in no checkpoint; Adam's are the part's."""
    method = SFD.create({"weights": "cross"})
    session = ready(method)
    theta, psi = (dict(m.network.named_parameters()) for m in (session.model, method.psi))
    for name, weight in theta.items():
        assert (psi[name] is weight) == (".attn2." not in name)
        assert psi[name].requires_grad == (".attn2." in name)
    networks = [session.model.network, session.base.network]
    stored = stored_state(method.psi.network, networks)
    assert {name for name in psi if ".attn2." in name} == set(stored)
    moved = {name: tensor + 1 for name, tensor in stored.items()}
    load_stored_state(method.psi.network, moved, networks)
    assert all(torch.equal(psi[name], moved[name]) for name in moved)
    with pytest.raises(StorageError, match="attn2"):
        load_stored_state(method.psi.network, {}, networks)


def test_rgds_groups_are_captions():
    """``items_per_group`` items of each caption of D_g; other data have no prompts to group by."""
    method = RGD.create({"items_per_group": 3})
    session = ready(method)
    captions, counts = method.coreset.c.unique(return_counts=True)
    assert set(captions.tolist()) == set(session.retain_labels)
    assert counts.tolist() == [3] * len(captions)
    data = toy_captions()
    bare = replace(data, train=Examples(data.train.x, data.train.y))
    with pytest.raises(UsageError, match="captions"):
        RGD.create({"grouping": "prompt"}).check_data(bare, (0,))


def test_rgd_truncates_a_whole_batch():
    """truncation=batch: the mean of eps_hat's squared errors, without a gradient past alpha."""
    method = RGD.create({"truncation": "batch", "alpha": 1.6})
    session = ready(method)
    batch = session.batch("forget", 0)
    eps_hat = session.model.eps(batch.x_t, batch.t, batch.condition)
    mean = float((eps_hat - batch.eps).square().mean().detach())
    loss = method.forget_loss(session.model, batch).detach()
    assert float(loss) == pytest.approx(min(mean, 1.6))
    far = replace(batch, eps=batch.eps + 10)
    (gradient,) = session.gradients(method.forget_loss(session.model, far))
    assert not gradient.any()


def test_esd_holds_conditions_of_d_g_to_the_base():
    """L + retain_weight E |eps_hat(x_t, t, c_g) - eps*(x_t, t, c_g)|^2/D, for captions of D_g."""
    options = {"trajectory_steps": 3, "retain_weight": 0.7}
    method, plain = ESD.create(options), ESD.create(options | {"retain_weight": 0.0})
    session, other = ready(method), ready(plain)
    calls = []
    original = session.base.eps

    def eps(x_t, t, condition=None):
        calls.append((x_t, t, condition))
        return original(x_t, t, condition)

    session.base.eps = eps
    loss, without = method.update(session, 0), plain.update(other, 0)
    x_t, t, c_g = calls[-1]
    assert set(c_g.tolist()) <= set(session.retain_labels)
    before = ready(ESD.create(options)).model
    distance = (before.eps(x_t, t, c_g) - original(x_t, t, c_g)).square().mean()
    torch.testing.assert_close(loss, without + 0.7 * distance.detach())


def test_parts_by_default():
    """ESD-x is published; other methods train all but the text encoder."""
    model = toy_text_model()
    assert ESD.create().part(model, "finetune") == "cross"
    assert Finetune.create().part(model, "finetune") == "unet"
    assert Finetune.create({"weights": "not_cross"}).part(model, "finetune") == "not_cross"
    session = trainer_of(Finetune.create({"weights": "cross_kv"}))
    assert sum(p.numel() for p in session.parameters) == 2 * 8 * 8


def test_distance_of_predictions_is_that_of_outputs():
    """Of a network that predicts v: |v_hat - v'|^2, of which the eps are a v + sigma x_t."""
    model = toy_text_model().requires_grad_(False)
    t = torch.tensor([0.1, 0.5, 0.9])
    generator = torch.Generator().manual_seed(0)
    x, v, other = (torch.randn(3, 1, 4, 4, generator=generator) for _ in range(3))
    a, sigma = (value[:, None, None, None] for value in model.process.marginal(t))
    model.prediction_type = "v"
    loss = prediction_loss(model, t, a * v + sigma * x, a * other + sigma * x)
    torch.testing.assert_close(loss, (v - other).square().mean(), rtol=1e-3, atol=1e-4)
