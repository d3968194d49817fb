"""The backbone t2i: its network under Stable Diffusion's names, its text encoder, its losses."""

import dataclasses
import sys

import pytest
import torch

from msgm_bench import (
    Batch,
    Conditioned,
    DataStats,
    Examples,
    IncompatibleError,
    Noise,
    OptionError,
    UsageError,
    dsm_loss,
)
from msgm_bench.experiment.model_io import load_model, save_model
from msgm_bench.testing import check_backbone
from msgm_bench.training import NoisedBatches
from msgm_builtin.samplers.reverse import DDIMSampler
from msgm_text.backbones.t2i import TextToImage

PROMPTS = ("a red circle", "a blue square", "a red square and a blue ring")
STATS = DataStats((3, 8, 8), 256, 0.0, 0.3, 1.0, prompts=PROMPTS)
SMALL = {
    "transformer": {"network": "transformer", "width": 16, "heads": 2, "depth": 2},
    "unet": {"channels": (8, 16), "layers": 1, "heads": 2},
}
TEXT = {"text_width": 16, "text_heads": 2}
networks = pytest.mark.parametrize("network", ["transformer", "unet"])


def backbone(network="transformer", **options):
    """A small one."""
    return TextToImage.create(SMALL[network] | TEXT | options)


def model(network="transformer", **options):
    """A model whose last layer is not zero."""
    torch.manual_seed(0)
    built = backbone(network, **options).build(STATS).eval()
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return built


def inputs(built, n=4):
    """x_t and times over the whole process."""
    x = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, built.process.sample_times(torch.linspace(0, 0.999, n))


@networks
def test_it_passes_the_kit(network):
    """Seeds, batches, prompts and the empty prompt; the kit's images have one channel."""
    check_backbone(TextToImage, SMALL[network] | TEXT)


@networks
def test_parts_are_those_of_stable_diffusion(network):
    """Cross-attention has its four projections a block; the parts split the network."""
    built = model(network)
    parts, names = built.parts, {name for name, _ in built.network.named_parameters()}
    blocks = {name.partition(".attn2.")[0] for name in parts["cross"]}
    projections = {f"{block}.attn2.{p}.weight" for block in blocks for p in ("to_k", "to_v")}
    assert parts["cross_kv"] == projections
    assert all("transformer_blocks." in block for block in blocks)
    assert {f"{block}.attn1.to_out.0.bias" for block in blocks} <= parts["self"]
    assert parts["cross"] | parts["not_cross"] == parts["unet"]
    assert not parts["cross"] & (parts["not_cross"] | parts["self"])
    assert parts["unet"] | parts["text"] == built.part("all") == names
    assert not parts["unet"] & parts["text"]


@networks
@torch.no_grad()
def test_a_lora_changes_nothing_before_it_is_trained(network):
    """Two factors at each of the four projections of every attention, and the same eps_hat."""
    built = model(network)
    (x, t), attentions = inputs(built), len(built.parts["cross_kv"])  # two projections a block
    before = built.eps(x, t)
    backbone(network).add_adapter(built, "lora:2")
    assert torch.equal(built.eps(x, t), before)
    assert len(built.parts["lora:2"]) == 2 * 4 * attentions
    assert not built.parts["lora:2"] & built.parts["unet"]


@torch.no_grad()
def test_the_encoder_takes_tokens_or_embeddings_of_words():
    """Both are transformers' own hidden states, bit for bit."""
    built = model()
    prompts, clip = built.prompts, built.network.text_encoder
    words = clip.get_input_embeddings()(prompts.tokens)
    hidden = clip(input_ids=prompts.tokens).last_hidden_state
    assert torch.equal(prompts.encoder(prompts.tokens), hidden)
    assert torch.equal(prompts.encoder(words), hidden)
    assert torch.equal(prompts.encoder(prompts.tokens), hidden)  # the table is as it was


@torch.no_grad()
def test_the_last_position_has_seen_the_whole_prompt_and_no_position_what_follows():
    """A changed word changes its own position and all behind it, and none before it."""
    built = model()
    words = built.prompts.encoder.get_input_embeddings()(built.prompts.tokens[:1])
    before = built.prompts.encoder(words)
    words[0, 3] += 1.0
    same = (built.prompts.encoder(words) == before).all(dim=-1)[0]
    assert same.tolist() == [True] * 3 + [False] * 9


@networks
def test_word_embeddings_have_a_gradient(network):
    """The attack's derivative by an embedding equals the central difference."""
    built = model(network).double()
    encoder = built.prompts.encoder
    x, t = (value.double() for value in inputs(built, 1))
    words = encoder.get_input_embeddings()(built.prompts.tokens[:1]).detach()
    direction = torch.randn(words.shape, generator=torch.Generator().manual_seed(2)).double()

    def energy(step):
        return built.eps(x, t, encoder(words + step * direction)).square().sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(energy(step), step)
    h = 1e-5
    difference = (energy(h) - energy(-h)) / (2 * h)
    torch.testing.assert_close(slope, difference.detach(), rtol=1e-6, atol=1e-8)


def test_the_weighted_loss_of_v_is_the_error_of_v():
    """dsm_loss is the mean of |v_hat - v|^2 with v = a eps - sigma x0."""
    built = model(prediction="v")
    x0, t = inputs(built)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    a, sigma = (value.reshape(-1, 1, 1, 1) for value in built.process.marginal(t))
    x_t, c = a * x0 + sigma * eps, torch.tensor([0, 1, 2, 3])
    v_hat = built.network(x_t, t, built.prompts.embed(c))
    expected = (v_hat - (a * eps - sigma * x0)).square().mean()
    loss = dsm_loss(built, Batch(x0, t, eps, x_t, c, c))
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)


@torch.no_grad()
def test_prediction_names_what_the_network_gives():
    """The same weights as v: eps_hat = a output + sigma x_t."""
    noise, v = model(prediction="epsilon"), model(prediction="v")
    x, t = inputs(v)
    a, sigma = (value.reshape(-1, 1, 1, 1) for value in v.process.marginal(t))
    output = noise.eps(x, t)
    torch.testing.assert_close(v.eps(x, t), a * output + sigma * x)


@networks
@torch.no_grad()
def test_guidance_takes_indices_and_embeddings(network):
    """(1 + w) eps_c - w eps_null, the null condition being the empty prompt."""
    built = model(network)
    (x, t), c = inputs(built), torch.tensor([2, 0, 1, 2])
    expected = 3 * built.eps(x, t, c) - 2 * built.eps(x, t, torch.full((4,), 3))
    torch.testing.assert_close(Conditioned(built, c, 2.0).eps(x, t), expected)
    embedded = built.prompts.embed(c)
    torch.testing.assert_close(Conditioned(built, embedded, 2.0).eps(x, t), expected)


@networks
def test_the_description_is_that_of_the_options(network):
    """What no weight's shape shows is in it: heads, and what the network predicts."""
    first = backbone(network)
    same = first.describe(first.build(STATS))
    assert first.describe(backbone(network).build(STATS)) == same
    for change in ({"heads": 4}, {"text_heads": 4}, {"prediction": "epsilon"}):
        other = backbone(network, **change)
        assert other.describe(other.build(STATS)) != same
    others = dataclasses.replace(STATS, prompts=("a red circle", "a blue sphere"))
    assert first.describe(first.build(others)) != same


@networks
@torch.no_grad()
def test_a_stored_model_is_read_as_it_was_written(tmp_path, network):
    """The same function of prompts, of embeddings and of no prompt; the same tokens."""
    first = backbone(network)
    built = model(network)
    save_model(tmp_path, built, first, STATS)
    again, (x, t) = load_model(tmp_path, torch.device("cpu")).eval(), inputs(built)
    assert torch.equal(again.prompts.tokens, built.prompts.tokens)
    for c in (None, torch.tensor([2, 0, 1, 3]), built.prompts.embed_texts(["a blue ring"] * 4)):
        assert torch.equal(again.eps(x, t, c), built.eps(x, t, c))


@pytest.mark.parametrize("text_offset", ["image", "patch"])
@torch.no_grad()
def test_patches_are_offset_as_the_formula_says(text_offset):
    """h_i = W x_i + pos_i + e(t) + (V c_L)_i patch by patch; ``image`` has one V c_L for all."""
    built = model(text_offset=text_offset)
    unet, (x, t), entered = built.network.unet, inputs(built), []
    unet.transformer_blocks[0].register_forward_pre_hook(lambda _, a: entered.append(a[0]))
    text = built.prompts.embed(torch.tensor([0, 1, 2, 0]))
    built.eps(x, t, text)
    V, W = unet.text_embedding, unet.proj_in
    assert V.weight.shape == (16 * (4 if text_offset == "patch" else 1), 16)
    e = unet.time_embedding(unet.time_proj(built.process.timestep(t)))
    for i in range(4):
        row, column = 4 * (i // 2), 4 * (i % 2)
        x_i = x[:, :, row : row + 4, column : column + 4].flatten(1)
        rows = slice(16 * i, 16 * (i + 1)) if text_offset == "patch" else slice(None)
        offset = text[:, -1] @ V.weight[rows].T + V.bias[rows]
        h_i = x_i @ W.weight.T + W.bias + unet.pos_embed[i] + e + offset
        torch.testing.assert_close(entered[0][:, i], h_i)


@torch.no_grad()
def test_offsets_of_patches_are_stored_and_described(tmp_path):
    """The card says that there are some, a stored model is the same, and V is not of ``cross``."""
    first, plain = backbone(text_offset="patch"), backbone()
    described = first.describe(first.build(STATS))
    assert described["unet"]["text_offset"] == "patch"
    assert plain.describe(plain.build(STATS))["unet"]["text_offset"] == "image"
    built = model(text_offset="patch")
    assert {f"unet.text_embedding.{w}" for w in ("weight", "bias")} <= built.parts["not_cross"]
    save_model(tmp_path, built, first, STATS)
    again, (x, t) = load_model(tmp_path, torch.device("cpu")).eval(), inputs(built)
    c = torch.tensor([2, 0, 1, 3])
    assert torch.equal(again.eps(x, t, c), built.eps(x, t, c))


def test_it_learns_what_words_say():
    """Boards in the two colours that captions name are drawn from the captions alone."""
    torch.manual_seed(0)
    stats = dataclasses.replace(STATS, prompts=("a red board", "a blue board"))
    built = backbone(depth=1).build(stats)
    c = torch.arange(64) % 2
    colours = torch.tensor([[230, 30, 30], [30, 30, 230]], dtype=torch.uint8)
    items = Examples(colours[c][..., None, None].expand(-1, -1, 8, 8), c, c)
    batches = NoisedBatches({"all": items}, built, 0, 64)
    adam = torch.optim.Adam(built.parameters(), lr=5e-3)
    for step in range(150):
        adam.zero_grad()
        dsm_loss(built, batches.batch("all", step)).backward()
        adam.step()
    model = Conditioned(built.eval(), torch.arange(16) % 2, 1.0)
    x = DDIMSampler.create({"nfe": 10}).sample(model, Noise(0, 0, 16)).x
    drawn = built.codec.decode(x).mean(dim=(2, 3))
    assert ((drawn[:, 0] > drawn[:, 2]) == (torch.arange(16) % 2 == 0)).all()
    torch.testing.assert_close(drawn[:2], colours / 255, rtol=0, atol=0.15)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"network": "transformer", "width": 30, "heads": 4}, "heads must divide"),
        ({"channels": (8, 18), "heads": 4}, "heads must divide"),
        ({"text_width": 18, "text_heads": 4}, "text_heads must divide"),
        ({"channels": (0, 8)}, "numbers from 1"),
        ({"tokens": 2}, "3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, allowed):
    """Before a network is built."""
    with pytest.raises(OptionError, match=allowed):
        TextToImage.create(options)


@pytest.mark.parametrize(
    ("stats", "what"),
    [
        (dataclasses.replace(STATS, prompts=None), "without prompts"),
        (dataclasses.replace(STATS, shape=(2,)), "items of shape"),
        (dataclasses.replace(STATS, shape=(3, 10, 8)), "patches of 4 px on images of 10x8"),
    ],
)
def test_data_that_do_not_fit_are_refused(stats, what):
    """With the data that would."""
    with pytest.raises(IncompatibleError, match=what):
        backbone().build(stats)


def test_too_long_a_prompt_is_refused_when_the_model_is_built():
    """Not when it is drawn."""
    with pytest.raises(OptionError, match="has 9 tokens"):
        backbone(tokens=8).build(STATS)


def test_without_the_extra_there_is_one_clear_error(monkeypatch):
    """The module is imported all the same; a model names the extra."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'msgm-bench\[text\]'"):
        backbone().build(STATS)
