"""Models of other programs: what is read of diffusers' folders, refused, and written."""

from __future__ import annotations

import hashlib
import shutil

import hub_layout
import pytest
import torch
from hub_layout import CARD, PICKLED, SAFE, SCHEDULE, STEPS, edit, write_flat, write_pipeline
from huggingface_hub import constants
from lazy import LazyModule
from safetensors.torch import load_file, save_file

from msgm_bench import (
    Ancestral,
    DataStats,
    IncompatibleError,
    MsgmBenchError,
    Noise,
    StorageError,
    UsageError,
)
from msgm_bench.testing import ToyBackbone
from msgm_builtin.backbones import diffusers_io
from msgm_builtin.backbones.ddpm import DDPM
from msgm_builtin.backbones.subvpsde import SubVPSDE
from msgm_builtin.backbones.vesde import VESDE
from msgm_builtin.backbones.vpsde import VPSDE

diffusers = LazyModule("diffusers")

INFO = DataStats((1, 8, 8), levels=17, nll_offset=0.0, std=0.3, max_distance=9.0)
TOLD = DataStats((1, 8, 8), levels=17, nll_offset=0.0, std=0.3, max_distance=9.0, classes=10)
GRID = {"steps": STEPS, **hub_layout.BETAS}
SMALL = {"network": "unet", "channels": (8, 16), "layers": 1, "attention": (4,)}


@pytest.fixture
def place(tmp_path):
    """A folder that does not exist yet."""
    return tmp_path / "base"


def load(place, stats=INFO, **options):
    """What the discrete backbone makes of a folder."""
    return DDPM.create(GRID | options).from_pretrained(str(place), stats)


def model_of(actual, stats=INFO):
    """The model of an adopted network."""
    model = actual.backbone.build(stats)
    model.network.load_state_dict(actual.weights)
    return model.eval()


def noised(shape=(1, 8, 8), count=STEPS):
    """Items that look like anything."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def sha256(path):
    """Of a file, by another way than the code's."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_flat, write_pipeline])
def test_the_network_is_the_very_one(place, write):
    """eps_hat at t_k is diffusers' output at timestep k, for every k, in both layouts."""
    unet, actual = write(place), load(place)
    model, x = model_of(actual), noised()
    t = torch.arange(1, STEPS + 1) / STEPS
    with torch.no_grad():
        expected = unet(x, torch.arange(STEPS)).sample
        assert torch.equal(model.eps(x, t), expected)
    assert actual.sha256 == sha256(diffusers_io.network_folder(place) / SAFE)
    assert not actual.remark


def test_the_network_folder_of_a_pipeline_knows_its_schedule(place):
    """``pipeline/unet`` is judged by ``pipeline/scheduler``."""
    write_pipeline(place)
    assert load(place / "unet").sha256 == load(place).sha256
    with pytest.raises(IncompatibleError, match="betas from"):
        load(place / "unet", beta_end=0.2)


@pytest.mark.parametrize("old", [False, True])
def test_pickled_weights(place, old):
    """Weights in the older format, and with the names that attention layers had in 2022."""
    unet = write_flat(place)
    hub_layout.pickle_weights(place, old)
    actual = load(place)
    x, k = noised(), torch.arange(STEPS)
    with torch.no_grad():
        assert torch.equal(model_of(actual).eps(x, (k + 1) / STEPS), unet(x, k).sample)
    assert actual.sha256 == sha256(place / PICKLED)


def test_a_network_without_a_scheduler_is_assumed_to_fit(place):
    """A model folder says nothing of betas; the remark says so."""
    write_flat(place)
    (place / SCHEDULE).unlink()
    assert "is assumed" in load(place).remark


def test_options_tell_what_the_network_is(place):
    """The backbone's options name the network's, so that they rebuild it from a card."""
    write_flat(place)
    config = load(place, dropout=0.2).backbone.options
    assert (config.channels, config.layers, config.attention) == ((16, 32), 1, (4,))
    assert config.network["norm_eps"] == 1e-6
    assert "dropout" not in config.network
    again = DDPM.create(config.model_dump(mode="json"))
    assert again.options == config
    dropped = [m.p for m in again.build(INFO).modules() if isinstance(m, torch.nn.Dropout)]
    assert max(dropped) == 0.2


def test_classes_and_the_null_class(place):
    """Ten classes and a null class make a conditional base; its labels are the model's."""
    unet = write_flat(place, num_class_embeds=11)
    actual = load(place, TOLD)
    assert "the order of its classes is assumed to be the dataset's" in actual.remark
    model = model_of(actual, TOLD)
    x, c = noised(count=11), torch.arange(11)
    with torch.no_grad():
        expected = unet(x, torch.tensor(STEPS - 1), class_labels=c).sample
        assert torch.equal(model.eps(x, torch.ones(11), c), expected)
        assert torch.equal(model.eps(x, torch.ones(11))[10], expected[10])


# Refusing ----------------------------------------------------------------------------------

CARDS = [
    ({"_class_name": "UNet2DConditionModel"}, "the network 'UNet2DConditionModel'"),
    ({"in_channels": 3, "out_channels": 3}, "takes 3 channels and predicts 3"),
    ({"out_channels": 2}, "takes 1 channels and predicts 2"),
    ({"sample_size": 32}, "for images of 32x32"),
    ({"sample_size": None}, "images of no stated size"),
    ({"num_class_embeds": 11}, "11 class embeddings"),
    ({"class_embed_type": "timestep"}, "class features 'timestep'"),
    ({"time_embedding_type": "fourier"}, "fourier time features"),
    ({"down_block_types": ["DownBlock2D"]}, "no network has such options"),
    ({"block_out_channels": [8, 16]}, "conv_in.weight is (16, 1, 3, 3) and not (8, 1, 3, 3)"),
    ({"layers_per_block": 2}, "missing keys: down_blocks.0.resnets.1.norm1.weight"),
    ({"layers_per_block": 1_000_000}, "layers_per_block = 1000000"),
    ({"block_out_channels": [100_000, 100_000]}, "block_out_channels.0 = 100000"),
    ({"sample_size": 10**9}, "sample_size"),
    ({"attention_head_dim": 64}, "attention_head_dim 64 does not divide 32 channels"),
    ({"act_fn": "exec"}, "act_fn = 'exec'"),
    ({"time_embedding_scale": 16}, "time_embedding_scale = 16 is not understood"),
    ({"quantization_config": {"bits": 4}}, 'quantization_config = {"bits": 4} is not understood'),
]
SCHEDULES = [
    ({"prediction_type": "v_prediction"}, "predicts 'v_prediction'"),
    ({"prediction_type": "sample"}, "predicts 'sample'"),
    ({"beta_start": 0.02}, "-b beta_start=0.02 -b beta_end=0.3"),
    ({"num_train_timesteps": 1000}, "-b steps=1000 -b beta_start=0.01"),
    ({"beta_schedule": "squaredcos_cap_v2"}, "betas that are linear in the step only"),
    ({"trained_betas": [0.01] * 19 + [0.5]}, "betas that are linear in the step only"),
    ({"_class_name": "ScoreSdeVeScheduler"}, "describes 'ScoreSdeVeScheduler', which does not"),
    ({"_class_name": "NoScheduler"}, "describes 'NoScheduler', which does not state"),
    ({"predict_epsilon": False}, "predicts 'sample'"),
    ({"rescale_betas_zero_snr": True}, "betas that are linear in the step only"),
    ({"variance_type": "learned_range"}, "predicts a variance"),
    ({"num_train_timesteps": 3_000_000_000}, "num_train_timesteps = 3000000000"),
    ({"trained_betas": [0.5] * 20 + [2]}, "trained_betas.20 = 2"),
    ({"beta_schedule": "mine"}, "beta_schedule = 'mine'"),
    ({"flow_shift": 3.0}, "flow_shift = 3.0 is not understood"),
]


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [(CARD, *row) for row in CARDS] + [(SCHEDULE, *row) for row in SCHEDULES],
)
def test_what_does_not_fit_is_refused(place, name, change, text):
    """Each card that says something else than data and backbone is an error that names it."""
    write_flat(place)
    edit(place / name, lambda card: card | change)
    with pytest.raises(MsgmBenchError) as caught:
        load(place)
    assert text in str(caught.value)


@pytest.mark.parametrize(("classes", "text"), [(None, "no class"), (10, "10 class embeddings")])
def test_a_conditional_run_needs_a_null_class(place, classes, text):
    """Neither an unconditional network nor one of K classes alone will do."""
    write_flat(place, **({} if classes is None else {"num_class_embeds": classes}))
    with pytest.raises(IncompatibleError) as caught:
        load(place, TOLD)
    assert text in caught.value.what
    assert "num_class_embeds 11" in caught.value.allowed


def test_points_take_no_u_net(place):
    """Two coordinates are no image."""
    write_flat(place)
    with pytest.raises(IncompatibleError, match="needs images"):
        load(place, DataStats((2,), None, 0.0, 1.0, 9.0))


def test_files_that_are_not_there(place, tmp_path):
    """No folder, no card, no weights: what was looked for is named."""
    for missing in (place, tmp_path / "a/b/c"):
        with pytest.raises(UsageError, match="is no folder"):
            load(missing)
    write_flat(place)
    (place / SAFE).unlink()
    with pytest.raises(UsageError, match=r"holds no weights") as caught:
        load(place)
    assert SAFE in caught.value.allowed
    (place / CARD).unlink()
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        load(place)


@pytest.mark.parametrize("pickled", [False, True])
def test_damaged_weights(place, pickled):
    """Half a file of either format, and numbers that are none."""
    write_flat(place)
    if pickled:
        hub_layout.pickle_weights(place)
    file = place / (PICKLED if pickled else SAFE)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match="cannot be read"):
        load(place)


def test_weights_of_another_network(place):
    """A tensor too few, and one too many."""
    write_flat(place)
    state = load_file(place / SAFE)
    bias = state.pop("conv_out.bias")
    save_file(state, place / SAFE)
    with pytest.raises(IncompatibleError, match=r"missing keys: conv_out\.bias"):
        load(place)
    save_file(state | {"conv_out.bias": bias, "more": bias.clone()}, place / SAFE)
    with pytest.raises(IncompatibleError, match="unexpected keys: more"):
        load(place)


def test_weights_that_are_not_finite(place):
    """A network that only makes NaN is no base."""
    unet = write_flat(place)
    with torch.no_grad():
        unet.conv_out.bias.fill_(torch.nan)
    unet.save_pretrained(place)
    with pytest.raises(StorageError, match="not finite"):
        load(place)


def test_damaged_cards(place):
    """Cards that are no JSON, or no object."""
    write_flat(place)
    (place / SCHEDULE).write_text("[]")
    with pytest.raises(StorageError, match="a JSON object"):
        load(place)
    (place / CARD).write_text("{")
    with pytest.raises(StorageError, match="not valid JSON"):
        load(place)


@pytest.mark.parametrize("backbone", [VPSDE, SubVPSDE, VESDE])
def test_continuous_backbones_refuse_a_ddpm(place, backbone):
    """Nothing says that discrete betas and labels are those of a process in continuous time."""
    write_flat(place)
    with pytest.raises(IncompatibleError) as caught:
        backbone.create().from_pretrained(str(place), INFO)
    assert "choose --backbone ddpm" in caught.value.hint


def test_a_backbone_of_ones_own_says_that_it_cannot(place):
    """The hooks are there to be overridden; without that, an error that names the backbone."""
    backbone = ToyBackbone.create()
    with pytest.raises(IncompatibleError, match=ToyBackbone.name):
        backbone.from_pretrained(str(place), INFO)
    with pytest.raises(IncompatibleError, match=ToyBackbone.name):
        backbone.save_pretrained(backbone.build(INFO), place)


# The hub -----------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("download", [True, False])
def test_offline(hub, download):
    """The error says where it looked, and how to get and give the files."""
    with pytest.raises(StorageError) as caught:
        DDPM.create(GRID).from_pretrained("google/ddpm-cifar10-32", INFO, download)
    assert str(hub) in caught.value.what
    assert ("could not be downloaded" in caught.value.what) == download
    assert CARD in caught.value.allowed
    assert "hf download google/ddpm-cifar10-32 --local-dir" in caught.value.hint


def test_the_hubs_cache_is_read(hub, tmp_path):
    """A repository in the cache, laid out as huggingface_hub leaves it, needs no network."""
    write_flat(tmp_path / "written")
    retained = hub / "models--someone--tiny-ddpm"
    shutil.copytree(tmp_path / "written", retained / "snapshots" / ("a" * 40))
    (retained / "refs").mkdir()
    (retained / "refs" / "main").write_text("a" * 40)
    actual = DDPM.create(GRID).from_pretrained("someone/tiny-ddpm", INFO, download=False)
    assert actual.sha256 == load(tmp_path / "written").sha256


def test_half_a_repository_is_none(hub, tmp_path, monkeypatch):
    """Cards without weights in the cache, and no network: the same error, with the same way out."""
    write_flat(tmp_path / "written")
    there = hub / "models--someone--tiny-ddpm" / "snapshots" / ("a" * 40)
    there.mkdir(parents=True)
    shutil.copy(tmp_path / "written" / CARD, there / CARD)
    refs = hub / "models--someone--tiny-ddpm" / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    with pytest.raises(StorageError, match="someone/tiny-ddpm is no folder here") as caught:
        DDPM.create(GRID).from_pretrained("someone/tiny-ddpm", INFO, download=False)
    assert "hf download someone/tiny-ddpm" in caught.value.hint


# Writing -----------------------------------------------------------------------------------


def trained(backbone, stats):
    """A small model whose weights are no initial ones."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = backbone.build(stats).eval()
        with torch.no_grad():
            for weights in model.parameters():
                weights.add_(0.02 * torch.randn_like(weights))
    return model


@pytest.mark.parametrize("stats", [INFO, TOLD], ids=["plain", "classes"])
@pytest.mark.parametrize("kind", [DDPM, VPSDE, SubVPSDE, VESDE])
def test_round_trip(place, kind, stats):
    """What is written is read again as the same function, and diffusers loads its network."""
    backbone = kind.create(SMALL)
    model = trained(backbone, stats)
    text = backbone.save_pretrained(model, place)
    actual = kind.create().from_pretrained(str(place), stats)
    again = model_of(actual, stats)
    assert again.process == model.process
    x, t = noised(count=6), torch.linspace(model.process.t_min, 1, 6)
    c = None if stats.classes is None else torch.tensor([0, 3, 9, 10, 10, 5])
    with torch.no_grad():
        assert torch.equal(again.eps(x, t, c), model.eps(x, t, c))
        unet = diffusers.UNet2DModel.from_pretrained(place / "unet")
        label = model.process.timestep(t)
        output = unet(x, label, class_labels=c).sample
        eps = -label.reshape(-1, 1, 1, 1) * output if kind is VESDE else output
        assert torch.equal(eps, model.eps(x, t, c))
    assert ("class_labels=c" in text) == (stats.classes is not None)
    assert backbone.timestep in text


def test_a_process_that_is_another_is_refused(place):
    """A written folder names its process: other betas, another backbone, other data."""
    backbone = VPSDE.create(SMALL)
    backbone.save_pretrained(trained(backbone, INFO), place)
    for other in (VPSDE.create({"beta_max": 10.0}), SubVPSDE.create(), DDPM.create()):
        with pytest.raises(IncompatibleError, match="trained on process Variance"):
            other.from_pretrained(str(place), INFO)


def test_an_mlp_is_not_written(place):
    """diffusers has no such network."""
    backbone = DDPM.create({"network": "mlp"})
    with pytest.raises(IncompatibleError, match="ResidualMLP"):
        backbone.save_pretrained(backbone.build(INFO), place)


def test_diffusers_samples_as_ancestral_sampling_does(place, monkeypatch):
    """From the same noise DDPMPipeline makes the images of the Ancestral solver, all N steps."""
    from diffusers.pipelines.ddpm import pipeline_ddpm
    from diffusers.schedulers import scheduling_ddpm

    backbone = DDPM.create(SMALL | GRID)
    model = trained(backbone, INFO)
    backbone.save_pretrained(model, place)
    pipeline = diffusers.DDPMPipeline.from_pretrained(place)
    pipeline.set_progress_bar_config(disable=True)
    noise = Noise(seed=3, start=0, count=4, device=torch.device("cpu"))
    for module in (pipeline_ddpm, scheduling_ddpm):
        monkeypatch.setattr(module, "randn_tensor", lambda shape, **_: noise.normal(shape[1:]))
    drawn = pipeline(batch_size=4, num_inference_steps=STEPS, output_type="np").images
    again = Noise(seed=3, start=0, count=4, device=torch.device("cpu"))
    with torch.no_grad():
        x = Ancestral(steps=STEPS)(model.eps, model.process, model.shape, again).x
    expected = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert expected.std() > 0.05
    torch.testing.assert_close(torch.from_numpy(drawn), expected, rtol=0, atol=2e-5)


def test_a_conditional_export_has_no_pipeline(place):
    """DDPMPipeline would tell no class; the scheduler is there all the same."""
    backbone = DDPM.create(SMALL)
    text = backbone.save_pretrained(trained(backbone, TOLD), place)
    assert not (place / "model_index.json").exists()
    assert (place / "scheduler" / SCHEDULE).is_file()
    assert "no pipeline" in text
