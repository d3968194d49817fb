"""Folders of t2i: what is written is read again, by diffusers and transformers, too."""

import dataclasses
import json

import pytest
import torch

from msgm_bench import DataStats, IncompatibleError, UsageError
from msgm_text.backbones.t2i import TextToImage

PROMPTS = ("a red circle", "a blue square", "a red square and a blue ring")
STATS = DataStats((3, 8, 8), 256, 0.0, 0.3, 1.0, prompts=PROMPTS)
SMALL = {"channels": (8, 16), "layers": 1, "heads": 2, "text_width": 16, "text_heads": 2}


def backbone(**options):
    """A small one."""
    return TextToImage.create(SMALL | options)


def model(made):
    """A model whose last layer is not zero."""
    torch.manual_seed(0)
    built = made.build(STATS).eval()
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return built


@pytest.fixture
def written(tmp_path):
    """A model and its folder."""
    made = backbone()
    built = model(made)
    made.save_pretrained(built, tmp_path)
    return built, tmp_path


def inputs(built):
    """x_t, times and prompts."""
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, built.process.sample_times(torch.linspace(0, 0.999, 4)), torch.tensor([2, 0, 1, 3])


@torch.no_grad()
def test_a_folder_is_read_as_it_was_written(written):
    """Whatever the options of the reader are, the folder's own hold."""
    built, folder = written
    pretrained = TextToImage.create({}).from_pretrained(str(folder), STATS)
    again = pretrained.backbone.build(STATS).eval()
    again.network.load_state_dict(pretrained.weights)
    assert torch.equal(again.eps(*inputs(built)), built.eps(*inputs(built)))
    assert pretrained.backbone.options.prediction == "v"


@torch.no_grad()
def test_diffusers_and_transformers_read_the_same_model(written):
    """Their networks, tokenizer and schedule give v, and with it the same eps_hat."""
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    built, folder = written
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()
    encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    x, t, c = inputs(built)
    texts = [built.prompts.texts[i] for i in c]
    tokens = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    k = (1000 * t).round().long() - 1
    v = unet(x, k, encoder(tokens).last_hidden_state).sample
    a = scheduler.alphas_cumprod[k].sqrt().reshape(-1, 1, 1, 1)
    assert scheduler.config.prediction_type == "v_prediction"
    expected = a * v + (1 - a**2).sqrt() * x
    torch.testing.assert_close(built.eps(x, t, c), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_lora_is_merged_into_the_folder(tmp_path):
    """W + B A is written, and the model is left as it was."""
    made = backbone()
    built = model(made)
    made.add_adapter(built, "lora:2")
    for name, weight in built.network.named_parameters():
        if name in built.parts["lora:2"]:
            weight.copy_(0.1 * torch.randn(weight.shape))
    before = built.eps(*inputs(built))
    made.save_pretrained(built, tmp_path)
    pretrained = made.from_pretrained(str(tmp_path), STATS)
    again = pretrained.backbone.build(STATS).eval()
    again.network.load_state_dict(pretrained.weights)
    torch.testing.assert_close(again.eps(*inputs(built)), before, rtol=1e-4, atol=1e-5)
    assert torch.equal(built.eps(*inputs(built)), before)


@pytest.mark.parametrize(
    ("file", "key", "value", "what"),
    [
        ("unet/config.json", "norm_eps", 1e-3, "unet has norm_eps = 0.001"),
        ("unet/config.json", "use_linear_projection", True, "use_linear_projection"),
        ("text_encoder/config.json", "hidden_act", "gelu", "text_encoder has hidden_act"),
        ("scheduler/scheduler_config.json", "beta_end", 0.012, "scheduler has beta_end = 0.012"),
        ("scheduler/scheduler_config.json", "prediction_type", "sample", "prediction_type"),
    ],
)
def test_a_folder_of_another_model_is_refused(written, file, key, value, what):
    """No field of a card is passed over in silence."""
    path = written[1] / file
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {key: value}), "utf-8")
    with pytest.raises((IncompatibleError, UsageError), match=what):
        backbone().from_pretrained(str(written[1]), STATS)


def test_other_words_are_another_model(written):
    """Their tokens would stand for words that they are not."""
    others = dataclasses.replace(STATS, prompts=("a red sphere", *PROMPTS))
    with pytest.raises(IncompatibleError, match=r"vocab_size|language of other words"):
        backbone().from_pretrained(str(written[1]), others)


def test_what_is_no_such_folder(tmp_path):
    """The error names what it lacks."""
    with pytest.raises(UsageError, match="has no unet, text_encoder, tokenizer, scheduler"):
        backbone().from_pretrained(str(tmp_path), STATS)


def test_the_transformer_is_not_written(tmp_path):
    """No library has it; the error names the network that one has."""
    made = TextToImage.create({"network": "transformer", "width": 16, "heads": 2, "depth": 1})
    with pytest.raises(IncompatibleError, match="network=unet"):
        made.save_pretrained(made.build(STATS), tmp_path)
    assert not list(tmp_path.iterdir())
