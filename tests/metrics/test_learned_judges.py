"""Judges that are networks: what they learn, report, refuse, and take from elsewhere."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace

import pytest
import torch
from contexts import CPU, images
from lazy import LazyModule
from safetensors.torch import load_file, save_file
from sklearn.metrics import balanced_accuracy_score
from torch.nn import functional

from msgm_bench import (
    Data,
    Examples,
    IncompatibleError,
    MsgmBenchError,
    Prediction,
    StorageError,
    UsageError,
)
from msgm_bench.testing import check_judge
from msgm_builtin.judges.attributes import Attributes, cuts
from msgm_builtin.judges.augmentation import pixels, spoil
from msgm_builtin.judges.classifier import Classifier
from msgm_builtin.judges.reports import quality_of, report_of
from msgm_builtin.weights_files import sha256

timm = LazyModule("timm")
torchvision = LazyModule("torchvision")

BUDGET = {"width": 8, "steps": 120}
NAMES = ("Dark", "Left", "Rare")


def marked(count, seed):
    """Grey 8x8 images: a black corner, a white left edge (half of them), a white spot (a tenth)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(5, 11, (count, 1, 8, 8), generator=generator)
    y = torch.rand(count, 3, generator=generator) < torch.tensor([0.5, 0.5, 0.1])
    x[y[:, 0], :, :4, 4:] = 0
    x[y[:, 1], :, :, :2] = 16
    x[y[:, 2], :, 5:7, 4:6] = 16
    return Examples(x.to(torch.uint8), y)


FACES = Data(marked(600, 1), marked(300, 2), NAMES, 17, protocol="marks@1")
QUARTERS = Data(images(200, seed=1), images(80, seed=2), tuple("abcd"), 17, protocol="quarters@1")


@pytest.fixture(scope="module")
def fitted():
    """Both judges, fitted."""
    actual = {}
    for cls, data in ((Attributes, FACES), (Classifier, QUARTERS)):
        actual[cls] = cls.create(BUDGET)
        actual[cls].fit(data, 0, CPU)
    return actual


@pytest.mark.parametrize(("cls", "data"), [(Attributes, FACES), (Classifier, QUARTERS)])
def test_conformance(cls, data):
    """Both pass the checks of ``msgm_bench.testing``."""
    check_judge(cls, data, {"width": 4, "steps": 5})


def test_attributes_are_learned(fitted):
    """Plain marks are distinguished, the rare one too, on held-out images."""
    judge = fitted[Attributes]
    prediction = judge.predict(pixels(FACES, FACES.test.x))
    assert prediction.classes.dtype == torch.bool
    assert prediction.classes.shape == FACES.test.y.shape
    report = judge.report
    assert list(report["attributes"]) == list(NAMES)
    assert report["accuracy"] > 0.97
    assert report["items"] == 300
    for i in range(3):
        assert judge.quality([i]) > 0.9
    assert report["recognised"] > 0.9


@pytest.mark.parametrize(("cls", "data"), [(Attributes, FACES), (Classifier, QUARTERS)])
def test_what_is_no_image_is_rejected(cls, data, fitted):
    """Noise and shuffled pixels are not recognised, nor is an image with a pixel that is NaN."""
    judge, x = fitted[cls], pixels(data, data.test.x[:80])
    noise = spoil(x, torch.Generator().manual_seed(3))
    assert float(judge.predict(noise).recognised.double().mean()) < 0.2
    uniform = torch.rand(x.shape, generator=torch.Generator().manual_seed(4))
    assert not judge.predict(uniform).recognised.any()
    x[0, 0, 0, 0] = torch.nan
    assert not judge.predict(x).recognised[0]


def test_thresholds_give_the_true_share():
    """As many items lie above an attribute's threshold as have it; none or all are infinite."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 6, generator=generator)
    y = torch.rand(200, 6, generator=generator) < torch.tensor([0.0, 0.03, 0.2, 0.6, 0.9, 1.0])
    actual = cuts(logits, y)
    assert torch.equal((logits > actual).sum(dim=0), y.sum(dim=0))
    assert actual[0] == torch.inf
    assert actual[5] == -torch.inf


def test_shares_are_right_on_other_images(fitted):
    """The judged share of each attribute is its true one, within what 300 items allow."""
    for entry in fitted[Attributes].report["attributes"].values():
        assert entry["judged_share"] == pytest.approx(entry["share"], abs=0.03)


def test_report_is_that_of_scikit_learn():
    """Accuracies and balanced accuracies of random labels; null where only one value occurs."""
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(150, 4, generator=generator) < torch.tensor([0.5, 0.1, 0.3, 0.0])
    labels = y ^ (torch.rand(150, 4, generator=generator) < 0.2)
    held = Examples(torch.zeros(150, 1, 4, 4, dtype=torch.uint8), y)
    data = Data(held, held, tuple("abcd"), 2)
    seen = torch.arange(150) < 120
    report = json.loads(json.dumps(report_of(data, Prediction(labels, seen))))
    for i, name in enumerate("abc"):
        entry = report["attributes"][name]
        expected = balanced_accuracy_score(y[:, i].numpy(), labels[:, i].numpy())
        assert entry["balanced_accuracy"] == pytest.approx(expected, rel=1e-12)
        assert entry["accuracy"] == pytest.approx(float((y == labels)[:, i].double().mean()))
    assert report["attributes"]["d"]["balanced_accuracy"] is None
    assert report["recognised"] == 0.8
    a, b = (report["attributes"][name]["balanced_accuracy"] for name in "ab")
    assert quality_of(report, (0, 1)) == min(a, b)
    assert quality_of(report, (0, 3)) is None


def test_gates_change_neither_options_nor_protocol():
    """A gate and a path are no part of what a judge is."""
    plain, strict = Attributes.create(), Attributes.create({"gate": 0.99, "path": "here"})
    assert plain.options.model_dump() == strict.options.model_dump()
    assert plain.options.gate == 0.85
    assert Classifier.create().options.gate == 0.9


@pytest.mark.parametrize(
    ("cls", "data", "words"),
    [
        (Classifier, FACES, "-j name=attributes"),
        (Attributes, QUARTERS, "-j name=classifier"),
        (Attributes, replace(FACES, levels=None), "images"),
        (
            Classifier,
            replace(QUARTERS, train=Examples(QUARTERS.train.x, QUARTERS.train.y * 0)),
            "of one class",
        ),
    ],
)
def test_data_that_do_not_suit_are_refused(cls, data, words):
    """Other labels, points, images of one class: an error before training says what to do."""
    with pytest.raises(IncompatibleError, match=words):
        cls.create().check(data)


# Weights from elsewhere -------------------------------------------------------------------


@pytest.fixture
def stored(fitted, tmp_path):
    """The folder ``judge/`` of a run, for each of the judges."""
    for cls, judge in fitted.items():
        (tmp_path / cls.name).mkdir()
        save_file(judge.state(), tmp_path / cls.name / "judge.safetensors")
    return tmp_path


@pytest.mark.parametrize(("cls", "data"), [(Attributes, FACES), (Classifier, QUARTERS)])
@pytest.mark.parametrize("whole", [True, False])
def test_weights_of_a_run_judge_as_they_did(cls, data, whole, fitted, stored):
    """From the folder or the file, after fitting and after restoring: the same verdicts."""
    path = stored / cls.name / ("" if whole else "judge.safetensors")
    judge, later = (cls.create({"width": 8, "path": str(path)}) for _ in range(2))
    assert judge.missing_weights() is None
    judge.check(data)
    judge.fit(data, 7, CPU)
    later.restore(data, judge.state(), CPU)
    x = pixels(data, data.test.x)
    expected = fitted[cls].predict(x)
    for actual in (judge.predict(x), later.predict(x)):
        assert torch.equal(actual.classes, expected.classes)
        assert torch.equal(actual.recognised, expected.recognised)
    assert judge.report == fitted[cls].report
    assert judge.protocol()["weights"] == judge.checksum()
    assert len(judge.checksum()) == 64
    assert str(stored) not in json.dumps(judge.protocol())
    assert "weights" not in fitted[cls].protocol()


def test_weights_of_another_network_are_refused(stored, tmp_path):
    """Another width, other classes, another judge's: the error names the tensor and the remedy."""
    path = str(stored / "classifier")
    three = replace(QUARTERS, classes=tuple("abc"))
    for options, data, words in (
        ({"width": 16}, QUARTERS, "of another network"),
        ({"width": 8}, three, r"head\.weight is \(5, 64\) and not \(4, 64\)"),
        ({"width": 8, "network": "resnet"}, QUARTERS, "missing keys"),
    ):
        with pytest.raises(IncompatibleError, match=words) as caught:
            Classifier.create(options | {"path": path}).check(data)
        assert "width" in str(caught.value)
    with pytest.raises(IncompatibleError, match="threshold alone"):
        Attributes.create({"width": 8, "path": path}).check(FACES)


ODD = [
    ({"exported": torch.zeros(9, dtype=torch.uint8)}, "unexpected keys: exported"),
    ({"threshold": torch.zeros(3)}, r"threshold of shape \(3,\)"),
    ({"threshold": torch.tensor(torch.nan)}, "threshold that is NaN"),
    ({"head.bias": torch.full((5,), torch.nan)}, r"not finite: head\.bias"),
    ({"head.bias": torch.zeros(5, dtype=torch.int64)}, "head.bias is torch.int64"),
]


@pytest.mark.parametrize(("change", "words"), ODD)
def test_odd_tensors_are_refused(stored, change, words):
    """A tensor that the network does not have, of another kind, or that is no number."""
    file = stored / "classifier" / "judge.safetensors"
    save_file(load_file(file) | change, file)
    with pytest.raises(MsgmBenchError, match=words):
        Classifier.create({"width": 8, "path": str(file)}).check(QUARTERS)


def test_weights_that_are_not_there_or_damaged_are_refused(tmp_path):
    """A path that leads nowhere is missing; half a file is an error that names it."""
    gone = Classifier.create({"path": str(tmp_path / "gone")})
    assert "gone: no weights there" in gone.missing_weights()
    assert gone.checksum() == ""
    (tmp_path / "judge.safetensors").write_bytes(b"half of it")
    judge = Classifier.create({"path": str(tmp_path / "judge.safetensors")})
    assert judge.missing_weights() is None
    with pytest.raises(StorageError, match=r"judge\.safetensors cannot be read"):
        judge.check(QUARTERS)


def test_what_cannot_be_weights_is_not_hashed(tmp_path):
    """A tebibyte of zeros: refused by its header, or by its size where it has none."""
    for name, words in (("judge.safetensors", "the header of"), ("x.pth", "at most")):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**40)
        with pytest.raises(StorageError, match=words):
            sha256(tmp_path / name)


def test_programs_and_pickles_are_never_read(tmp_path):
    """A ``.pt2`` that would run code, a pickle, a link to one: refused by name with what to do."""
    touched = tmp_path / "touched"

    class Trap:
        """Unpickling it makes a file."""

        def __reduce__(self):
            return (open, (str(touched), "w"))

    for name in ("evil.pt2", "evil.pt", "evil.bin", "evil"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        judge = Classifier.create({"path": str(tmp_path / name)})
        for call in (judge.check, lambda data, judge=judge: judge.fit(data, 0, CPU)):
            with pytest.raises(StorageError, match="programs and pickles are never read") as caught:
                call(QUARTERS)
            assert "save_file" in caught.value.hint
    assert not touched.exists()


def test_weights_that_change_are_refused(stored):
    """What was hashed for the key of the stage is what is loaded, or nothing."""
    file = stored / "classifier" / "judge.safetensors"
    judge = Classifier.create({"width": 8, "path": str(file)})
    state, stat = load_file(file), file.stat()
    assert judge.checksum()
    save_file(state | {"threshold": state["threshold"] / 2}, file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(StorageError, match="have changed"):
        judge.fit(QUARTERS, 0, CPU)


# Networks of libraries --------------------------------------------------------------------

TIMM = {"library": "timm", "name": "test_resnet", "mean": [0.5], "std": [0.5], "size": 32}
TORCHVISION = {"library": "torchvision", "name": "squeezenet1_1", "size": 32}


def borrowed(library, outputs):
    """A library's network by its own call, with weights that are no initial ones."""
    torch.manual_seed(0)
    if library["library"] == "timm":
        network = timm.create_model(library["name"], num_classes=outputs, in_chans=1)
    else:
        network = torchvision.models.get_model(library["name"], num_classes=outputs)
    return network.eval()


@pytest.mark.parametrize("library", [TIMM, TORCHVISION], ids=["timm", "torchvision"])
@pytest.mark.parametrize("reject", [False, True])
def test_a_network_of_a_library_judges(library, reject, tmp_path):
    """Its logits are those of the library's own network, and it needs no file once fitted."""
    network = borrowed(library, 4 + reject)
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    options = {"network": library, "path": str(tmp_path / "mine.safetensors")}
    judge = Classifier.create(options)
    judge.check(QUARTERS)
    judge.fit(QUARTERS, 0, CPU)
    state = judge.state()
    assert set(state) == {*network.state_dict(), "threshold"}
    save_file(state, tmp_path / "judge.safetensors")
    later = Classifier.create({"network": library})
    later.restore(QUARTERS, load_file(tmp_path / "judge.safetensors"), CPU)
    x = pixels(QUARTERS, QUARTERS.test.x)
    large = functional.interpolate(x, (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        if library is TIMM:
            expected = network((large - 0.5) / 0.5)
        else:
            expected = network(large.expand(-1, 3, -1, -1))
    for actual in (judge, later):
        torch.testing.assert_close(actual.features(x), expected)
        assert torch.equal(actual.predict(x).classes, expected[:, :4].argmax(dim=1))


def test_a_network_of_a_library_is_trained_where_there_are_no_weights():
    """Without a path it learns from the data as the judge's own networks do."""
    library = {"library": "timm", "name": "test_resnet"}
    judge = Classifier.create({"network": library, "steps": 3})
    judge.fit(QUARTERS, 0, CPU)
    assert judge.logits(pixels(QUARTERS, QUARTERS.test.x)).shape == (80, 5)


@pytest.mark.parametrize(
    ("library", "words"),
    [
        ({"library": "timm", "name": "resnet_of_mine"}, "timm has no network 'resnet_of_mine'"),
        ({"library": "torchvision", "name": "inception_v3"}, "torchvision has no network"),
        ({"library": "timm", "name": "hf-hub:someone/evil"}, "text that matches"),
        ({"library": "timm", "name": "local-dir:/tmp"}, "text that matches"),
        ({"library": "keras", "name": "resnet50"}, "library: timm or torchvision"),
        ({"library": "timm", "name": "test_vit"}, r"shape \(1, 8, 8\)"),
        (TIMM | {"mean": [0.5, 0.5, 0.5]}, r"shape \(1, 8, 8\)"),
    ],
)
def test_networks_that_no_library_has_are_refused(library, words):
    """A name that would download or run something, one that is not there, one that does not fit."""
    with pytest.raises(UsageError, match=words):
        Classifier.create({"network": library}).check(QUARTERS)


def test_state_of_a_trained_judge_is_plain(fitted, tmp_path):
    """What is stored are tensors that safetensors keeps, thresholds of infinite size too."""
    state = fitted[Attributes].state() | {"cuts": torch.tensor([torch.inf, 0.0, -torch.inf])}
    save_file(state, tmp_path / "judge.safetensors")
    judge = Attributes.create(BUDGET)
    judge.restore(FACES, load_file(tmp_path / "judge.safetensors"), CPU)
    actual = judge.predict(pixels(FACES, FACES.test.x)).classes
    assert not actual[:, 0].any()
    assert actual[:, 2].all()
