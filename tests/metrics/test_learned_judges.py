"""Judges that are networks: what they learn, report, refuse, and take from elsewhere."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import balanced_accuracy_score
from subjects import CPU, images
from torch import nn

from msgm_bench import Data, Examples, IncompatibleError, StorageError, Verdict
from msgm_bench.testing import check_judge
from msgm_metrics.attributes import Attributes, cuts
from msgm_metrics.classifier import Classifier
from msgm_metrics.judge_images import pixels, spoil
from msgm_metrics.judge_reports import quality_of, report_of

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
    found = {}
    for cls, data in ((Attributes, FACES), (Classifier, QUARTERS)):
        found[cls] = cls.create(BUDGET)
        found[cls].fit(data, 0, CPU)
    return found


@pytest.mark.parametrize(("cls", "data"), [(Attributes, FACES), (Classifier, QUARTERS)])
def test_conformance(cls, data):
    """Both pass the checks of ``msgm_bench.testing``."""
    check_judge(cls, data, {"width": 4, "steps": 5})


def test_attributes_are_learned(fitted):
    """Marks that are plain to see are told apart, the rare one too, on images not seen before."""
    judge = fitted[Attributes]
    verdict = judge.verdict(pixels(FACES, FACES.test.x))
    assert verdict.classes.dtype == torch.bool
    assert verdict.classes.shape == FACES.test.y.shape
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
    assert float(judge.verdict(noise).recognised.double().mean()) < 0.2
    uniform = torch.rand(x.shape, generator=torch.Generator().manual_seed(4))
    assert not judge.verdict(uniform).recognised.any()
    x[0, 0, 0, 0] = torch.nan
    assert not judge.verdict(x).recognised[0]


def test_thresholds_give_the_true_share():
    """As many items lie above an attribute's threshold as have it; none or all are infinite."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 6, generator=generator)
    y = torch.rand(200, 6, generator=generator) < torch.tensor([0.0, 0.03, 0.2, 0.6, 0.9, 1.0])
    found = cuts(logits, y)
    assert torch.equal((logits > found).sum(dim=0), y.sum(dim=0))
    assert found[0] == torch.inf
    assert found[5] == -torch.inf


def test_shares_are_right_on_other_images(fitted):
    """The judged share of each attribute is its true one, within what 300 items allow."""
    for each in fitted[Attributes].report["attributes"].values():
        assert each["judged_share"] == pytest.approx(each["share"], abs=0.03)


def test_report_is_that_of_scikit_learn():
    """Accuracies and balanced accuracies of random labels; null where only one value occurs."""
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(150, 4, generator=generator) < torch.tensor([0.5, 0.1, 0.3, 0.0])
    said = y ^ (torch.rand(150, 4, generator=generator) < 0.2)
    held = Examples(torch.zeros(150, 1, 4, 4, dtype=torch.uint8), y)
    data = Data(held, held, tuple("abcd"), 2)
    seen = torch.arange(150) < 120
    report = json.loads(json.dumps(report_of(data, Verdict(said, seen))))
    for i, name in enumerate("abc"):
        each = report["attributes"][name]
        expected = balanced_accuracy_score(y[:, i].numpy(), said[:, i].numpy())
        assert each["balanced_accuracy"] == pytest.approx(expected, rel=1e-12)
        assert each["accuracy"] == pytest.approx(float((y == said)[:, i].double().mean()))
    assert report["attributes"]["d"]["balanced_accuracy"] is None
    assert report["recognised"] == 0.8
    a, b = (report["attributes"][name]["balanced_accuracy"] for name in "ab")
    assert quality_of(report, (0, 1)) == min(a, b)
    assert quality_of(report, (0, 3)) is None


def test_gates_change_neither_options_nor_protocol():
    """A gate and a path are no part of what a judge is."""
    plain, strict = Attributes.create(), Attributes.create({"gate": 0.99, "path": "here"})
    assert plain.config.model_dump() == strict.config.model_dump()
    assert plain.config.gate == 0.85
    assert Classifier.create().config.gate == 0.9


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
    assert judge.missing() is None
    judge.check(data)
    judge.fit(data, 7, CPU)
    later.restore(data, judge.state(), CPU)
    x = pixels(data, data.test.x)
    expected = fitted[cls].verdict(x)
    for found in (judge.verdict(x), later.verdict(x)):
        assert torch.equal(found.classes, expected.classes)
        assert torch.equal(found.recognised, expected.recognised)
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
        ({"width": 8}, three, r"head\.bias is \(5,\) and not \(4,\)"),
        ({"width": 8, "network": "resnet"}, QUARTERS, "in one of them only"),
    ):
        with pytest.raises(IncompatibleError, match=words) as caught:
            Classifier.create(options | {"path": path}).check(data)
        assert "width" in str(caught.value)
    with pytest.raises(IncompatibleError, match="of another network"):
        Attributes.create({"width": 8, "path": path}).check(FACES)


def test_weights_that_are_not_there_or_damaged_are_refused(tmp_path):
    """A path that leads nowhere is missing; half a file is an error that names it."""
    gone = Classifier.create({"path": str(tmp_path / "gone")})
    assert "gone: no weights there" in gone.missing()
    assert gone.checksum() == ""
    for name in ("judge.safetensors", "net.pt2"):
        (tmp_path / name).write_bytes(b"half of it")
        judge = Classifier.create({"path": str(tmp_path / name)})
        assert judge.missing() is None
        with pytest.raises(StorageError, match=r"safetensors|pt2") as caught:
            judge.check(QUARTERS)
        assert "torch.export" in str(caught.value)


class Brightest(nn.Module):
    """The brightest quadrant, and a last logit of -1 if asked for."""

    def __init__(self, reject):
        super().__init__()
        self.reject = reject

    def forward(self, x):
        """Logits."""
        means = 10 * nn.functional.adaptive_avg_pool2d(x, 2).mean(dim=1).flatten(1)
        return torch.cat([means, 0 * means[:, :1] - 1], dim=1) if self.reject else means


def exported(module, path, dynamic=True):
    """Write a ``.pt2`` file."""
    shapes = ({0: torch.export.Dim("n")},) if dynamic else None
    program = torch.export.export(module, (torch.rand(2, 1, 8, 8),), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    path.write_bytes(buffer.getvalue())
    return {"path": str(path)}


@pytest.mark.parametrize("reject", [False, True])
def test_an_exported_network_judges(reject, tmp_path):
    """Its arg max is the class, its logits are the features, and it needs no file once fitted."""
    options = exported(Brightest(reject), tmp_path / "net.pt2")
    judge = Classifier.create(options)
    judge.check(QUARTERS)
    judge.fit(QUARTERS, 0, CPU)
    x = pixels(QUARTERS, QUARTERS.test.x)
    state = judge.state()
    (tmp_path / "net.pt2").unlink()
    later = Classifier.create()
    later.restore(QUARTERS, {k: v.clone() for k, v in state.items()}, CPU)
    for found in (judge.verdict(x), later.verdict(x)):
        assert torch.equal(found.classes, Brightest(False)(x).argmax(dim=1))
    assert judge.report["accuracy"] == 1.0
    assert judge.report["recognised"] > 0.9
    torch.testing.assert_close(later.features(x), Brightest(reject)(x))


def test_an_exported_network_judges_attributes(tmp_path):
    """Logits without one for what is no image: thresholds are found, all is recognised."""

    class Marks(nn.Module):
        """Three attributes."""

        def forward(self, x):
            """Logits."""
            corner, edge = x[:, 0, :4, 4:].mean((1, 2)), x[:, 0, :, :2].mean((1, 2))
            return torch.stack([-corner, edge, x[:, 0, 5:7, 4:6].mean((1, 2))], dim=1)

    judge = Attributes.create(exported(Marks(), tmp_path / "net.pt2"))
    judge.fit(FACES, 0, CPU)
    assert judge.report["accuracy"] > 0.99
    assert judge.report["recognised"] == 1.0


def test_exported_networks_that_do_not_fit_are_refused(tmp_path):
    """Another number of outputs, a fixed batch, other images: an error before training."""
    three = exported(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), tmp_path / "three.pt2")
    with pytest.raises(IncompatibleError, match=r"makes \(2, 3\) of 2 images"):
        Classifier.create(three).check(QUARTERS)
    fixed = exported(Brightest(True), tmp_path / "fixed.pt2", dynamic=False)
    with pytest.raises(IncompatibleError, match="dynamic first dimension"):
        Classifier.create(fixed).check(QUARTERS)
    good = exported(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), tmp_path / "good.pt2")
    large = replace(QUARTERS, train=images(40), classes=tuple("abcd"))
    large = replace(large, train=Examples(large.train.x.repeat(1, 1, 2, 2), large.train.y))
    with pytest.raises(IncompatibleError, match=r"shape \(1, 16, 16\)"):
        Classifier.create(good).check(large)


def test_state_of_a_trained_judge_is_plain(fitted, tmp_path):
    """What is stored are tensors that safetensors keeps, thresholds of infinite size too."""
    state = fitted[Attributes].state() | {"cuts": torch.tensor([torch.inf, 0.0, -torch.inf])}
    save_file(state, tmp_path / "judge.safetensors")
    judge = Attributes.create(BUDGET)
    judge.restore(FACES, load_file(tmp_path / "judge.safetensors"), CPU)
    found = judge.verdict(pixels(FACES, FACES.test.x)).classes
    assert not found[:, 0].any()
    assert found[:, 2].all()
