"""What a partial training of a network as large as Stable Diffusion's costs."""

from __future__ import annotations

import math

import pytest
import torch
from lazy import LazyModule
from tiny_pipeline import LENGTH, SIDE, write_pipeline

from msgm_bench import DataStats, LossMethod, Training, WeightsOptions, dsm_loss
from msgm_bench.experiment.training_plan import TrainingPlan
from msgm_bench.experiment.training_stages import Train
from msgm_bench.training import Runtime
from msgm_text.backbones.pipeline_cards import (
    AutoencoderCard,
    ConditionalUNetCard,
    PipelineCard,
    ScheduleCard,
    TextEncoderCard,
)
from msgm_text.backbones.stable_diffusion import StableDiffusion, StableDiffusionOptions
from msgm_text.backbones.vocabulary import read_vocabulary

diffusers = LazyModule("diffusers")

CPU = torch.device("cpu")
LEVELS = (128, 256, 512, 512)
PARAMETERS = 859_520_964 + 83_653_863  # of the U-Net and of the autoencoder, as published
TEXTS = ("a red circle", "a blue ring")


class Partial(LossMethod[WeightsOptions]):
    """Trains a part."""

    name = "partial"
    regimes = ("finetune",)
    needs = frozenset({"retain"})

    def loss(self, model, batches, step):
        """The error on what is kept."""
        return dsm_loss(model, batches.retain)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny pipeline, for its tokenizer."""
    place = tmp_path_factory.mktemp("tiny") / "pipeline"
    write_pipeline(place)
    return place


def large(folder):
    """The backbone of Stable Diffusion 1.5, with the tokenizer in the folder."""
    vocabulary = read_vocabulary(folder / "tokenizer", folder)
    text = {"num_attention_heads": 12, "max_position_embeddings": LENGTH}
    card = PipelineCard(
        unet=ConditionalUNetCard(sample_size=64, cross_attention_dim=768),
        vae=AutoencoderCard(
            block_out_channels=LEVELS,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        ),
        text_encoder=TextEncoderCard(
            vocab_size=len(vocabulary), hidden_size=768, intermediate_size=3_072, **text
        ),
        tokenizer=vocabulary.card,
        schedule=ScheduleCard(beta_schedule="scaled_linear"),
        vae_sha256="0" * 64,
        vocabulary_sha256=vocabulary.sha256,
    )
    backbone = StableDiffusion(StableDiffusionOptions(pipeline=card.options()))
    backbone.assets = folder
    return backbone


def training(backbone, part):
    """The stage that trains a part."""
    plan = TrainingPlan(Partial.create({"weights": part}), "finetune", Training(), 4, part=part)
    return Train(plan, backbone, None, (0,), {"train": 0, "unlearn": 0}, Runtime(CPU))


def elements(*models):
    """Number of weights in the tensors of all the models, a shared tensor counted once."""
    return sum(p.numel() for p in {id(p): p for m in models for p in m.parameters()}.values())


@pytest.mark.parametrize("part", ["cross_kv", "cross", "lora:4"])
def test_base_and_model_share_what_is_frozen(folder, part):
    """Base and model of Stable Diffusion 1.5 are one copy and the trained part, not two copies."""
    backbone = large(folder)
    stats = DataStats((3, 512, 512), 256, 0.0, 0.3, 9.0, prompts=TEXTS)
    with torch.device("meta"):
        base = backbone.build(stats)
        one = elements(base)
        model = training(backbone, part).copy_of_base(base.requires_grad_(False))
    text = sum(p.numel() for p in base.network.text_encoder.parameters())
    assert one == PARAMETERS + text
    weights = dict(model.network.named_parameters())
    trained = sum(weights[name].numel() for name in model.parts[part])
    assert elements(base, model) == one + trained
    assert elements(base, model) <= 1.3 * one
    assert {n for n, p in weights.items() if p.requires_grad} == model.parts[part]


def test_frozen_weights_in_bf16_change_no_number(folder):
    """Under autocast eps_hat, latents and images are bit for bit those of float32 weights."""
    stats = DataStats((3, SIDE, SIDE), 256, 0.0, 0.3, 9.0, prompts=TEXTS)
    network = StableDiffusion().from_pretrained(str(folder), stats)
    model = network.backbone.build(stats).eval().requires_grad_(False)
    model.network.load_state_dict(network.weights)
    trained = model.parts["cross_kv"]
    for name, weight in model.network.named_parameters():
        weight.requires_grad_(name in trained)
    runtime = Runtime(CPU, "bf16")
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, *model.shape, generator=generator)
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), generator=generator)

    @torch.no_grad()
    def outputs():
        with runtime.active():
            eps = model.eps(x, torch.tensor([0.2, 0.9]), torch.arange(2))
            return eps, model.codec.encode(images), model.codec.decode(x)

    def size():
        return sum(p.nbytes for p in model.parameters())

    before, full = outputs(), size()
    runtime.round_frozen(model)
    assert all(torch.equal(a, b) for a, b in zip(before, outputs(), strict=True))
    assert size() < 0.65 * full
    state = model.network.state_dict()
    assert all(state[name].dtype is torch.float32 for name in trained)
    assert math.isclose(full / elements(model), 4)


def test_other_precisions_round_nothing(folder):
    """fp32 and tf32 leave frozen weights in float32."""
    stats = DataStats((3, SIDE, SIDE), 256, 0.0, 0.3, 9.0, prompts=TEXTS)
    backbone = StableDiffusion().from_pretrained(str(folder), stats).backbone
    model = backbone.build(stats).requires_grad_(False)
    for precision in ("fp32", "tf32"):
        Runtime(CPU, precision).round_frozen(model)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
