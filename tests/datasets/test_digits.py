"""scikit-learn's digits: every image once, unchanged, in a split that no seed moves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from msgm_bench import Backbone, Codec, Data, DataStats, UniformDequantization
from msgm_builtin.backbones.ddpm import DDPM
from msgm_builtin.backbones.vesde import VESDE
from msgm_builtin.backbones.vpsde import VPSDE
from msgm_builtin.datasets.digits import LEVELS, Digits, held_out


@pytest.fixture(scope="module")
def data() -> Data:
    """The dataset."""
    return Digits.create().load()


def codec(backbone: type[Backbone], data: Data) -> Codec:
    """The codec of a model on these data."""
    options = {"network": "mlp", "width": 8, "depth": 1}
    return backbone.create(options).build(DataStats.of(data)).codec


def lines(x: Tensor, y: Tensor) -> list[bytes]:
    """Pixels and label of each item."""
    table = torch.cat([x.flatten(1), y[:, None].to(torch.uint8)], dim=1).numpy()
    return [row.tobytes() for row in table]


def test_there_are_1797_images_of_17_levels(data: Data) -> None:
    """8x8 bytes from 0 to 16, all seventeen of them in use."""
    assert len(data.train) + len(data.test) == 1797
    assert data.shape == (1, 8, 8)
    assert data.train.x.dtype == torch.uint8
    assert data.train.y.dtype == torch.int64
    assert data.levels == LEVELS == 17
    for part in (data.train, data.test):
        assert part.x.unique().tolist() == list(range(17))
    assert data.classes == tuple("0123456789")


def test_bytes_are_sklearns(data: Data) -> None:
    """Both parts put together are scikit-learn's images with its labels, byte for byte."""
    bunch = load_digits()
    images = bunch.images.astype(np.uint8)
    assert np.array_equal(images, bunch.images)
    table = np.concatenate(
        [images.reshape(1797, 64), bunch.target[:, None].astype(np.uint8)], axis=1
    )
    actual = lines(data.train.x, data.train.y) + lines(data.test.x, data.test.y)
    assert sorted(actual) == sorted(row.tobytes() for row in table)


def test_split_is_disjoint_covering_and_stratified(data: Data) -> None:
    """Every item is in one part, in the file's order, and of each class a quarter is held out."""
    y = torch.from_numpy(load_digits().target)
    test = held_out(y)
    images = torch.from_numpy(load_digits().images).to(torch.uint8)[:, None]
    assert torch.equal(data.test.x, images[test])
    assert torch.equal(data.train.x, images[~test])
    assert torch.equal(data.test.y, y[test])
    assert torch.equal(data.train.y, y[~test])
    for label in range(10):
        count = int((y == label).sum())
        assert int((data.test.y == label).sum()) == count // 4
        assert int((data.train.y == label).sum()) == count - count // 4


def test_no_image_is_in_both_parts(data: Data) -> None:
    """The file has no duplicates that straddle the split."""
    train = {row.tobytes() for row in data.train.x.numpy()}
    assert not any(row.tobytes() in train for row in data.test.x.numpy())


def test_every_fourth_of_a_class_is_held_out() -> None:
    """By hand: the fourth and the eighth of each label, whatever lies between them."""
    y = torch.tensor([0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 2])
    assert torch.nonzero(held_out(y)).flatten().tolist() == [5, 8, 11]


def test_data_are_the_same_every_time(data: Data) -> None:
    """Loading again gives the same bytes in the same order."""
    again = Digits.create().load()
    assert torch.equal(data.train.x, again.train.x)
    assert torch.equal(data.test.x, again.test.x)


def test_forgetting_splits_by_label(data: Data) -> None:
    """D_f is the named classes and D_g the rest, in both parts."""
    targets = data.targets(["3", "7"])
    for part in (data.train, data.test):
        retain, forget = data.split(part, targets)
        assert len(retain) + len(forget) == len(part)
        assert set(forget.y.tolist()) == {3, 7}
        assert set(retain.y.tolist()) == set(range(10)) - {3, 7}


@pytest.mark.parametrize(
    ("backbone", "low", "offset"),
    [
        (VESDE, 0.0, math.log2(17)),
        (VPSDE, -1.0, math.log2(17 / 2)),
        (DDPM, -1.0, math.log2(17 / 2)),
    ],
)
def test_codec_interval_and_bits_offset(
    data: Data, backbone: type[Backbone], low: float, offset: float
) -> None:
    """log2(17) bits on VE's [0, 1], log2(17/2) on the others' [-1, 1]."""
    actual = codec(backbone, data)
    assert isinstance(actual, UniformDequantization)
    assert (actual.n_levels, actual.low, actual.high) == (17, low, 1.0)
    assert actual.bounds == (low, 1.0)
    assert actual.bits_offset == pytest.approx(offset, rel=1e-15)
    assert actual.unit == "bits/dim"


@pytest.mark.parametrize("backbone", [VESDE, VPSDE])
def test_codec_round_trip(data: Data, backbone: type[Backbone]) -> None:
    """Dequantised with any noise, every grey level comes back, and stays in its interval."""
    actual = codec(backbone, data)
    x = data.test.x
    generator = torch.Generator().manual_seed(0)
    draws = (None, torch.zeros(x.shape), torch.rand(x.shape, generator=generator) * 0.999)
    for u in draws:
        z = actual.encode(x, u)
        assert z.dtype == torch.float32
        assert float(z.min()) >= actual.low
        assert float(z.max()) <= actual.high
        levels = (actual.decode(z).double() * 17 + 1e-5).floor().clamp(0, 16)
        assert torch.equal(levels.to(torch.uint8), x)


@pytest.mark.parametrize("backbone", [VESDE, VPSDE])
def test_codec_fills_its_interval_evenly(data: Data, backbone: type[Backbone]) -> None:
    """A bin is (high - low)/17 wide; black begins at low and white ends at high."""
    actual = codec(backbone, data)
    x = torch.arange(17, dtype=torch.uint8).reshape(17, 1, 1, 1)
    start = actual.encode(x, torch.zeros(x.shape)).flatten()
    end = actual.encode(x, torch.ones(x.shape)).flatten()
    width = (actual.high - actual.low) / 17
    torch.testing.assert_close(end - start, torch.full((17,), width))
    torch.testing.assert_close(start[1:], end[:-1])
    assert float(start[0]) == actual.low
    assert float(end[-1]) == actual.high


def test_codec_clamps_what_a_model_overshoots(data: Data) -> None:
    """Samples outside the interval are seen as black and white."""
    actual = codec(VPSDE, data)
    assert actual.decode(torch.tensor([-3.0, -1.0, 0.0, 1.0, 5.0])).tolist() == [0, 0, 0.5, 1, 1]


def test_uniform_noise_has_the_entropy_that_the_offset_says(data: Data) -> None:
    """A uniform model on the interval has log2(17) bits/dim in grey levels, on either interval."""
    for backbone in (VESDE, VPSDE):
        actual = codec(backbone, data)
        model_space = math.log2(actual.high - actual.low)
        assert model_space + actual.bits_offset == pytest.approx(math.log2(17), rel=1e-15)
