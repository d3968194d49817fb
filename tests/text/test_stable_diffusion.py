"""Stable Diffusion: what is read of a pipeline is what diffusers computes with it."""

from __future__ import annotations

import shutil

import pytest
import tiny_pipeline
import torch
from lazy import LazyModule
from tiny_pipeline import (
    LENGTH,
    SIDE,
    edit,
    in_old_layout,
    our_pictures,
    their_pictures,
    write_pipeline,
)

from msgm_bench import (
    DataStats,
    IncompatibleError,
    MsgmBenchError,
    OptionError,
    StorageError,
    UsageError,
)
from msgm_text.backbones.scaled_linear import ScaledLinearDDPM
from msgm_text.backbones.stable_diffusion import StableDiffusion

diffusers, transformers = LazyModule("diffusers"), LazyModule("transformers")

TEXTS = ("a photo of a dog", "a red circle", "a painting by the cat on the left")
STATS = DataStats((3, SIDE, SIDE), 256, 0.0, 0.3, 9.0, prompts=TEXTS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A pipeline's folder, which no test changes, and the pipeline."""
    folder = tmp_path_factory.mktemp("whole") / "pipeline"
    return folder, write_pipeline(folder)


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of the folder."""
    return shutil.copytree(whole[0], tmp_path / "pipeline")


def load(folder, stats=STATS):
    """The model that the backbone makes of a folder."""
    network = StableDiffusion().from_pretrained(str(folder), stats)
    model = network.backbone.build(stats)
    model.network.load_state_dict(network.weights)
    return model.eval(), network


def inputs(steps=50, n=3):
    """Latents, times and timesteps."""
    x = torch.randn(n, 4, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(1))
    k = torch.tensor([0, 7, steps - 1])
    return x, (k + 1) / steps, k


# The network -------------------------------------------------------------------------------


def test_the_prediction_is_that_of_diffusers(whole):
    """eps_hat at t_k is the U-Net's output at timestep k under the hidden states of the prompt."""
    model, _ = load(whole[0])
    pipeline, (x, t, k) = whole[1], inputs()
    tokens = pipeline.tokenizer(list(TEXTS), padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = pipeline.text_encoder(tokens)[0]
        expected = pipeline.unet(x, k, encoder_hidden_states=hidden).sample
        assert torch.equal(model.eps(x, t, torch.arange(3)), expected)
        assert torch.equal(model.prompts.embed(torch.arange(3)), hidden)


def test_a_picture_is_that_of_diffusers(whole):
    """DDIM with guidance s = 1 + w on the model's eps_hat, decoded, is the pipeline's picture."""
    model, _ = load(whole[0])
    x, _, _ = inputs()
    expected = their_pictures(whole[1], x, TEXTS)
    images = our_pictures(model, whole[1].scheduler, x, torch.arange(3))
    assert torch.allclose(images, expected, atol=2e-5)


def test_v_prediction(tmp_path):
    """A network that predicts v gives eps_hat = a v + sigma x_t."""
    pipeline = write_pipeline(tmp_path / "v", scheduler={"prediction_type": "v_prediction"})
    model, _ = load(tmp_path / "v")
    x, t, k = inputs()
    abar = (1 - pipeline.scheduler.betas.double()).cumprod(0)[k].reshape(-1, 1, 1, 1)
    a, sigma = abar.sqrt().float(), (1 - abar).sqrt().float()
    with torch.no_grad():
        hidden = model.prompts.embed(torch.arange(3))
        v = pipeline.unet(x, k, encoder_hidden_states=hidden).sample
        expected = a * v + sigma * x
        assert torch.allclose(model.eps(x, t, torch.arange(3)), expected, atol=1e-6)
    assert model.prediction_type == "v"


def test_scaled_linear_betas_are_those_of_diffusers():
    """Betas and alphabar of Stable Diffusion's schedule, computed by diffusers in float32."""
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )
    process = ScaledLinearDDPM()
    assert torch.allclose(process.betas.float(), scheduler.betas, rtol=1e-5, atol=0)
    a, sigma = process.marginal(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    abar = scheduler.alphas_cumprod.double()
    assert torch.allclose(a**2, abar, rtol=1e-4, atol=0)
    assert torch.allclose(a**2 + sigma**2, torch.ones_like(a))


def test_linear_betas(tmp_path):
    """A scheduler with linear betas makes the linear process."""
    write_pipeline(tmp_path / "linear", scheduler={"beta_schedule": "linear"})
    model, _ = load(tmp_path / "linear")
    assert type(model.process).__name__ == "DiscreteDDPM"
    assert (model.process.beta_start, model.process.beta_end) == (0.00085, 0.012)


# Latents -----------------------------------------------------------------------------------


def test_latents_are_the_scaled_mean(whole):
    """Grey levels go to 0.18215 times the mean of the posterior of the images in [-1, 1]."""
    model, _ = load(whole[0])
    x = torch.randint(0, 256, (5, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(2))
    images = x / 127.5 - 1
    with torch.no_grad():
        expected = whole[1].vae.encode(images).latent_dist.mean * 0.18215
    z = model.codec.encode(x.to(torch.uint8))
    assert torch.allclose(z, expected, atol=1e-6)
    assert z.shape[1:] == model.shape
    assert model.codec.bits_offset is None


def test_an_image_does_not_depend_on_its_batch(whole):
    """Six latents decode to what each decodes to alone."""
    codec = load(whole[0])[0].codec
    z = torch.randn(6, 4, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(3))
    alone = torch.cat([codec.decode(part) for part in z.split(1)])
    assert torch.allclose(codec.decode(z), alone, atol=1e-6)
    assert bool((alone >= 0).all() & (alone <= 1).all())


def test_the_autoencoder_is_no_part_of_the_network(whole):
    """No method can train it, and it stays in evaluation mode."""
    model, _ = load(whole[0])
    assert not any("vae" in name for name, _ in model.network.named_parameters())
    assert not any(p.requires_grad for p in model.codec.parameters())
    model.train()
    assert not model.codec.training


# Text --------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_tokens_are_those_of_transformers(folder, old):
    """Both layouts of the tokenizer's files give the tokens of ``CLIPTokenizer``."""
    if old:
        in_old_layout(folder)
    model, _ = load(folder)
    texts = [*TEXTS, "", "A  RED\ncircle, unknownword!"]
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoded = tokenizer(texts, padding="max_length", max_length=LENGTH)["input_ids"]
    assert model.prompts.tokenizer(texts[:4]).tolist() == encoded[:4]
    assert torch.equal(model.prompts.tokens[-1], torch.tensor(encoded[3]))


def test_the_layout_of_2022_is_read(folder, whole):
    """``text_model.`` in names, positions among weights, two files of the tokenizer."""
    in_old_layout(folder)
    x, t, _ = inputs()
    (new, fresh), (old, aged) = load(whole[0]), load(folder)
    with torch.no_grad():
        assert torch.equal(new.eps(x, t, torch.arange(3)), old.eps(x, t, torch.arange(3)))
    assert fresh.sha256 != aged.sha256


def test_word_embeddings_are_tokens(whole):
    """The encoder gives the same for tokens and for the embeddings of their words."""
    prompts = load(whole[0])[0].prompts
    table = prompts.encoder.get_input_embeddings()
    with torch.no_grad():
        assert torch.equal(prompts.encoder(table(prompts.tokens)), prompts.encoder(prompts.tokens))


# Parts -------------------------------------------------------------------------------------


def test_parts_divide_the_network(whole):
    """unet and text are all, cross and not_cross the unet; keys and values lie in cross."""
    model, _ = load(whole[0])
    parts = model.parts
    assert parts["unet"] | parts["text"] == model.part("all")
    assert parts["cross"] | parts["not_cross"] == parts["unet"]
    assert not parts["cross"] & parts["not_cross"]
    keys = {
        n for n, _ in whole[1].unet.named_parameters() if ".attn2.to_k." in n or ".attn2.to_v." in n
    }
    assert parts["cross_kv"] == {f"unet.{name}" for name in keys}


# Bad input ---------------------------------------------------------------------------------


def spoil(folder, part, change):
    """Rewrite a part's card."""
    edit(folder / part, lambda card: card | change)


BAD_CARDS = [
    ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "prediction_type"),
    ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "zero_snr"),
    ("scheduler/scheduler_config.json", {"beta_schedule": "squaredcos_cap_v2"}, "beta_schedule"),
    ("scheduler/scheduler_config.json", {"trained_betas": [0.1] * 50}, "trained_betas"),
    ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchScheduler"}, "FlowMatch"),
    ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}, "StableDiffusionPipeline"),
    ("model_index.json", {"text_encoder": [None, None]}, "without text_encoder"),
    ("model_index.json", {"text_encoder_2": ["transformers", "CLIPTextModel"]}, "text_encoder_2"),
    *(
        ("model_index.json", {part: [library, name]}, rf"{part} is '{library}\.{name}'")
        for part, library, name in (
            ("text_encoder", "transformers", "T5EncoderModel"),
            ("text_encoder", "transformers", "CLIPTextModelWithProjection"),
            ("text_encoder", "own_module", "CLIPTextModel"),
            ("tokenizer", "transformers", "T5Tokenizer"),
            ("unet", "diffusers", "UNet3DConditionModel"),
            ("vae", "diffusers", "AsymmetricAutoencoderKL"),
            ("scheduler", "diffusers", "FlowMatchEulerDiscreteScheduler"),
        )
    ),
    ("tokenizer/tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"}, "T5Tokenizer"),
    ("unet/config.json", {"in_channels": 9}, "channels that the unet takes: 9"),
    ("unet/config.json", {"addition_embed_type": "text_time"}, "addition_embed_type"),
    ("unet/config.json", {"cross_attention_dim": 64}, "width of the text"),
    ("unet/config.json", {"attention_head_dim": [4, 4, 4]}, "resolutions"),
    ("vae/config.json", {"latents_mean": [0.0] * 4}, "latents_mean"),
    ("text_encoder/config.json", {"use_attention_mask": True}, "use_attention_mask"),
    ("text_encoder/config.json", {"architectures": ["T5EncoderModel"]}, "T5EncoderModel"),
    ("text_encoder/config.json", {"vocab_size": 49_408}, "tokens of the tokenizer"),
    ("tokenizer/tokenizer_config.json", {"model_max_length": 77}, "77 tokens of a prompt"),
    ("tokenizer/tokenizer_config.json", {"pad_token": "<pad>"}, "lacks the pad_token"),
]


@pytest.mark.parametrize(("part", "change", "message"), BAD_CARDS)
def test_other_pipelines_are_refused(folder, part, change, message):
    """What would mean something else here is an error that names it."""
    spoil(folder, part, change)
    with pytest.raises(IncompatibleError, match=message):
        load(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_that_is_not_there(folder, part):
    """A pipeline without one of its parts is an error that names the part."""
    shutil.rmtree(folder / part)
    with pytest.raises(IncompatibleError, match=f"without {part}"):
        load(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_there_or_damaged(folder, part):
    """No weights, another file's, and half a file are errors that name the place."""
    weights = next((folder / part).glob("*.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(StorageError, match=part):
        load(folder)
    weights.rename(weights.with_suffix(".fp16.safetensors"))
    with pytest.raises(UsageError, match=r"full precision.*fp16"):
        load(folder)


def test_a_safety_checker_is_not_used(folder):
    """Weights of a checker beside the model change nothing; the remark says so."""
    spoil(folder, "model_index.json", {"safety_checker": ["stable_diffusion", "SafetyChecker"]})
    _, network = load(folder)
    assert "safety checker is not used" in network.remark


def test_a_prompt_that_is_too_long(whole):
    """The prompt, its tokens and the limit are named before any weight is read."""
    stats = DataStats((3, SIDE, SIDE), 256, 0.0, 0.3, 9.0, prompts=("a dog " * 9,))
    with pytest.raises(OptionError, match=r"'a dog a dog.* has 20 tokens"):
        StableDiffusion().from_pretrained(str(whole[0]), stats)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 15, 16), (3, 16), (2,)])
def test_images_that_the_autoencoder_does_not_take(whole, shape):
    """Grey images, odd sides and points are refused."""
    with pytest.raises(IncompatibleError, match="multiples of 2"):
        load(whole[0], DataStats(shape, 256, 0.0, 0.3, 9.0, prompts=TEXTS))


def test_data_without_prompts(whole):
    """Without --text there is no text-to-image model."""
    with pytest.raises(IncompatibleError, match="without prompts"):
        load(whole[0], DataStats((3, SIDE, SIDE), 256, 0.0, 0.3, 9.0))


def test_another_size_is_remarked(whole):
    """Images of twice the side go through, and a remark says so."""
    stats = DataStats((3, 2 * SIDE, 2 * SIDE), 256, 0.0, 0.3, 9.0, prompts=TEXTS)
    model, network = load(whole[0], stats)
    assert model.shape == (4, SIDE, SIDE)
    assert "16x16 pixels, and the data have 32x32" in network.remark


def test_a_backbone_without_a_base():
    """The network is the base's: without one there is no model."""
    with pytest.raises(UsageError, match="without a base"):
        StableDiffusion().build(STATS)


def test_the_hub_is_offline(monkeypatch, tmp_path):
    """A name that is not in the hub's cache is an error that says how to get it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MsgmBenchError, match="hub's cache") as error:
        StableDiffusion().from_pretrained("nobody/nothing", STATS, download=False)
    assert "hf download nobody/nothing" in str(error.value.hint)


def test_the_hubs_cache_is_read(whole, monkeypatch, tmp_path):
    """A repository in the cache, whose files are links, needs no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    place = tmp_path / "models--someone--tiny"
    snapshot = place / "snapshots" / ("a" * 40)
    (place / "blobs").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    for number, path in enumerate(sorted(p for p in whole[0].rglob("*") if p.is_file())):
        link = snapshot / path.relative_to(whole[0])
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / "blobs" / str(number))
        link.symlink_to(place / "blobs" / str(number))
    network = StableDiffusion().from_pretrained("someone/tiny", STATS, download=False)
    assert network.sha256 == load(whole[0])[1].sha256
    assert network.backbone.build(STATS).shape == (4, SIDE // 2, SIDE // 2)
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(StorageError, match="someone/tiny is no folder here"):
        StableDiffusion().from_pretrained("someone/tiny", STATS, download=False)


def test_the_extra_is_not_installed(monkeypatch, whole):
    """Without transformers and peft one error names the extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="transformers") as error:
        StableDiffusion().from_pretrained(str(whole[0]), STATS)
    assert error.value.hint == "pip install 'msgm-bench[text]'"


def test_a_base_that_changes_after_the_plan(folder):
    """Another autoencoder or tokenizer than that of the plan is refused."""
    _, network = load(folder)
    write_pipeline(folder, vae={"scaling_factor": 0.5, "norm_num_groups": 4})
    vae = folder / "vae" / "diffusion_pytorch_model.safetensors"
    state = tiny_pipeline.load_file(vae)
    tiny_pipeline.save_file({name: t + 1 for name, t in state.items()}, vae)
    with pytest.raises(StorageError, match="autoencoder have changed"):
        network.backbone.build(STATS)
