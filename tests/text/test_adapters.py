"""LoRAs and partial files: ours are diffusers', and diffusers' are ours."""

from __future__ import annotations

import json

import pytest
import torch
from lazy import LazyModule
from safetensors.torch import load_file, save_file
from tiny_pipeline import SIDE, make_pipeline, write_pipeline

from msgm_bench import DataStats, IncompatibleError, OptionError, StorageError, UsageError
from msgm_text.backbones.adapter_files import METADATA, read_change
from msgm_text.backbones.adapters import FILE, save_part
from msgm_text.backbones.stable_diffusion import StableDiffusion

diffusers, peft = LazyModule("diffusers"), LazyModule("peft")

TEXTS = ("a photo of a dog", "a red circle")
STATS = DataStats((3, SIDE, SIDE), 256, 0.0, 0.3, 9.0, prompts=TEXTS)
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
LAYER = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A pipeline's folder."""
    folder = tmp_path_factory.mktemp("base") / "pipeline"
    write_pipeline(folder)
    return folder


@pytest.fixture
def backbone(base):
    """The backbone as the base has it."""
    return StableDiffusion().from_pretrained(str(base), STATS).backbone


@pytest.fixture
def model(base, backbone):
    """The base model."""
    fresh = backbone.build(STATS)
    fresh.network.load_state_dict(StableDiffusion().from_pretrained(str(base), STATS).weights)
    return fresh.eval()


def inputs():
    """Latents and times."""
    x = torch.randn(2, 4, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0.2, 0.9])


@torch.no_grad()
def ours(model):
    """eps_hat of the model for both prompts."""
    return model.eps(*inputs(), torch.arange(2))


@torch.no_grad()
def theirs(pipeline):
    """What diffusers predicts with this pipeline."""
    (x, t), tokenizer = inputs(), pipeline.tokenizer
    tokens = tokenizer(list(TEXTS), padding="max_length", return_tensors="pt").input_ids
    hidden = pipeline.text_encoder(tokens)[0]
    return pipeline.unet(x, 50 * t - 1, encoder_hidden_states=hidden).sample


def randomise(module, part="lora_"):
    """Random weights in the place of the LoRA's, so that it changes something."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if part in name:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))


def changed(model, source):
    """The model with the change of a file."""
    change = read_change(source, model.network.state_dict())
    model.network.load_state_dict(change.weights, strict=False)
    return model


# A LoRA of ours ------------------------------------------------------------------------------


def test_a_new_lora_changes_nothing(model, backbone):
    """B is 0: the prediction is bit for bit that of the base; R (d_in + d_out) weights a layer."""
    expected = ours(model)
    sizes = [
        (m.in_features + m.out_features)
        for name, m in model.network.unet.named_modules()
        if name.endswith(tuple(TARGETS)) and isinstance(m, torch.nn.Linear)
    ]
    backbone.add_adapter(model, "lora:3")
    weights = dict(model.network.named_parameters())
    assert torch.equal(ours(model), expected)
    assert sum(weights[name].numel() for name in model.parts["lora:3"]) == 3 * sum(sizes)
    others = {name for part, names in model.parts.items() if part != "lora:3" for name in names}
    assert not others & model.parts["lora:3"]
    assert others | model.parts["lora:3"] == set(weights)


def test_the_same_seed_gives_the_same_lora(base, backbone):
    """A is drawn from torch's random state."""
    first, second = backbone.build(STATS), backbone.build(STATS)
    for each_model in (first, second):
        torch.manual_seed(3)
        backbone.add_adapter(each_model, "lora:2")
    for name in first.parts["lora:2"]:
        assert torch.equal(first.network.state_dict()[name], second.network.state_dict()[name])


@pytest.mark.parametrize("part", ["lora:0", "lora", "lora:x", "crosss"])
def test_parts_that_are_none(model, backbone, part):
    """An unknown part is named with those that there are."""
    with pytest.raises(OptionError, match="no such part") as error:
        backbone.add_adapter(model, part)
    assert {"all", "cross", "lora:R"} <= set(error.value.allowed.split(", "))


def test_one_lora_at_a_time(model, backbone):
    """A second LoRA over the first is refused."""
    backbone.add_adapter(model, "lora:2")
    with pytest.raises(OptionError, match="has a LoRA already"):
        backbone.add_adapter(model, "lora:4")


def test_diffusers_loads_our_lora(model, backbone, base, tmp_path):
    """``load_lora_weights`` of the exported file gives our prediction."""
    backbone.add_adapter(model, "lora:4")
    randomise(model.network)
    state = {name: model.network.state_dict()[name] for name in model.parts["lora:4"]}
    backbone.save_part(state, "lora:4", tmp_path)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(base)
    before = theirs(pipeline)
    pipeline.load_lora_weights(tmp_path)
    assert torch.allclose(theirs(pipeline), ours(model), atol=1e-5)
    assert not torch.allclose(before, ours(model), atol=1e-2)


def test_our_lora_is_read_again(model, backbone, tmp_path):
    """The exported file on the base is the model that was exported."""
    other = backbone.build(STATS).eval()
    other.network.load_state_dict(model.network.state_dict())
    backbone.add_adapter(model, "lora:4")
    randomise(model.network)
    state = {name: model.network.state_dict()[name] for name in model.parts["lora:4"]}
    backbone.save_part(state, "lora:4", tmp_path)
    assert torch.allclose(ours(changed(other, tmp_path)), ours(model), atol=1e-5)


def test_a_pipeline_has_the_lora_inside(model, backbone, tmp_path):
    """Of a model with a LoRA, the exported pipeline has W + B A, and the model stays as it is."""
    backbone.add_adapter(model, "lora:4")
    randomise(model.network)
    expected = ours(model)
    backbone.save_pretrained(model, tmp_path)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    assert torch.allclose(theirs(pipeline), expected, atol=1e-5)
    assert torch.equal(ours(model), expected)


# A LoRA of diffusers -------------------------------------------------------------------------


def adapted(alpha=6, text=False, **options):
    """A pipeline with a LoRA that peft added."""
    pipeline = make_pipeline()
    config = {"r": 3, "lora_alpha": alpha, "init_lora_weights": "gaussian"} | options
    pipeline.unet.add_adapter(peft.LoraConfig(target_modules=TARGETS, **config))
    if text:
        targets = ["q_proj", "v_proj", "out_proj"]
        config = peft.LoraConfig(target_modules=targets, **config)
        peft.inject_adapter_in_model(config, pipeline.text_encoder)
    randomise(pipeline.unet)
    randomise(pipeline.text_encoder)
    return pipeline


def test_a_lora_of_the_unet(model, tmp_path):
    """``save_lora_adapter`` with alpha 6 and rank 3 doubles B A."""
    pipeline = adapted()
    pipeline.unet.save_lora_adapter(tmp_path)
    assert torch.allclose(ours(changed(model, tmp_path)), theirs(pipeline), atol=1e-5)


@pytest.mark.parametrize("converted", [False, True])
def test_a_lora_of_the_pipeline(model, tmp_path, converted):
    """``save_lora_weights`` of U-Net and text encoder, in peft's names and in diffusers'."""
    pipeline = adapted(alpha=3, text=True)
    unet = peft.utils.get_peft_model_state_dict(pipeline.unet)
    text = peft.utils.get_peft_model_state_dict(pipeline.text_encoder)
    if converted:
        from diffusers.utils import convert_state_dict_to_diffusers

        unet, text = map(convert_state_dict_to_diffusers, (unet, text))
    diffusers.StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=unet, text_encoder_lora_layers=text
    )
    assert torch.allclose(ours(changed(model, tmp_path)), theirs(pipeline), atol=1e-5)


@pytest.mark.parametrize("alphas", [(1.0, 1.0), (1.0, 4.0)])
def test_a_lora_in_flat_names(model, base, tmp_path, alphas):
    """kohya's file: W + alpha / R B A with the alpha of each layer; of one alpha, as diffusers."""
    flat = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_"
    generator, state = torch.Generator().manual_seed(4), model.network.state_dict()
    tensors, expected = {}, {}
    for name, alpha in zip("kv", alphas, strict=True):
        A, B = (torch.randn(*shape, generator=generator) for shape in ((2, 32), (32, 2)))
        own = f"{LAYER.removesuffix('k')}{name}.weight"
        expected[own] = state[own] + alpha / 2 * B @ A
        tensors[f"{flat}{name}.lora_down.weight"], tensors[f"{flat}{name}.lora_up.weight"] = A, B
        tensors[f"{flat}{name}.alpha"] = torch.tensor(alpha)
    save_file(tensors, tmp_path / "kohya.safetensors")
    change = read_change(tmp_path, state).weights
    assert set(change) == set(expected)
    for name, weight in change.items():
        assert torch.allclose(weight, expected[name], atol=1e-5)
    if len(set(alphas)) == 1:
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(base)
        pipeline.load_lora_weights(tmp_path, weight_name="kohya.safetensors")
        assert torch.allclose(ours(changed(model, tmp_path)), theirs(pipeline), atol=1e-5)


@pytest.mark.parametrize("projection", ["q_proj", "out_proj"])
def test_a_lora_of_the_text_encoder_in_flat_names(model, tmp_path, projection):
    """kohya's names of attention in the text encoder are those of its projections."""
    name = f"lora_te_text_model_encoder_layers_0_self_attn_{projection}"
    tensors = {
        f"{name}.lora_down.weight": torch.ones(2, 32),
        f"{name}.lora_up.weight": torch.ones(32, 2),
        f"{name}.alpha": torch.tensor(3.0),
    }
    save_file(tensors, tmp_path / "kohya.safetensors")
    layer = f"text_encoder.encoder.layers.0.self_attn.{projection}.weight"
    state = model.network.state_dict()
    change = read_change(tmp_path, state).weights
    assert torch.allclose(change[layer], state[layer] + 3.0)


def test_a_convolution_has_a_lora_too(model, tmp_path):
    """B A of a 3x3 kernel and a 1x1 kernel is added to the kernel."""
    name = "unet.down_blocks.0.resnets.0.conv1"
    A, B = torch.randn(2, 16, 3, 3), torch.randn(16, 2, 1, 1)
    save_file({f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}, tmp_path / "x.safetensors")
    state = model.network.state_dict()
    change = read_change(tmp_path / "x.safetensors", state).weights[f"{name}.weight"]
    expected = torch.einsum("or,rijk->oijk", B[:, :, 0, 0], A)
    assert torch.allclose(change - state[f"{name}.weight"], expected, atol=1e-5)


# A partial file ------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["cross", "cross_kv", "not_cross", "text"])
def test_a_partial_file_goes_to_diffusers_and_back(model, backbone, base, tmp_path, part):
    """The trained weights under diffusers' names give our prediction there, and here again."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(base)
    other = backbone.build(STATS).eval()
    other.network.load_state_dict(model.network.state_dict())
    before = ours(model)
    generator = torch.Generator().manual_seed(6)
    state = {name: model.network.state_dict()[name] for name in model.parts[part]}
    for tensor in state.values():
        tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    backbone.save_part(state, part, tmp_path)
    place = "text_encoder" if part == "text" else "unet"
    written = load_file(tmp_path / f"{place}.safetensors")
    missing = getattr(pipeline, place).load_state_dict(written, strict=False)
    assert not missing.unexpected_keys
    assert len(written) == len(state)
    assert torch.allclose(theirs(pipeline), ours(model), atol=1e-6)
    assert torch.allclose(ours(changed(other, tmp_path)), ours(model), atol=1e-6)
    assert not torch.allclose(before, ours(model), atol=1e-3)


# Bad input -----------------------------------------------------------------------------------


def factors(rank=2, inner=32, outer=32, layer=LAYER):
    """The two matrices of one layer."""
    return {
        f"{layer}.lora_A.weight": torch.ones(rank, inner),
        f"{layer}.lora_B.weight": torch.ones(outer, rank),
    }


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (factors(inner=768, outer=320), r"attn2.to_k has factors \(2, 768\) and \(320, 2\)"),
        (factors(layer="unet.down_blocks.3.attn.to_k"), "down_blocks.3.attn.to_k', which"),
        ({f"{LAYER}.lora_A.weight": torch.ones(2, 32)}, "one of the two matrices"),
        (factors() | {f"{LAYER}.lora_magnitude_vector": torch.ones(32)}, "no plain LoRA"),
        ({"conv_in.weight": torch.ones(320, 4, 3, 3)}, r"is \(320, 4, 3, 3\) and not"),
        ({"unknown.weight": torch.ones(2)}, "'unknown.weight', which the network lacks"),
        ({}, "no tensor"),
    ],
)
def test_a_change_of_another_network(model, tmp_path, tensors, message):
    """The first tensor that does not fit is named, and nothing is loaded."""
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(IncompatibleError, match=message):
        read_change(tmp_path, model.network.state_dict())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"unet.use_rslora": True}, "use_rslora"),
        ({"alpha_pattern": {"to_k": 3}}, "alpha_pattern"),
        ({"lora_alpha": "much"}, "lora_alpha = 'much'"),
        ([], "no configuration"),
    ],
)
def test_a_configuration_that_means_something_else(model, tmp_path, config, message):
    """A LoRA of another kind than W + alpha / R B A is refused."""
    metadata = {METADATA: json.dumps(config)}
    save_file(factors(), tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(IncompatibleError, match=message):
        read_change(tmp_path, model.network.state_dict())


def test_files_that_are_none(model, tmp_path):
    """Nothing there, several files, a damaged file, numbers that are not finite."""
    state = model.network.state_dict()
    with pytest.raises(UsageError, match="0 safetensors files"):
        read_change(tmp_path, state)
    with pytest.raises(UsageError, match="no file or folder"):
        read_change(tmp_path / "nowhere", state)
    save_file(factors(), tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"garbage, and more of it")
    with pytest.raises(UsageError, match="2 safetensors files"):
        read_change(tmp_path, state)
    with pytest.raises(StorageError, match="cannot be read"):
        read_change(tmp_path / "b.safetensors", state)
    infinite = {name: tensor / 0 for name, tensor in factors().items()}
    save_file(infinite, tmp_path / "b.safetensors")
    with pytest.raises(StorageError, match="not finite"):
        read_change(tmp_path / "b.safetensors", state)


def test_a_folder_of_training_scripts(model, tmp_path):
    """Beside other files, diffusers' own name of a LoRA is the one."""
    save_file(factors(), tmp_path / FILE)
    save_file(factors(), tmp_path / "optimizer.safetensors")
    assert set(read_change(tmp_path, model.network.state_dict()).weights) == {f"{LAYER}.weight"}


def test_a_change_is_compared_on_meta(backbone, tmp_path):
    """Before any weight is there, names, shapes and the hash of the file are known."""
    with torch.device("meta"):
        skeleton = backbone.build(STATS)
    save_file(factors(), tmp_path / "lora.safetensors")
    change = backbone.read_change(tmp_path, skeleton)
    assert change.weights[f"{LAYER}.weight"].device.type == "meta"
    assert len(change.sha256) == 64


def test_save_part_says_how_to_load(tmp_path):
    """The text for the model card names the call for each kind of file."""
    (tmp_path / "part").mkdir()
    assert "load_state_dict" in save_part({f"{LAYER}.weight": torch.ones(2)}, tmp_path / "part")
    names = {f"{LAYER}.lora_{m}.default.weight": torch.ones(2, 2) for m in "AB"}
    assert "load_lora_weights" in save_part(names, tmp_path)
