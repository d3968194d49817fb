"""Steps of training read nothing back from the device, which would make the host wait for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from msgm_bench import (
    DiscreteDDPM,
    Method,
    Prompts,
    SubVariancePreserving,
    Training,
    VarianceExploding,
    VariancePreserving,
)
from msgm_bench.api import model as api_model
from msgm_bench.registry import registry
from msgm_bench.testing.toy_tracks import TOY_TRACKS, ToyTrack
from msgm_bench.training import NoisedBatches, Runtime, Trainer

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense,  # float(x), int(x), bool(x), x.item()
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.bincount,
    aten.lift_fresh,  # torch.tensor(numbers): a copy that waits for the device
}
BY_MASK = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}  # nonzero inside
PROCESSES = (
    VarianceExploding(),
    VariancePreserving(),
    SubVariancePreserving(),
    DiscreteDDPM(),
)
OPTIONS = {
    "ca": {"num_items": 8, "nfe": 2},
    "erasediff": {"lambda_rule": "fixed"},
    "esd": {"retain_weight": 0.5, "trajectory_steps": 3},
    "selective_amnesia": {"samples_per_class": 4, "nfe": 2, "fisher_timesteps": 2},
}


class Reads(TorchDispatchMode):
    """Lists the operations of a block whose outcome the host has to read."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the operation, note what is a read."""
        packet = func.overloadpacket
        if packet in READS or (packet in BY_MASK and any(map(is_mask, args[1]))):
            self.names.append(str(func))
        return func(*args, **kwargs or {})


def is_mask(index) -> bool:
    """Whether indexing with ``index`` has a size that only its values tell."""
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).all()),
        lambda x: x[x > 0],
        lambda x: x.masked_fill(x > 0, 0.0).nonzero(),
        lambda x: x.long().unique(),
        lambda x: torch.tensor([1, 2]),
    ],
)
def test_reads_are_seen(read):
    """Numbers, masks, sizes that depend on values, and tensors made of the host's numbers."""
    with Reads() as reads:
        read(torch.arange(3.0))
    assert len(reads.names) >= 1


def trainer_of(name: str, track: ToyTrack) -> Trainer | None:
    """The real trainer of a method on toy images; None where the method trains no such model."""
    data = track.data()
    method: Method = registry().create("methods", name, OPTIONS.get(name, {}))
    torch.manual_seed(0)
    model, regime = track.model(), method.regimes[0]
    if method.closed_form or method.skip(model, regime) is not None:
        return None
    trains = method.trains(model, regime)
    for key, parameter in model.network.named_parameters():
        parameter.requires_grad_(key in trains)
    retain, forget = data.split(data.train, (0,))
    splits = {"all": data.train, "retain": retain, "forget": forget}
    budget = Training(steps=1000, batch_size=16)  # a logged row every fifth step
    return Trainer(
        model,
        method,
        NoisedBatches({k: v for k, v in splits.items() if k in method.needs}, model, 0, 16),
        budget,
        Runtime(torch.device("cpu")),
        0,
        track.base(),
        data.labels((0,)),
        concepts=(0,),
        prompts=data.prompts,
    )


@pytest.mark.parametrize("track", TOY_TRACKS, ids=lambda track: track.name)
@pytest.mark.parametrize("name", registry().names("methods"))
def test_steps_between_logged_rows_read_nothing(name, track, tmp_path, monkeypatch):
    """Third and fourth step of every method; conditions are compared with 0 .. K on CPUs alone."""
    trainer = trainer_of(name, track)
    if trainer is None:
        pytest.skip("trains no such model step by step")
    monkeypatch.setattr(api_model, "_check_condition", lambda *_: None)
    with trainer._in_session():
        trainer._start(tmp_path)
        units = trainer.method.num_preparation_steps(trainer)
        for _ in range(units):
            trainer._run_preparation_step(units, lambda *_: None)
        for _ in range(2):
            trainer._advance(lambda *_: None)
        with Reads() as reads:
            for _ in range(2):
                trainer._advance(lambda *_: None)
    assert trainer.step == 4
    expected = set() if not trains_encoder(trainer) else {"aten._unique2.default"}
    assert set(reads.names) == expected


def trains_encoder(trainer: Trainer) -> bool:
    """Whether gradients go to a text encoder, which then sees a batch's different prompts alone."""
    conditioning = trainer.model.conditioning
    return isinstance(conditioning, Prompts) and any(
        p.requires_grad for p in conditioning.encoder.parameters()
    )


class Copies(TorchDispatchMode):
    """Counts copies from one device to another inside the block."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the operation, compare devices of what goes in and comes out."""
        result = func(*args, **kwargs or {})
        if func.overloadpacket in (aten._to_copy, aten.copy_):
            tensors = [value for value in (*args, result) if isinstance(value, Tensor)]
            self.count += len({tensor.device for tensor in tensors}) > 1
        return result


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_processes_copy_nothing_to_the_device(process):
    """Their tables are on the device after the first batch; ``meta`` is any but the CPU."""
    t, x = torch.rand(4, device="meta"), torch.zeros(4, 2, device="meta")
    process.perturb(x, process.sample_times(t), x)
    with Copies() as copies:
        process.perturb(x, process.sample_times(t), x)
        process.noise_to_signal(t)
        process.timestep(t)
    assert copies.count == 0
