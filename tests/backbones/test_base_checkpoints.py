"""Third-party folders as bases: cards of any version, files of any name, and damage."""

from __future__ import annotations

import copy
import inspect
import json
import os

import hub_layout
import pytest
import torch
from hub_layout import CARD, PICKLED, SAFE, SCHEDULE, STEPS, edit, write_flat, write_pipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lazy import LazyModule
from safetensors.torch import load_file, save_file

from msgm_bench import (
    DataStats,
    IncompatibleError,
    MsgmBenchError,
    OptionError,
    StorageError,
    UsageError,
)
from msgm_bench.storage.cards import parse_card
from msgm_builtin.backbones.ddpm import DDPM
from msgm_builtin.backbones.diffusers_cards import UNetCard
from msgm_builtin.backbones.vpsde import VPSDE

diffusers = LazyModule("diffusers")
training_utils = LazyModule("diffusers.training_utils")

INFO = DataStats((1, 8, 8), levels=17, nll_offset=0.0, std=0.3, max_distance=9.0)
INDEX = "model_index.json"


@pytest.fixture
def place(tmp_path):
    """A folder that does not exist yet."""
    return tmp_path / "base"


def load(place, stats=INFO):
    """What the discrete backbone makes of a folder."""
    return DDPM.create({"steps": STEPS, **hub_layout.BETAS}).from_pretrained(str(place), stats)


# The oracle --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flat", "pipeline", "pickled", "old"])
def test_weights_are_those_that_diffusers_loads(place, kind):
    """Every tensor is equal to that of diffusers' own ``from_pretrained`` on the same folder."""
    (write_pipeline if kind == "pipeline" else write_flat)(place)
    if kind in ("pickled", "old"):
        hub_layout.pickle_weights(place, kind == "old")
    inner = "unet" if kind == "pipeline" else None
    theirs = diffusers.UNet2DModel.from_pretrained(
        place,
        subfolder=inner,
        use_safetensors=kind in ("flat", "pipeline"),
        low_cpu_mem_usage=False,
    ).state_dict()
    ours = load(place).weights
    assert set(ours) == {f"unet.{name}" for name in theirs}
    assert all(torch.equal(ours[f"unet.{name}"], weight) for name, weight in theirs.items())


CIFAR = {
    **{"_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu"},
    **{"attention_head_dim": None, "block_out_channels": [128, 256, 256, 256]},
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    **{"downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3},
    **{"layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-06},
    **{"norm_num_groups": 32, "out_channels": 3, "sample_size": 32},
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
CELEBAHQ = CIFAR | {
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
    "sample_size": 256,
}


@pytest.mark.parametrize("card", [CIFAR, CELEBAHQ], ids=["cifar10-32", "celebahq-256"])
def test_cards_of_published_models_are_read(card):
    """google's cards of 2022 make the network that diffusers makes of them."""
    options = parse_card(card, UNetCard, "x").options()
    with torch.device("meta"):
        theirs, ours = diffusers.UNet2DModel.from_config(card), diffusers.UNet2DModel(**options)
    assert repr(theirs) == repr(ours)
    assert {key: theirs.config[key] for key in options} == options


def test_every_option_of_diffusers_is_a_field_with_its_default():
    """A card that leaves a field out means diffusers' default, in every field that there is."""
    parameters = dict(inspect.signature(diffusers.UNet2DModel.__init__).parameters)
    del parameters["self"]
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert {name: field.default for name, field in UNetCard.model_fields.items()} == defaults


def test_cards_of_averaged_weights_are_read(place):
    """``EMAModel.save_pretrained`` adds the average's own bookkeeping to the network's card."""
    unet = hub_layout.network()
    average = training_utils.EMAModel(
        unet.parameters(), model_cls=diffusers.UNet2DModel, model_config=unet.config
    )
    average.save_pretrained(place)
    assert "optimization_step" in json.loads((place / CARD).read_text("utf-8"))
    assert torch.equal(load(place).weights["unet.conv_in.bias"], unet.conv_in.bias)


# Where cards and weights lie ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["unet", "unet_ema"])
@pytest.mark.parametrize("deep", [False, True])
def test_checkpoints_of_a_training_have_their_card_above(place, name, deep):
    """diffusers' script leaves the scheduler beside ``checkpoint-500/``: v-prediction is seen."""
    inner = place / "checkpoint-500" / name
    hub_layout.network().save_pretrained(inner)
    source = inner if deep or name == "unet_ema" else inner.parent
    assert "is assumed" in load(source).remark
    for kind, words in (("v_prediction", "predicts 'v_prediction'"), ("epsilon", None)):
        plan = diffusers.DDPMScheduler(**hub_layout.SCHEDULER | {"prediction_type": kind})
        plan.save_pretrained(place / "scheduler")
        if words is None:
            assert not load(source).remark
        else:
            with pytest.raises(IncompatibleError, match=words):
                load(source)


@pytest.mark.parametrize("folder", ["vqvae", "vae"])
def test_latent_pipelines_are_refused(place, folder):
    """A network beside an autoencoder sees no pixels, whichever way it is named."""
    write_pipeline(place)
    (place / folder).mkdir()
    for source in (place, place / "unet"):
        with pytest.raises(IncompatibleError, match=f"{folder}/: a latent pipeline"):
            load(source)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_class_name": "LDMPipeline"}, "_class_name = 'LDMPipeline'"),
        ({"vqvae": ["diffusers", "VQModel"]}, "vqvae = .* is not understood"),
        ({"text_encoder": ["transformers", "CLIPTextModel"]}, "text_encoder = .* not understood"),
        ({"unet": "../../etc/passwd"}, "unet = "),
    ],
)
def test_pipelines_that_are_not_understood_are_refused(place, change, words):
    """Another pipeline, or a component that is neither network nor scheduler."""
    write_pipeline(place)
    edit(place / INDEX, lambda card: card | change)
    for source in (place, place / "unet"):
        with pytest.raises(IncompatibleError, match=words):
            load(source)


@pytest.mark.parametrize(
    "name", ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.ema.bin"]
)
def test_variants_are_named_with_what_to_do(place, name):
    """Weights under the name of a variant are no surprise, and how to get others is said."""
    write_flat(place)
    (place / SAFE).rename(place / name)
    with pytest.raises(UsageError, match=name.replace(".", r"\.")) as caught:
        load(place)
    assert f"variant='{name.split('.')[1]}'" in caught.value.hint


def test_half_precision_is_read_as_single(place):
    """Weights in half precision under the usual name: the same numbers in 32 bits."""
    unet = write_flat(place)
    save_file({name: tensor.half() for name, tensor in unet.state_dict().items()}, place / SAFE)
    weight = load(place).weights["unet.conv_in.weight"]
    assert torch.equal(weight, unet.conv_in.weight.half().float())


def test_weights_in_parts_are_refused(place):
    """With and without an honest file beside them: other parts are never read unhashed."""
    write_flat(place)
    state, honest = load_file(place / SAFE), (place / SAFE).read_bytes()
    evil = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    save_file(evil, place / "evil.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(state, "evil.safetensors")}
    (place / f"{SAFE}.index.json").write_text(json.dumps(index))
    for content in (honest, None):
        if content is None:
            (place / SAFE).unlink()
        with pytest.raises(UsageError, match="in several parts") as caught:
            load(place)
        assert "save_pretrained" in caught.value.hint


def test_compiled_weights_are_named(place):
    """The state of ``torch.compile``'s wrapper."""
    write_flat(place)
    state = {f"_orig_mod.{k}": v for k, v in load_file(place / SAFE).items()}
    save_file(state, place / SAFE)
    with pytest.raises(IncompatibleError, match=r"torch\.compile") as caught:
        load(place)
    assert "removeprefix('_orig_mod.')" in caught.value.hint


def test_checkpoints_that_are_no_state_dict_are_refused(place):
    """A pickle of a whole training is named."""
    unet = write_flat(place)
    (place / SAFE).unlink()
    torch.save({"model": unet.state_dict(), "step": 5}, place / PICKLED)
    with pytest.raises(IncompatibleError, match="does not hold names and tensors alone"):
        load(place)


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_the_tensor_that_is_not_finite_is_named(place, pickled, value):
    """A base with NaN is no base."""
    unet = write_flat(place)
    state = unet.state_dict()
    state["mid_block.resnets.0.conv1.bias"][0] = value
    if pickled:
        (place / SAFE).unlink()
        torch.save(state, place / PICKLED)
    else:
        save_file(state, place / SAFE)
    with pytest.raises(StorageError, match=r"not finite: mid_block\.resnets\.0\.conv1\.bias"):
        load(place)


@pytest.mark.parametrize("name", [CARD, SCHEDULE, INDEX, SAFE])
@pytest.mark.parametrize("kind", ["link", "pipe", "zero"])
def test_only_regular_files_of_the_folder_are_read(place, tmp_path, name, kind):
    """A link out of the folder, a pipe, an endless device: an error at once."""
    write_flat(place)
    if kind == "link":
        (place / name).rename(tmp_path / "outside")
        (place / name).symlink_to(tmp_path / "outside")
    else:
        (place / name).unlink()
        os.mkfifo(place / name) if kind == "pipe" else (place / name).symlink_to("/dev/zero")
    with pytest.raises(MsgmBenchError, match=r"leads out of|no regular file|holds no config"):
        load(place)


def test_the_hubs_cache_is_made_of_links(tmp_path):
    """A snapshot links to blobs of its own repository, which are followed; no further."""
    model = tmp_path / "models--someone--tiny"
    snapshot, blobs = model / "snapshots" / "f00", model / "blobs"
    write_flat(snapshot)
    blobs.mkdir()
    for i, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(i))
        path.symlink_to(f"../../blobs/{i}")
    assert load(snapshot).sha256
    (snapshot / SAFE).unlink()
    (tmp_path / "outside").write_bytes(b"")
    (snapshot / SAFE).symlink_to(tmp_path / "outside")
    with pytest.raises(StorageError, match="leads out of its folder"):
        load(snapshot)


# Anything ----------------------------------------------------------------------------------

VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.sampled_from([10**5, 10**9, 2**63, -1, 0.5, 1e300, "", "silu", "fourier", "x" * 5000])
    | st.lists(st.integers(0, 10**6) | st.text(max_size=3), max_size=5)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder and its cards."""
    place = tmp_path_factory.mktemp("whole") / "base"
    write_flat(place)
    cards = {
        name: json.loads((place / name).read_text("utf-8")) for name in (CARD, SCHEDULE, INDEX)
    }
    return place, cards


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=10_000)
@given(st.data())
def test_mutated_cards_are_an_error_or_a_model(whole, data):
    """Fields changed, removed and added: an error of ours, or a network that computes."""
    place, cards = whole
    changed = copy.deepcopy(cards)
    for _ in range(data.draw(st.integers(1, 3))):
        card = changed[data.draw(st.sampled_from(sorted(changed)))]
        key = data.draw(st.sampled_from(sorted(card)) | st.text(max_size=4)) if card else "x"
        if data.draw(st.booleans()) and key in card:
            del card[key]
        else:
            card[key] = data.draw(VALUES)
    for name, card in changed.items():
        (place / name).write_text(json.dumps(card), encoding="utf-8")
    try:
        actual = load(place)
    except MsgmBenchError:
        return
    model = actual.backbone.build(INFO)
    model.network.load_state_dict(actual.weights)
    with torch.no_grad():
        assert bool(model.eps(torch.zeros(1, 1, 8, 8), torch.ones(1)).isfinite().all())


def test_layers_that_do_not_fit_each_other_are_an_error(whole):
    """diffusers builds such a network, and its first pass fails in the middle."""
    place, cards = whole
    card = cards[CARD] | {"downsample_padding": 2}
    (place / CARD).write_text(json.dumps(card), encoding="utf-8")
    for name in (SCHEDULE, INDEX):
        (place / name).write_text(json.dumps(cards[name]), encoding="utf-8")
    with pytest.raises(MsgmBenchError, match="no image of 1x8x8 passes through a network"):
        load(place)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 100_000}, "width"),
        ({"depth": 1_000_000}, "depth"),
        ({"layers": 1_000_000}, "layers"),
        ({"channels": [100_000]}, "channels"),
        ({"channels": [8] * 99}, "channels"),
        ({"network": {"block_out_channels": [100_000] * 4}}, r"block_out_channels\.0 = 100000"),
        ({"network": {"layers_per_block": 10**9}}, "layers_per_block"),
        ({"network": {"scale": 2}}, "scale = 2 is not understood"),
    ],
)
def test_absurd_networks_are_refused_at_once(options, words):
    """Bounds of the options, those of diffusers' own among them, before anything is built."""
    with pytest.raises(OptionError, match=words):
        DDPM.create(options)


def test_less_attention_is_written_as_identities(place):
    """A network without some attention layers is exported as diffusers' whole network."""
    options = {"channels": (8, 16), "layers": 2, "attention": (4,), "up_attention": "last"}
    backbone = VPSDE.create(options | {"network": "unet"})
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = backbone.build(INFO).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
    backbone.save_pretrained(model, place)
    theirs = diffusers.UNet2DModel.from_pretrained(place / "unet", low_cpu_mem_usage=False)
    actual = VPSDE.create().from_pretrained(str(place), INFO)
    again = actual.backbone.build(INFO).eval()
    again.network.load_state_dict(actual.weights)
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([0.1, 0.5, 1.0])
    with torch.no_grad():
        assert torch.equal(theirs(x, 999 * t).sample, model.eps(x, t))
        assert torch.equal(again.eps(x, t), model.eps(x, t))
    assert backbone.describe(model)["up_attention"] == "last"
    assert actual.backbone.describe(again)["up_attention"] == "every"
