"""The task of the text track: which prompts are drawn, from which noise, with which guidance."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_contexts import (
    STD,
    book,
    book_of_rows,
    context,
    exact_model,
    with_model,
)
from torch import nn

from msgm_bench import (
    IdentityCodec,
    IncompatibleError,
    Labels,
    Model,
    Noise,
    OptionError,
    UsageError,
    VarianceExploding,
    derive_seed,
)
from msgm_builtin.tasks.class_generation import ClassGeneration
from msgm_builtin.tasks.generation import Generation
from msgm_builtin.tasks.inpainting import InpaintingTask
from msgm_builtin.tasks.likelihood import Likelihood
from msgm_builtin.tasks.reconstruction import Reconstruction
from msgm_text.tasks.prompt_generation import PromptGeneration
from msgm_text.tasks.prompt_noise import PromptNoise
from msgm_text.tasks.prompt_sets import even_choice

SIZES = {"images_per_prompt": 3, "nfe": 4}


def drawn(model_context, chunk=None, **options):
    """The task and its artifact, drawn in chunks."""
    task = PromptGeneration.create(SIZES | options)
    total = task.total(model_context)
    chunk = chunk or total
    parts = [
        task.draw(model_context, start, min(chunk, total - start))
        for start in range(0, total, chunk)
    ]
    return task, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


# Which prompts ---------------------------------------------------------------------------


def test_every_group_is_drawn_and_captions_are_not():
    """Each prompt of a group has as many images; those of no group have none."""
    model_context = context()
    _, artifact = drawn(model_context)
    prompts = model_context.data.prompts
    expected = sorted(i for rows in prompts.groups((0,)).values() for i in rows)
    values, counts = artifact["prompt"].unique(return_counts=True)
    assert values.tolist() == expected
    assert counts.tolist() == [3] * len(expected)
    groups = {prompts[i].group for i in range(len(prompts)) if i not in expected}
    assert groups == {"train", "pair"}  # the pair is another concept's


@given(
    rows=st.lists(st.sampled_from(["target", "synonym", "pair", "unrelated"]), max_size=25),
    each=st.integers(1, 5),
    most=st.integers(1, 9),
)
def test_a_group_is_spread_evenly_over_its_prompts(rows, each, most):
    """min(R n, cap) images, of prompts whose counts differ by one at most; none is drawn twice."""
    extra = [("circle", g, "circle") if g != "unrelated" else ("red", g, "red") for g in rows]
    model_context = context(book(*extra))
    task = PromptGeneration.create({"images_per_prompt": each, "images_per_group": most})
    items = task.items(model_context)
    assert len({tuple(row) for row in items.tolist()}) == len(items)
    for prompts in model_context.data.prompts.groups((0,)).values():
        counts = torch.tensor([int((items[:, 0] == i).sum()) for i in prompts])
        assert counts.sum() == min(len(prompts) * each, most)
        assert len(prompts) == 0 or counts.max() - counts.min() <= 1


def test_a_cap_below_the_prompts_reaches_all_parts_of_the_group():
    """Three of nine rows are the first of each third."""
    assert even_choice(range(9), 3) == [0, 3, 6]
    assert even_choice("ab", 3) == "ab"


def test_samples_cap_every_group():
    """``--samples`` bounds each group and raises no cap."""
    options = PromptGeneration.create({"images_per_group": 5}).options
    assert options.limit_samples(3) == {"images_per_group": 3}
    assert options.limit_samples(9) == {"images_per_group": 5}
    assert PromptGeneration.create().options.limit_samples(9) == {"images_per_group": 9}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("square", "target", "square")], "'target' asks for circle"),
        ([("circle", "target", "circle")], "ask for nothing but circle"),
    ],
)
def test_prompts_that_test_nothing_are_refused(rows, message):
    """No prompt of the target, or none of anything else: an error before any training."""
    data = context(book_of_rows(rows), targets=(0,)).data
    with pytest.raises(UsageError, match=message):
        PromptGeneration().check_data(data, (0,))


def test_data_without_prompts_are_refused():
    """The error names datasets that have prompts."""
    data = context().data
    object.__setattr__(data, "prompts", None)
    with pytest.raises(IncompatibleError, match="scenes"):
        PromptGeneration().check_data(data, (0,))


# Noise and guidance ----------------------------------------------------------------------


@settings(max_examples=10)
@given(chunk=st.integers(1, 40))
def test_items_do_not_depend_on_their_chunk(chunk):
    """Chunks that cut through groups give the images of the whole."""
    model_context = context(book(("circle", "target", "circle", {"seed": 7, "guidance": 3.0})))
    (_, whole), (_, parts) = drawn(model_context), drawn(model_context, chunk)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name])


def test_images_come_from_their_prompts():
    """Without guidance the images of a prompt have its mean, within 5 standard errors."""
    model_context, n = context(), 400
    _, artifact = drawn(model_context, images_per_prompt=n, nfe=100, guidance=0.0)
    means = model_context.model.prompts.encoder.means
    for i in artifact["prompt"].unique().tolist():
        gap = artifact["x"][artifact["prompt"] == i].mean(dim=0).flatten() - means[i + 1]
        assert float(gap.abs().max()) < 5 * STD / n**0.5 + 0.01  # the grid's own error


def test_guidance_moves_images_away_from_the_empty_prompt():
    """A prompt's own w beats the option's, is stored, and moves the mean along m - m(null)."""
    model_context = context(book(("circle", "target", "circle", {"guidance": 2.0})))
    task, artifact = drawn(model_context, images_per_prompt=50, nfe=50, guidance=0.0)
    own = len(model_context.data.prompts) - 1
    means = model_context.model.prompts.encoder.means
    for i, w in ((own, 2.0), (2, 0.0)):
        chosen = artifact["prompt"] == i
        assert artifact["w"][chosen].unique().tolist() == [w]
        away = means[i + 1] - means[0]
        moved = artifact["x"][chosen].mean(dim=0).flatten() - means[i + 1]
        slope = float(moved @ away / (away @ away))
        assert (slope > 0.5) == (w > 0)
    assert int(artifact["nfe"].min()) == int(artifact["nfe"].max()) <= 100
    assert task.cost(model_context.model).nfe == 50


@pytest.mark.parametrize(("guidance", "nfe"), [(0.0, 10), (2.0, 20)])
def test_the_cost_is_the_budget_times_the_passes(guidance, nfe):
    """An estimate counts at least what an image takes, both passes of a guided one."""
    model_context = context()
    task, artifact = drawn(model_context, nfe=10, guidance=guidance)
    assert task.cost(model_context.model).nfe == nfe
    assert nfe - 4 <= int(artifact["nfe"].max()) <= nfe


def test_methods_share_their_noise_and_seeds_do_not():
    """Other weights, the same prompts: equal means give equal images; another seed, others."""
    _, first = drawn(context())
    _, again = drawn(context())
    _, other = drawn(context(seed=4))
    assert torch.equal(first["x"], again["x"])
    assert not bool((first["x"] == other["x"]).any())


def test_a_prompt_with_a_seed_has_its_noise_in_every_run():
    """Images of a row with a seed are those of every evaluation seed; other rows' are not."""
    prompts = book(("circle", "target", "circle", {"seed": 7}))
    own = len(prompts) - 1
    _, first = drawn(context(prompts))
    _, other = drawn(context(prompts, seed=4))
    same = (first["x"] == other["x"]).flatten(1).all(dim=1)
    assert torch.equal(same, first["prompt"] == own)
    x = first["x"][first["prompt"] == own]
    assert len({tuple(image.flatten().tolist()) for image in x}) == 3  # repetitions differ


@given(start=st.integers(0, 600), seed=st.integers(-5, 2**32), r=st.integers(0, 4))
def test_the_noise_of_a_seed_is_that_of_torch(start, seed, r):
    """Draws of a repetition are the r-th of torch's CPU generator; other items have ``Noise``."""
    shape = (4, 8, 8)
    noise = PromptNoise(11, start, [None, seed, None], [0, r, 1])
    plain = Noise(11, start, 3)
    generator = torch.Generator().manual_seed(seed % 2**64)
    for kind, oracle in (("normal", torch.randn), ("uniform", torch.rand)):
        values, expected = getattr(noise, kind)(shape), getattr(plain, kind)(shape)
        assert torch.equal(values[[0, 2]], expected[[0, 2]])
        assert torch.equal(values[1], oracle(r + 1, *shape, generator=generator)[r])
    assert noise.rademacher((3,)).abs().eq(1).all()


def test_the_first_latent_is_that_of_the_fields_scripts():
    """``randn([n, C, H, W])`` of a seed gives all repetitions, which no batch changes."""
    shape = (4, 8, 8)
    batch = torch.randn(3, *shape, generator=torch.Generator().manual_seed(188))
    noise = PromptNoise(0, 0, [188, 188, 188], [0, 1, 2])
    assert torch.equal(noise.normal(shape), batch)


# Models, tracks, pictures -----------------------------------------------------------------


def test_a_model_of_other_prompts_reads_the_text():
    """A model with another table, or without the prompt in it, draws the same images."""
    model_context = context()
    texts = model_context.data.prompts.texts
    _, expected = drawn(model_context)
    for table in (tuple(reversed(texts)), texts[:3]):
        _, artifact = drawn(with_model(model_context, table))
        torch.testing.assert_close(artifact["x"], expected["x"])


def test_tracks_do_not_mix():
    """The task skips models of other tracks, and theirs skip text models, each with the reason."""
    text = exact_model(("prompt 1",))
    classes = Model(nn.Identity(), VarianceExploding(), IdentityCodec(), (1, 5, 5), Labels(4))
    plain = Model(nn.Identity(), VarianceExploding(), IdentityCodec(), (1, 5, 5))
    task = PromptGeneration()
    assert task.skip(text) is None
    for model, kind in ((classes, "class-conditional"), (plain, "unconditional")):
        expected = f"prompt_generation is for text-to-image models, and the model is {kind}"
        assert task.skip(model) == expected
    for other in (ClassGeneration(), Generation(), InpaintingTask(), Reconstruction()):
        assert other.skip(text).endswith("and the model is text-to-image")
    assert Likelihood().skip(text) is None


def test_pictures_have_a_row_for_prompts_of_every_group():
    """Captions are ``group: text``; images are the first of their prompt, in [0, 1]."""
    model_context = context()
    task, artifact = drawn(model_context, images_per_prompt=6)
    rows = task.preview(model_context, artifact)
    prompts = model_context.data.prompts
    for group, members in prompts.groups((0,)).items():
        for i in members:
            x = rows[f"{group}: {prompts[i].text}"]
            first = artifact["x"][artifact["prompt"] == i][:4]
            torch.testing.assert_close(x, ((first + 1) / 2).clamp(0, 1))


def test_likelihood_of_a_text_model_is_that_of_the_caption():
    """-log N(x; m(caption), s^2 I) of each item, in closed form, under a protocol of its own."""
    model_context = context()
    task = Likelihood.create({"count": 3, "divergence": "exact"})
    artifact = task.draw(model_context, 0, task.total(model_context))
    assert task.protocol(model_context)["condition"] == "caption"
    caption = model_context.model.prompts.encoder.means[1]
    x = torch.cat([model_context.retain.x[:3], model_context.forget.x[:3]])
    u = Noise(derive_seed(model_context.seed, "likelihood", 0), 0, 6).uniform(x.shape[1:])
    z = ((x + u) / 128 - 1).flatten(1)
    exact = -torch.distributions.Normal(caption, STD).log_prob(z).sum(dim=1)
    torch.testing.assert_close(artifact["nats"].float(), exact, rtol=2e-3, atol=0.0)


def test_too_long_a_prompt_is_the_tokenizers_error():
    """A prompt that is not in the model's table goes through its tokenizer, and its errors out."""

    def refuse(texts):
        raise OptionError("too long", "short ones")

    model_context = with_model(context(), ("prompt 1",))
    model_context.model.conditioning.tokenizer = refuse
    with pytest.raises(OptionError, match="too long"):
        drawn(model_context)
