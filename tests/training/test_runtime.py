"""Devices, precision, and checkpoints on the disk."""

from __future__ import annotations

import pytest
import torch

from msgm_bench import DataStats
from msgm_bench.errors import OptionError
from msgm_bench.testing import ToyBackbone, toy_images
from msgm_bench.training import Runtime, checkpoint


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_select(device):
    """A CPU is always there; ``auto`` takes the GPU where there is one."""
    kinds = ("cpu", "cuda") if device == "auto" else ("cpu",)
    assert Runtime.select(device).device.type in kinds
    assert (Runtime.select("auto").device.type == "cuda") == torch.cuda.is_available()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda:x", "meta", "", "cpu:cpu"])
def test_no_such_device(device):
    """An unknown device, or one that this machine lacks, is an OptionError."""
    with pytest.raises(OptionError, match="device") as caught:
        Runtime.select(device)
    assert "auto, cpu" in str(caught.value)


@pytest.mark.parametrize("compiles", [True, False])
def test_compile_is_for_the_network_that_models_call(compiles, monkeypatch):
    """``Model.eps`` calls ``network``: that is what goes through ``torch.compile``."""
    seen = []

    def note(module):
        seen.append(module)

    monkeypatch.setattr(torch.nn.Module, "compile", note)
    model = ToyBackbone.create().build(DataStats.of(toy_images()))
    Runtime(torch.device("cpu"), compile=compiles).place(model)
    assert seen == ([model.network] if compiles else [])


def test_no_such_precision():
    """An unknown precision is an OptionError that names the known ones."""
    with pytest.raises(OptionError, match="precision 'fp8'\nallowed: fp32, tf32, bf16"):
        Runtime.select("cpu", "fp8")


def switches():
    """All that decides how a GPU rounds."""
    cudnn = torch.backends.cudnn
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32,
        cudnn.allow_tf32,
        cudnn.deterministic,
    )


@pytest.mark.parametrize(
    ("precision", "expected", "dtype"),
    [
        ("fp32", ("highest", False, False, True), torch.float32),
        ("tf32", ("high", True, True, True), torch.float32),
        ("bf16", ("high", True, True, True), torch.bfloat16),
    ],
)
@pytest.mark.parametrize("outer", ["highest", "high", "medium"])
def test_precision_is_in_force_inside_only(precision, expected, dtype, outer):
    """Products and convolutions of fp32 are IEEE's; the process is left as it was found."""
    at_first = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(outer)
    try:
        before, layer = switches(), torch.nn.Linear(2, 2)
        with Runtime.select("cpu", precision).active():
            assert switches() == expected
            assert layer(torch.ones(1, 2)).dtype == dtype
        assert switches() == before
    finally:
        torch.set_float32_matmul_precision(at_first)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_weights_that_move_inside_count(precision):
    """A product with weights that a step has doubled is twice the product before it, exactly."""
    layer, x = torch.nn.Linear(3, 2, bias=False), torch.ones(1, 3)
    with Runtime.select("cpu", precision).active():
        before = layer(x)
        with torch.no_grad():
            layer.weight.mul_(2)
        assert torch.equal(layer(x), 2 * before)


def test_an_error_inside_restores_too():
    """A training that fails leaves no precision behind."""
    before = switches()

    def fails():
        with Runtime.select("cpu", "bf16").active():
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        fails()
    assert switches() == before


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_measuring_is_fp32_within_anything(precision):
    """Inside another precision, too: no autocast, no rounded factors."""
    runtime, layer = Runtime.select("cpu", precision, compile=True), torch.nn.Linear(2, 2)
    with runtime.active(), runtime.measuring.active():
        assert switches() == ("highest", False, False, True)
        assert layer(torch.ones(1, 2)).dtype == torch.float32
    assert runtime.measuring.determinants() == Runtime.select("cpu").determinants()


def test_threads_belong_to_the_runtime():
    """Torch has them inside the block, keys name them, and the process has its own afterwards."""
    before = torch.get_num_threads()
    runtime = Runtime.select("cpu", threads=before + 1)
    with runtime.active():
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    assert runtime.determinants()["threads"] == runtime.measuring.threads == before + 1
    assert Runtime.select("cpu").determinants()["threads"] == before


def test_determinants_name_no_host():
    """What keys depend on: torch, kind of device, precision, compilation, threads."""
    state = Runtime.select("cpu", "bf16").determinants()
    assert set(state) == {"torch", "device", "precision", "compile", "threads"}
    assert (state["device"], state["precision"], state["threads"]) == ("cpu", "bf16", 1)
    assert Runtime.select("cpu").hardware()["peak_memory_mib"] > 10


STATE = {"step": 3, "weights": {"w": torch.arange(1000.0)}, "log": [{"step": 1, "loss": 0.5}]}


def test_checkpoint_round_trip(tmp_path):
    """What was saved is loaded; nothing is there before."""
    assert checkpoint.load(tmp_path, torch.device("cpu")) is None
    checkpoint.save(tmp_path, STATE)
    state = checkpoint.load(tmp_path, torch.device("cpu"))
    assert torch.equal(state["weights"]["w"], STATE["weights"]["w"])
    assert (state["step"], state["log"]) == (3, STATE["log"])
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.NAME]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_damaged_checkpoints(share, damage, tmp_path, caplog):
    """Any flipped bit and any missing tail is noticed, told and put out of the way."""
    checkpoint.save(tmp_path, STATE)
    path = tmp_path / checkpoint.NAME
    content = bytearray(path.read_bytes())
    place = int(share * len(content))
    content[place] ^= 1
    path.write_bytes(content if damage == "flip" else content[:place])
    assert checkpoint.load(tmp_path, torch.device("cpu")) is None
    assert "checkpoint.pt is damaged: this stage starts again" in caplog.text
    assert not path.exists()
