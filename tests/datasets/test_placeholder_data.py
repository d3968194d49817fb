"""What is known of the image datasets where their files are not here."""

from __future__ import annotations

import json

import fake_data
import pytest
import torch

from msgm_bench import DatasetInfo, OptionError, StorageError, UsageError
from msgm_bench.estimate.placeholder_data import known_data, placeholder_data
from msgm_bench.estimate.run_estimate import copies, estimate_run
from msgm_bench.experiment.model_io import skeleton
from msgm_bench.experiment.spec import parse_spec
from msgm_bench.registry import registry
from msgm_bench.testing import check_dataset
from msgm_builtin.datasets.celeba import CelebA
from msgm_builtin.datasets.cifar10 import CIFAR10
from msgm_builtin.datasets.files import FileDataset
from msgm_builtin.datasets.mnist import MNIST
from msgm_builtin.datasets.stl10 import STL10

SHAPES = {
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "stl10": (3, 64, 64),
    "celeba": (3, 64, 64),
}
COUNTS = {
    "mnist": (60_000, 10_000),
    "fashion_mnist": (60_000, 10_000),
    "cifar10": (50_000, 10_000),
    "stl10": (5_000, 8_000),
    "celeba": (162_770, 19_962),
}


def request(**fields):
    """A request without a method and without what is to be forgotten."""
    common = {"forget": (), "method": "", "backbone": "vpsde"}
    return parse_spec(common | fields)


@pytest.mark.parametrize("options", [{"pad": True}, {"pad": False}])
def test_info_of_mnist(options, place):
    """``info`` follows the options as the items do."""
    fake_data.write_mnist(place / "mnist")
    check_dataset(MNIST, options, excerpt=True)


@pytest.mark.parametrize("options", [{"size": 32}, {"split": "paper"}])
def test_info_of_stl10(options, place):
    """Size and split; the paper's split trains on all and scores on the training part."""
    fake_data.write_stl10(place)
    check_dataset(STL10, options, excerpt=True, leak=float("split" in options))
    info = STL10.create({"split": "paper"}).info()
    assert (info.train, info.test) == (13_000, 5_000)


def test_info_of_celeba(place):
    """Size and split; 182,637 faces are trained on or validated, 202,599 there are."""
    fake_data.write_celeba(place)
    check_dataset(CelebA, {"size": 16, "split": "valid"}, excerpt=True)
    valid, test = (CelebA.create({"split": split}).info() for split in ("valid", "test"))
    assert valid.train + valid.test == 182_637
    assert valid.train + valid.test + test.test == 202_599


def test_info_of_cifar10(place):
    """Mirroring changes no item."""
    fake_data.write_cifar10(place)
    check_dataset(CIFAR10, {"flip": False}, excerpt=True)


@pytest.mark.parametrize("name", SHAPES)
def test_noise_in_the_place_of_items(name):
    """Every class is on some item, and the items have the published shape and type."""
    info = registry().create("datasets", name).info()
    data = placeholder_data(info)
    assert data.shape == SHAPES[name]
    assert data.train.x.dtype == torch.uint8
    for i in range(len(data.classes)):
        assert 0 < int(data.members(data.train, (i,)).sum()) < len(data.train)
    assert data.train.y.ndim == (2 if name == "celeba" else 1)


@pytest.mark.parametrize("name", SHAPES)
def test_outline_without_files(name, monkeypatch):
    """Each dataset is described by what is published; nothing is looked for in the network."""

    def fetch(self, progress):
        raise AssertionError("it tried to download")

    monkeypatch.setattr(FileDataset, "fetch", fetch)
    estimate = estimate_run(request(dataset=name, preset="quick"), measure=False)
    assert not estimate.data_is_local
    assert tuple(estimate.data["shape"]) == SHAPES[name]
    assert (estimate.data["train"], estimate.data["test"]) == COUNTS[name]
    assert estimate.data["classes"] == (40 if name == "celeba" else 10)
    bounds = {task.name: (task.items, task.is_upper_bound) for task in estimate.tasks}
    options = {task.name: task.options["count"] for task in estimate.tasks}
    assert bounds["generation"] == (options["generation"], False)
    for task in ("likelihood", "inpainting", "reconstruction"):
        assert bounds[task] == (2 * options[task], True)


def test_the_paper_on_celeba():
    """The owner's question: 80,000 steps from a base of 1,300,000, in a U-Net of 35.7 M."""
    spec = request(
        dataset="celeba", preset="paper", forget="bangs", method="obt", regime="finetune"
    )
    estimate = estimate_run(spec, measure=False)
    assert estimate.forget == ["Bangs"]
    assert [(s.methods, s.base, s.budget["steps"]) for s in estimate.training] == [
        (["standard"], True, 1_300_000),
        (["obt"], False, 80_000),
    ]
    known = known_data(spec)
    backbone = registry().create("backbones", "vpsde", estimate.network["options"])
    network = skeleton(backbone, known.loaded.stats).network
    assert estimate.network["parameters"] == sum(w.numel() for w in network.parameters())
    assert estimate.network["class"] == "UNet"
    assert {t.name: (t.sampler, t.nfe) for t in estimate.tasks} == {
        "generation": ("em", 1000),
        "inpainting": ("", 2000),
        "likelihood": ("", 750),
        "reconstruction": ("heun", 1000),
    }
    assert json.loads(json.dumps(estimate.data))["shape"] == [3, 64, 64]


def test_what_the_data_decide_is_left_open():
    """VE takes its largest noise from the data: unknown without them, known when it is given."""
    common = {"dataset": "mnist", "backbone": "vesde", "preset": "quick"}
    estimate = estimate_run(request(**common), measure=False).process
    assert (estimate["sigma_max"], estimate["sigma_min"]) == (None, 0.01)
    request_with_sigma = request(**common, backbone_params={"sigma_max": 7.0})
    assert estimate_run(request_with_sigma, measure=False).process["sigma_max"] == 7.0


def test_what_is_here_is_read(place):
    """With the files there, numbers and sigma_max are those of the items."""
    fake_data.write_mnist(place / "mnist", train=40, test=20)
    spec = request(dataset="mnist", backbone="vesde", preset="quick", forget="3")
    estimate = estimate_run(spec, measure=False)
    assert estimate.data_is_local
    assert (estimate.data["train"], estimate.data["test"]) == (40, 20)
    x = (MNIST.create().load().train.x.double().flatten(1) + 0.5) / 256
    assert estimate.process["sigma_max"] == pytest.approx(float(torch.cdist(x, x).max()))
    assert {task.name: task.items for task in estimate.tasks}["likelihood"] == 20


def test_names_are_checked_without_files():
    """What is to be forgotten is checked against the published names."""
    with pytest.raises(OptionError, match="did you mean 'bangs'"):
        estimate_run(request(dataset="celeba", forget="bang"), measure=False)


def test_an_unknown_shape_is_an_error(monkeypatch):
    """Without files and without ``info`` the error says what to do; a folder's says it, too."""
    monkeypatch.setattr(CIFAR10, "info", lambda self: None)
    with pytest.raises(StorageError, match="unknown until its files are here"):
        estimate_run(request(dataset="cifar10"), measure=False)
    with pytest.raises(UsageError, match="no folder of images"):
        estimate_run(request(dataset="image_folder"), measure=False)


def test_captions_in_the_place_of_captions():
    """Each item's caption asks for the concept that it carries, and each concept has a prompt."""
    info = DatasetInfo((3, 4, 4), ("circle", "ring", "red"), 100, 10, prompts=True)
    data = placeholder_data(info)
    book = data.prompts
    assert data.train.y.ndim == 2
    for y, c in zip(data.train.y, data.train.c, strict=True):
        assert y.nonzero().flatten().tolist() == list(book[int(c)].concepts)
    assert [len(rows) for rows in book.groups((0,)).values() if rows] == [1, 2]


def test_copies_of_an_item_have_its_caption():
    """As many as there are to be; none where the data have no items."""
    info = DatasetInfo((3, 4, 4), ("circle", "ring"), 100, 10, prompts=True)
    train = placeholder_data(info).train
    many = copies(train[1:], 5)
    assert many.x.shape == (5, 3, 4, 4)
    assert many.c.tolist() == [int(train.c[1])] * 5
    assert len(copies(train[:0], 5)) == 0
