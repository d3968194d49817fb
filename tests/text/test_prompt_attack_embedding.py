"""The attack with learned embeddings: where they stand, what they descend, and its rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attack_toy import gaussian_context

from msgm_bench import Batch, Noise, derive_seed, dsm_loss
from msgm_bench.testing import check_metric, check_task
from msgm_bench.testing.toy_text import LENGTH, toy_captions, toy_text_base
from msgm_bench.testing.toy_tracks import TEXT
from msgm_bench.testing.toys import toy_context
from msgm_builtin.metrics.recovery import steps_row
from msgm_text.metrics.attack_success import EmbeddingAttackSuccess
from msgm_text.tasks.attack_draws import DrawOptions, Draws
from msgm_text.tasks.attack_images import concept_images, matches, training_items
from msgm_text.tasks.attack_prompts import attacked_prompts
from msgm_text.tasks.embedding_attack import EmbeddingAttack
from msgm_text.tasks.soft_prefix import SoftPrefix

SMALL = {"nfe": 4, "tokens": 1, "restarts": 1, "selection": 5, "draws": 6, "images": 8}


def toy(data=None):
    """The trained toy text model, its own base."""
    base = toy_text_base()
    judge = TEXT.judge()
    judge.fit(toy_captions(), 0, torch.device("cpu"))
    return replace(toy_context(data=data or toy_captions(), model=base, judge=judge), base=base)


def without_items(data):
    """The prompts alone."""
    return replace(data, train=data.train[:0], test=data.test[:0])


def prefix_of(model, texts, k=1, seed=0, **options):
    """A soft prefix."""
    return SoftPrefix(
        model, texts, k, seed, **{"learning_rate": 0.05, "weight_decay": 0.0} | options
    )


def set_words(prefix, model, words):
    """The prefix at the embeddings of words."""
    tokens = model.prompts.tokenizer([words])[0, 1 : 1 + len(words.split())]
    with torch.no_grad():
        prefix.v.copy_(prefix.encoder.get_input_embeddings()(tokens))


def test_embeddings_of_words_are_those_words_before_the_prompt():
    """At the embeddings of words the conditions equal those of the text with these words."""
    model, texts = toy_text_base(), ["top light", "light"]
    prefix = prefix_of(model, texts, k=2)
    set_words(prefix, model, "one the")
    with torch.no_grad():
        expected = model.prompts.embed_texts([f"one the {text}" for text in texts])
        assert torch.equal(prefix.conditions(torch.tensor([1, 0, 0])), expected[[1, 0, 0]])


def test_a_long_prompt_loses_its_last_words():
    """What does not fit is cut before the last token."""
    model = toy_text_base()
    words = "a the one top"
    assert len(words.split()) == LENGTH - 2
    prefix = prefix_of(model, [words], k=2)
    set_words(prefix, model, "low light")
    with torch.no_grad():
        expected = model.prompts.embed_texts(["low light a the"])
        assert torch.equal(prefix.conditions(torch.tensor([0])), expected)


def test_a_step_is_adam_on_the_models_own_loss():
    """One step equals Adam's first, lr sign(g), with g by finite differences of dsm_loss."""
    model, seed = toy_text_base().double(), 3
    x0 = torch.rand(5, 1, 4, 4, dtype=torch.float64)
    prefix = prefix_of(model, ["light"], seed=seed)
    which, start = torch.zeros(5, dtype=torch.int64), prefix.v.detach().clone()

    def loss():
        noise = Noise(derive_seed(seed, "step", 0), 0, 4)
        item = (noise.uniform(()) * 5).long()
        t = model.process.sample_times((torch.arange(4) + noise.uniform(())) / 4)
        eps = noise.normal((1, 4, 4))
        x_t = model.process.perturb(x0[item], t, eps)
        with torch.no_grad():
            condition = prefix.conditions(which[item])
            return float(dsm_loss(model, Batch(x0[item], t, eps, x_t, which[item], condition)))

    differences = torch.zeros_like(start)
    for i in range(start.numel()):
        for sign in (1, -1):
            with torch.no_grad():
                prefix.v.copy_(start)
                prefix.v.view(-1)[i] += sign * 1e-4
            differences.view(-1)[i] += sign * loss()
    with torch.no_grad():
        prefix.v.copy_(start)
    prefix.learn(x0, which, range(1), 4)
    clear = differences.abs() > 1e-8
    assert int(clear.sum()) >= 4
    moved = (prefix.v.detach() - start)[clear]
    torch.testing.assert_close(moved, -0.05 * differences[clear].sign(), rtol=1e-3, atol=1e-6)


def test_learning_ends_at_the_images_and_moves_no_weight():
    """Of a Gaussian model with mean v + the words' sum, the mean ends at the images'."""
    context = gaussian_context()
    model = context.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prompts = attacked_prompts(context.data, [0], with_word=False)
    images, which = concept_images(context, Draws(context, DrawOptions(), "x"), prompts, 8)
    prefix = prefix_of(model, prompts.texts)
    prefix.learn(images, which, range(150), 32)
    mean = model.network.mean(prefix.conditions(which[:1])).detach()
    torch.testing.assert_close(mean, images[:1].flatten(1), atol=0.05, rtol=0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_learning_in_parts_is_learning_at_once():
    """10 steps and 20 more equal 30: budgets are points of one search."""
    model = toy_text_base()
    x0, which = torch.rand(5, 1, 4, 4), torch.zeros(5, dtype=torch.int64)
    parts, whole = (prefix_of(model, ["light"]) for _ in range(2))
    parts.learn(x0, which, range(10), 8)
    parts.learn(x0, which, range(10, 30), 8)
    whole.learn(x0, which, range(30), 8)
    assert torch.equal(parts.v, whole.v)


def test_each_image_goes_with_the_prompt_that_asks_for_it():
    """Exact matches where there are any, else prompts all of whose concepts are shown."""
    shown = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 1]]).bool()
    asks = torch.tensor([[1, 0, 0], [1, 1, 0]]).bool()
    item, which = matches(shown, asks)
    assert (item.tolist(), which.tolist()) == ([0, 1], [1, 0])
    item, which = matches(shown[[0, 2, 3]], torch.tensor([[0, 1, 0]]).bool())
    assert (item.tolist(), which.tolist()) == ([0, 2], [0, 0])


def test_where_there_are_no_items_the_base_draws_them():
    """Images and captions of the target prompts in turn, in model space and within its bounds."""
    context = toy(without_items(toy_captions()))
    assert not len(context.forget)
    draws = Draws(context, DrawOptions(nfe=4), "x")
    prompts = attacked_prompts(context.data, [0, 1], with_word=False)
    images, which = concept_images(context, draws, prompts, 5)
    assert images.shape == (5, 1, 4, 4)
    assert which.tolist() == [0, 1, 2, 3, 0]
    assert float(images.abs().max()) <= 1
    examples, encoded = training_items(context, draws, 3, seed=0)
    assert encoded
    texts = [context.data.prompts[i].text for i in examples.c]
    assert texts == ["one top light", "a light top", "one top light"]
    assert examples.y.tolist() == [[True, False, False]] * 3
    real, encoded = training_items(toy(), draws, 3, seed=0)
    assert not encoded
    assert real.y[:, 0].all()


def test_it_draws_what_the_images_show():
    """A Gaussian model that shows no circle shows one in each image after enough steps."""
    context = gaussian_context()
    options = SMALL | {"steps": (1, 150), "learning_rate": 0.05, "weight_decay": 0.0, "nfe": 25}
    task = EmbeddingAttack.create(options | {"guidance": 0.0})
    artifact = task.draw(context, 0, 2)
    assert artifact["with_word"].tolist() == [True, False]
    assert artifact["steps"].tolist() == [[1, 150]] * 2
    assert artifact["rates"].tolist() == [[0.0, 1.0]] * 2
    assert artifact["selected"].tolist() == [5, 5]
    rows = EmbeddingAttackSuccess.create().measure(context, task, artifact)
    values = {row.metric: row.value for row in rows}
    assert values["asr_embedding"] == values["asr_embedding_without_word"] == 100
    assert values["asr_embedding_before"] == 0
    assert values["asr_embedding_steps"] == 150


@pytest.mark.parametrize(
    ("rates", "value", "reason"),
    [([0.1, 0.5, 0.9], 20, None), ([0.6, 0.2, 0.2], 10, None), ([0.1, 0.4, 0.3], None, "40%")],
)
def test_steps_until_half(rates, value, reason):
    """The first number of steps at which the rate is reached; null with the largest rate."""
    fields = {"task": "t", "metric": "m", "split": "samples", "protocol": "p@1", "unit": "steps"}
    row = steps_row(torch.tensor([10, 20, 40]), torch.tensor(rates), 0.5, 30, fields)
    assert row.value == value
    assert row.n == 30
    assert reason is None or reason in row.reason


def test_the_kit():
    """The task and its metric keep what every task and metric keeps, a kill included."""
    check_task(EmbeddingAttack, {"steps": (2, 4), "restarts": 1})
    check_metric(EmbeddingAttackSuccess)
