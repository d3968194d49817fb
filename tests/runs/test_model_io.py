"""``model.json`` and its weights: what the card says is what is built, or nothing is."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from msgm_bench import DataStats, MsgmBenchError
from msgm_bench.errors import IncompatibleError, StorageError, UsageError
from msgm_bench.experiment import model_io
from msgm_bench.experiment.model_card import CARD, WEIGHTS, model_folder
from msgm_bench.experiment.model_io import check_model, load_model, save_model
from msgm_builtin.backbones.ddpm import DDPM
from msgm_builtin.backbones.networks import UNet
from msgm_builtin.backbones.vpsde import VPSDE

CPU = torch.device("cpu")
INFO = DataStats((1, 8, 8), levels=17, nll_offset=0.0, std=0.3, max_distance=9.0)
UNET = {"network": "unet", "channels": (8, 16), "layers": 1, "attention": (4,)}
MLP = {"network": "mlp", "width": 16, "depth": 1}


def stored(folder, options, backbone=DDPM, info=INFO):
    """A model folder."""
    folder.mkdir(exist_ok=True)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        made = backbone.create(options)
        model = made.build(info).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
    save_model(folder, model, made, info)
    return model


def edit(folder, change):
    """Rewrite the card."""
    card = json.loads((folder / CARD).read_text("utf-8"))
    (folder / CARD).write_text(json.dumps(change(card)), encoding="utf-8")


@pytest.mark.parametrize("options", [UNET, MLP, UNET | {"up_attention": "last"}])
@pytest.mark.parametrize("classes", [None, 3])
def test_a_model_is_read_as_it_was_written(tmp_path, options, classes):
    """The same function of the same weights."""
    info = replace(INFO, classes=classes)
    model = stored(tmp_path, options, VPSDE, info)
    again = load_model(tmp_path, CPU)
    x, t = torch.randn(4, 1, 8, 8), torch.linspace(0.1, 1, 4)
    with torch.no_grad():
        assert torch.equal(again.eps(x, t), model.eps(x, t))


def test_the_card_says_what_shapes_do_not(tmp_path):
    """Heads, norms, activation, time features, the last layer and the process stand in it."""
    stored(tmp_path, UNET)
    card = json.loads((tmp_path / CARD).read_text("utf-8"))
    assert card["format"] == "msgm-bench/model@3"
    network = card["network"]
    assert network["attention_head_dim"] is None  # one head
    assert (network["norm_num_groups"], network["norm_eps"]) == (4, 1e-5)
    assert (network["act_fn"], network["time_embedding_type"]) == ("silu", "positional")
    assert network["last_layer"] == "zero at first"
    assert card["process"]["process"] == "DiscreteDDPM"


MEANINGS = [
    ("attention_head_dim", 8),
    ("norm_eps", 1e-6),
    ("norm_num_groups", 8),
    ("act_fn", "gelu"),
    ("freq_shift", 1),
    ("flip_sin_to_cos", False),
    ("center_input_sample", True),
    ("downsample_padding", 0),
    ("resnet_time_scale_shift", "scale_shift"),
    ("prediction", "v"),
    ("something_new", 1),
]


@pytest.mark.parametrize(("key", "value"), MEANINGS)
def test_weights_that_mean_something_else_are_refused(tmp_path, key, value):
    """Weights fit names and shapes, and their card says that they mean another network."""
    stored(tmp_path, UNET)
    edit(tmp_path, lambda card: card | {"network": card["network"] | {key: value}})
    with pytest.raises(IncompatibleError, match=f"network has {key}") as caught:
        load_model(tmp_path, CPU)
    assert "repeat the command" in caught.value.hint


def test_another_process_is_refused(tmp_path):
    """The card's process is the one that the options build."""
    stored(tmp_path, MLP)
    edit(tmp_path, lambda card: card | {"process": card["process"] | {"beta_end": 0.5}})
    with pytest.raises(IncompatibleError, match=r"process has beta_end = 0\.5"):
        load_model(tmp_path, CPU)


def test_older_cards_are_refused_in_one_sentence(tmp_path):
    """The error names both formats and the command to repeat."""
    stored(tmp_path, MLP)
    edit(tmp_path, lambda card: card | {"format": "msgm-bench/model@2"})
    with pytest.raises(UsageError, match="'msgm-bench/model@2'") as caught:
        load_model(tmp_path, CPU)
    assert "repeat the command that trained the model" in caught.value.hint


BAD = [
    (lambda c: c | {"options": c["options"] | {"width": 100_000}}, "width"),
    (lambda c: c | {"options": c["options"] | {"depth": 1_000_000}}, "depth"),
    (lambda c: c | {"options": c["options"] | {"width": 32}}, "is .* and not"),
    (lambda c: c | {"data": c["data"] | {"shape": [10**9]}}, r"data\.shape\.0 = 1000000000"),
    (lambda c: c | {"data": c["data"] | {"levels": "17"}}, r"data\.levels = '17'"),
    (lambda c: c | {"data": c["data"] | {"classes": 10**9}}, r"data\.classes"),
    (lambda c: c | {"limits": 1}, "limits = 1"),
    (
        lambda c: c | {"limits": {"required_task_options": {"generation": 5}}},
        "required_task_options",
    ),
    (lambda c: c | {"backbone": "../evil"}, "backbone"),
    (lambda c: c | {"more": None}, "more = None is not understood"),
    (lambda c: {k: v for k, v in c.items() if k != "network"}, "lacks network"),
    (lambda c: [c], "has the format"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_cards_out_of_bounds_are_refused_before_memory_is_taken(
    tmp_path, monkeypatch, change, words
):
    """The field is named, and neither weights nor a network with memory are made."""
    stored(tmp_path, MLP)
    edit(tmp_path, change)
    monkeypatch.setattr(model_io.Model, "to", None)  # what a loaded model would be asked
    with pytest.raises(UsageError, match=words):
        load_model(tmp_path, CPU)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_cards_are_an_error_or_the_model(tmp_path, data):
    """Values changed, left out or added at any depth: an error of ours, or the same model."""
    if not (tmp_path / "whole.json").exists():
        stored(tmp_path, MLP)
        (tmp_path / CARD).rename(tmp_path / "whole.json")
    card = json.loads((tmp_path / "whole.json").read_text("utf-8"))
    expected = copy.deepcopy(card)
    part = data.draw(st.sampled_from([card, card["options"], card["data"], card["network"]]))
    key = data.draw(st.sampled_from(sorted(part)) | st.text(max_size=4))
    value = data.draw(
        st.none()
        | st.booleans()
        | st.integers(-2, 10**12)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5)
        | st.lists(st.integers(0, 10**6), max_size=3)
    )
    if data.draw(st.booleans()):
        part.pop(key, None)
    else:
        part[key] = value
    (tmp_path / CARD).write_text(json.dumps(card), encoding="utf-8")
    try:
        model = load_model(tmp_path, CPU)
    except MsgmBenchError:
        return
    assert model.shape == (1, 8, 8)
    assert card["network"] == expected["network"]
    assert card["process"] == expected["process"]


def test_weights_are_compared_with_the_card(tmp_path):
    """A tensor too few, too many or too large is named; what is not finite is refused early."""
    stored(tmp_path, UNET)
    state = load_file(tmp_path / WEIGHTS)
    bias = state.pop("unet.conv_out.bias")
    for changed, words in (
        (state, r"missing keys: unet\.conv_out\.bias"),
        (state | {"unet.conv_out.bias": bias, "more": bias}, "unexpected keys: more"),
        (state | {"unet.conv_out.bias": torch.zeros(10**6)}, r"\(1000000,\) and not \(1,\)"),
    ):
        save_file({name: tensor.clone() for name, tensor in changed.items()}, tmp_path / WEIGHTS)
        with pytest.raises(IncompatibleError, match=words):
            load_model(tmp_path, CPU)
    save_file(state | {"unet.conv_out.bias": bias * torch.nan}, tmp_path / WEIGHTS)
    with pytest.raises(StorageError, match=r"not finite: unet\.conv_out\.bias"):
        check_model(tmp_path, INFO)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    """Neither for the card nor for the weights."""
    for name in (CARD, WEIGHTS):
        folder = tmp_path / name.partition(".")[0]
        stored(folder, MLP)
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
        with pytest.raises(MsgmBenchError, match="leads out of its folder"):
            load_model(folder, CPU)


def test_where_the_model_of_a_run_is(tmp_path):
    """In the folder itself, or in ``model/``; anything else is left as it is."""
    assert model_folder(tmp_path) == tmp_path
    stored(tmp_path / "model", MLP)
    assert model_folder(tmp_path) == tmp_path / "model"
    assert model_folder(tmp_path / "model") == tmp_path / "model"
    assert model_folder(Path("someone/tiny")) == Path("someone/tiny")


def test_heads_are_part_of_the_meaning():
    """The same weights with one head and with two are two functions: why cards say it."""
    info = INFO
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = DDPM.create(UNET).build(info).eval()
        torch.nn.init.normal_(model.network.unet.conv_out.weight)
        one = DDPM.create(
            {"network": dict(model.network.unet.config) | {"attention_head_dim": 8}}
        ).build(info)
    assert isinstance(one.network, UNet)
    one.network.load_state_dict(model.network.state_dict(), strict=True)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 1.0])
    with torch.no_grad():
        assert not torch.allclose(one.eval().eps(x, t), model.eps(x, t), rtol=1e-3)
