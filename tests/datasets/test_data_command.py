"""``msgm-bench data``, ``--data-dir``, presets, and flips in training."""

from __future__ import annotations

import os
from dataclasses import replace

import fake_data
import pytest
import torch

from msgm_bench import (
    DataStats,
    Examples,
    Model,
    Settings,
    Source,
    UniformDequantization,
    VariancePreserving,
)
from msgm_bench.api import PRESETS, merge, on_track
from msgm_bench.cache.fingerprint import data_fingerprint
from msgm_bench.experiment.judge import names_in
from msgm_bench.experiment.model_io import skeleton
from msgm_bench.registry import registry
from msgm_bench.training import NoisedBatches
from msgm_builtin.datasets.mnist import MNIST

IMAGES = {  # shape of an item by default
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "stl10": (3, 64, 64),
    "celeba": (3, 64, 64),
    "image_folder": (3, 64, 64),
}
CAPTIONED = {"scenes": (3, 8, 8), "emoji": (3, 32, 32), "captions": (3, 64, 64)}
CELL = ("--forget", "3", "--backbone", "vpsde", "--method", "unseen", "--dry-run")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """MNIST as if its makers published a small one on this machine; the folder."""
    served = fake_data.write_mnist(tmp_path / "served")
    sources = [
        Source(path.name, (path.as_uri(),), (fake_data.md5(path),), path.stat().st_size)
        for path in sorted(served.iterdir())
    ]
    monkeypatch.setattr(MNIST, "published", tuple(sources))
    return served


def test_list(bench, place):
    """Every dataset with its state and place, and the places that are searched."""
    fake_data.write_cifar10(place / "cifar10")
    (fake_data.write_mnist(place / "mnist") / "t10k-images-idx3-ubyte.gz").unlink()
    code, out, _ = bench("data", "list")
    assert code == 0
    for name in IMAGES:
        assert name in out
    assert "3 of 4 files" in out
    assert "data fetch stl10 (2,640 MB)" in out
    assert str(place) in out.replace("\n", "")


def test_fetch_and_check(bench, tmp_path, published):
    """Fetched into ``--data-dir``; the check is content; a second fetch has nothing to do."""
    folder = tmp_path / "mine"
    code, out, err = bench("data", "fetch", "mnist", "--data-dir", folder)
    assert code == 0
    assert "fetched into" in out
    assert "t10k-images-idx3-ubyte.gz" in err
    code, out, _ = bench("data", "check", "mnist", "--data-dir", folder)
    assert code == 0
    assert "4 files, 0 missing or wrong" in out
    code, out, _ = bench("data", "fetch", "mnist", "--data-dir", folder)
    assert code == 0
    assert "here already" in out


def test_check_finds_what_is_wrong(bench, place, published):
    """A wrong checksum and a missing file are distinguished, and the exit code is 1."""
    bench("data", "fetch", "mnist")
    (place / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(b"something else")
    (place / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    code, out, _ = bench("data", "check", "mnist")
    assert code == 1
    assert "wrong" in out
    assert "missing" in out
    assert "4 files, 2 missing or wrong" in out


def test_a_file_that_cannot_be_the_published_one_is_not_read(bench, place, published):
    """A sparse file of a tebibyte is wrong at once, whether its size is published or not."""
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        bench("data", "fetch", "mnist")
        with (place / "mnist" / name).open("r+b") as file:
            file.truncate(2**40)
        code, out, _ = bench("data", "check", "mnist")
        assert code == 1
        assert "1,099,511,627,776 bytes" in " ".join(out.split())
        (place / "mnist" / name).unlink()


def test_check_without_a_checksum(bench, place):
    """Unpacked files have no published checksum: they are read, and that is no failure."""
    fake_data.write_mnist(place / "mnist", packed=False)
    code, out, _ = bench("data", "check")
    assert code == 0
    assert out.endswith("4 files, 0 missing or wrong\n")
    assert "checksum is" in " ".join(out.split())
    assert "wrong checksum" not in out


def test_check_reads_what_has_no_checksum(bench, place):
    """A file that is cut in half is wrong; beside it, or beside a missing one, none is vouched."""
    cut = fake_data.write_mnist(place / "mnist", packed=False) / "train-images-idx3-ubyte"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    code, out, _ = bench("data", "check")
    assert code == 1
    assert "4 files, 1 missing or wrong, 3 not checked" in out
    cut.unlink()
    code, out, _ = bench("data", "check", "digits", "mnist")
    assert code == 1
    assert "4 files, 1 missing or wrong, 3 not checked" in out


def test_check_compares_the_faces_with_the_tables(bench, place):
    """A folder of images is right if it has those of the tables; an empty one or a file is not.

    The small tables themselves are not those that were published.
    """
    images = fake_data.write_celeba(place) / "img_align_celeba"
    _, out, _ = bench("data", "check", "celeba")
    assert "3 files, 2 missing or wrong\n" in out
    for path in images.iterdir():
        path.unlink()
    _, out, _ = bench("data", "check", "celeba")
    assert "3 files, 3 missing or wrong\n" in out
    images.rmdir()
    images.touch()
    _, out, _ = bench("data", "check", "celeba")
    assert "3 files, 3 missing or wrong\n" in out


def test_fetch_offline(bench, tmp_path):
    """Without a network the error names the file and how to get it by hand; the exit code is 1."""
    for name in ("celeba", "mnist", "stl10", "cifar10"):
        code, _, err = bench("data", "fetch", name)
        assert code == 1
        assert f"{name}: cannot download" in err
        assert "no network in tests" in err
        assert "by hand" in err
    assert not list(tmp_path.rglob("*.gz"))


def test_fetch_of_nothing(bench):
    """A dataset that needs no download says so; an unknown one is a usage error."""
    code, _, err = bench("data", "fetch", "digits")
    assert code == 2
    assert "nothing to download\nallowed: celeba, cifar10, fashion_mnist, mnist, stl10\n" in err
    code, _, err = bench("data", "fetch", "mnits")
    assert code == 2
    assert "did you mean 'mnist'" in err


def test_fetch_goes_on(bench, place, published):
    """What follows a dataset without a download is fetched; the exit code tells of the first."""
    code, out, err = bench("data", "fetch", "digits", "mnist")
    assert code == 2
    assert "digits: there is nothing to download" in err
    assert "mnist: fetched into" in out
    assert (place / "mnist" / "t10k-labels-idx1-ubyte.gz").exists()


def test_a_wrong_download_leaves_nothing(bench, place, published):
    """What does not have the published checksum is not kept."""
    (published / "t10k-images-idx3-ubyte.gz").write_bytes(b"something else")
    code, _, err = bench("data", "fetch", "mnist")
    assert code == 1
    assert "wrong checksum" in err
    assert not (place / "mnist" / "t10k-images-idx3-ubyte.gz").exists()


def test_data_dir_of_a_run(bench, tmp_path):
    """``--data-dir`` leads a run to the files, and is forgotten after it."""
    fake_data.write_mnist(tmp_path / "mine" / "mnist", train=100)
    code, out, err = bench("run", "--dataset", "mnist", "--data-dir", tmp_path / "mine", *CELL)
    assert code == 0, err
    assert "to do" in out
    assert "MSGM_BENCH_DATA" not in os.environ


@pytest.mark.parametrize("dataset", ["mnist", "gaussians"])
@pytest.mark.parametrize("option", [True, False])
def test_a_data_folder_that_is_not_there(bench, tmp_path, monkeypatch, dataset, option):
    """A mistyped folder is an error even where another place has the files."""
    fake_data.write_mnist(tmp_path / "debian" / "mnist")
    if not option:
        monkeypatch.setenv("MSGM_BENCH_DATA", str(tmp_path / "mnie"))
    named = ("--data-dir", tmp_path / "mnie") if option else ()
    for words in (("data", "list"), ("data", "check"), ("run", "--dataset", dataset, *CELL)):
        code, _, err = bench(*words, *named)
        assert code == 2
        assert f"data folder {tmp_path / 'mnie'} is not there\nallowed: a folder" in err
        assert "data fetch" in err
    assert not (tmp_path / "mnie").exists()


def test_fetch_makes_its_folder(bench, tmp_path, published):
    """The folder may be new; where it cannot be made, that is said."""
    (tmp_path / "file").touch()
    code, _, err = bench("data", "fetch", "mnist", "--data-dir", tmp_path / "file" / "in")
    assert code == 1
    assert "cannot make the data folder" in err
    assert bench("data", "fetch", "mnist", "--data-dir", tmp_path / "a" / "b")[0] == 0
    assert len(list((tmp_path / "a" / "b").rglob("*.gz"))) == 4


def test_a_run_without_data(bench):
    """A run without its files fails before anything is trained, and says where they belong."""
    code, _, err = bench("run", "--dataset", "cifar10", *CELL[:-1])
    assert code == 1
    assert "not found: data_batch_1" in err
    assert "Traceback" not in err


def test_a_dry_run_downloads_nothing(bench, place, published):
    """Where files are absent a dry run names them and the command that fetches them, and ends."""
    code, _, err = bench("run", "--dataset", "mnist", *CELL)
    assert code == 1
    assert "not on this machine: t10k-images-idx3-ubyte.gz" in err
    assert "msgm-bench data fetch mnist" in err
    assert list(place.rglob("*.gz")) == []


def test_doctor_downloads_nothing(bench, place, monkeypatch):
    """The doctor says which files are here, and reads and fetches none of them."""
    monkeypatch.setattr(MNIST, "load", lambda self: pytest.fail("read"))
    code, out, _ = bench("doctor")
    assert code == 0
    assert "data of mnist: not here" in out


# A folder of one's own --------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    """Five cats, ten dogs, and a file to skip."""
    fake_data.write_images(tmp_path / "photos" / "cat", 5)
    fake_data.write_images(tmp_path / "photos" / "dog", 10, seed=100)
    (tmp_path / "photos" / "cat" / "notes.txt").touch()
    return tmp_path / "photos"


def test_check_of_a_folder(bench, photos, caplog):
    """Classes, counts and skipped files, once; the exit code tells of what cannot be read."""
    code, out, err = bench("data", "check", "image_folder", "--data-dir", photos)
    assert "skipped" not in err + caplog.text
    assert code == 0, err
    words = " ".join(out.split())
    assert "12 to train on, 3 held out, of 3x16x16" in words
    assert "cat 4 1 dog 8 2" in words
    assert out.endswith("\nskipped: 1 .txt\n1 file, 0 missing or wrong\n")
    fake_data.write_images(photos / "cat", 1, side=20)
    code, out, _ = bench("data", "check", "image_folder", "--data-dir", photos)
    assert code == 1
    assert "images of 2 sizes" in " ".join(out.split())
    options = ("-d", "size=16", "--data-dir", photos)
    assert bench("data", "check", "image_folder", *options)[0] == 0
    code, _, err = bench("data", "check", "image_folder", "digits", *options)
    assert code == 2
    assert "-d is for one dataset" in err


def test_check_of_no_folder(bench):
    """Without a folder nothing is checked, and the error says how to name one."""
    code, _, err = bench("data", "check", "image_folder")
    assert code == 2
    assert "no folder of images: none was named\nallowed: --data-dir DIR" in err


def test_a_folder_called_like_yaml(bench, photos, tmp_path, caplog):
    """Blanks, a hash, a year: the text is the folder's name."""
    for name in ("my photos #2", "2024", "null"):
        photos.rename(tmp_path / name)
        photos = tmp_path / name
        code, _, err = bench("data", "check", "image_folder", "-d", f"folder={photos}")
        assert code == 0, err
        named = ("--data-dir", tmp_path, "-d", f"folder={name}", "-d", "size=32")
        cell = ("--forget", "cat", "--backbone", "vpsde", "--method", "unseen", "--dry-run")
        code, _, err = bench("run", "--dataset", "image_folder", *named, *cell)
        assert code == 0, err
        assert "skipped: 1 .txt" in caplog.text


def test_home_is_a_folder(bench, photos, monkeypatch):
    """``-d folder=~`` is the home folder, not null."""
    monkeypatch.setenv("HOME", str(photos))
    assert bench("data", "check", "image_folder", "-d", "folder=~")[0] == 0
    assert bench("data", "check", "image_folder", "-d", "data_dir=~")[0] == 0


def test_info_of_a_folder(bench, photos):
    """``info`` shows classes, counts and skipped files, and names where files are missing."""
    named = ("--dataset", "image_folder", "--data-dir", photos, "-d", "size=32", "--no-measure")
    code, out, err = bench("info", *named, "--backbone", "vpsde")
    assert code == 0, err
    assert "classes cat 4 + 1; dog 8 + 2 skipped: 1 .txt" in " ".join(out.split())
    code, out, _ = bench("info", "--dataset", "cifar10", "--backbone", "vpsde", "--no-measure")
    assert "classes airplane; automobile; bird" in " ".join(out.split())


def test_another_folder_in_one_process(bench, photos, tmp_path, monkeypatch):
    """The data of a session are those of the folder that is named now."""
    other = tmp_path / "other"
    fake_data.write_images(other / "cow", 5)
    fake_data.write_images(other / "dog", 5, seed=100)
    words = ("info", "--dataset", "image_folder", "-d", "size=32", "--no-measure")
    for folder, name in ((photos, "cat"), (other, "cow")):
        _, out, _ = bench(*words, "--data-dir", folder, "--backbone", "vpsde")
        assert f"classes {name} 4 + 1" in " ".join(out.split())


# Presets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", [*IMAGES, *CAPTIONED])
def test_presets_fit_their_images(name, preset):
    """Every preset is valid, names a judge, and builds a network for the dataset's images."""
    cls, text = registry().entry("datasets", name).cls, name in CAPTIONED
    prompts = ("a red circle and a blue ring",) if text else None
    info = DataStats((IMAGES | CAPTIONED)[name], 256, 0.0, 0.3, 20.0, prompts=prompts)
    backbones = [entry.cls for entry in registry().entries("backbones")]
    for backbone in (c for c in backbones if c.text == text and not c.needs_base):
        layers = (on_track(plugin.presets.get(preset, {}), text) for plugin in (cls, backbone))
        settings = Settings.model_validate(merge(*layers))
        assert settings.judge["name"]
        assert settings.budget(False).steps > settings.budget(True).steps
        fields = backbone.options_type.model_fields
        options = {key: value for key, value in settings.backbone.items() if key in fields}
        model = skeleton(backbone.create(options), info)
        millions = sum(weight.numel() for weight in model.parameters()) / 1e6
        assert (millions < 2) == (preset == "quick")
        judge = dict(settings.judge)
        for chosen in names_in(judge.pop("name")):
            assert registry().create("judges", chosen, judge)
        for task, options in settings.tasks.items():
            registry().create("tasks", task, options)


def test_the_papers_budgets():
    """CIFAR-10 trains as the authors' configuration says; everybody fine-tunes 80,000 steps."""
    settings = Settings.model_validate(registry().entry("datasets", "cifar10").cls.presets["paper"])
    budget = settings.budget(False)
    assert (budget.steps, budget.batch_size, budget.warmup_steps) == (660_000, 400, 5000)
    assert (budget.learning_rate, budget.ema_decay, budget.max_grad_norm) == (2e-4, 0.9999, 1.0)
    assert settings.budget(True).steps == 80_000
    assert settings.backbone["channels"] == (128, 256, 256, 256)


def test_padding_lets_a_preset_halve_thrice(bench, tmp_path):
    """28 px refuse four widths, and padded to 32 they take them."""
    fake_data.write_mnist(tmp_path / "mine" / "mnist", train=100)
    wide = ("--data-dir", tmp_path / "mine", "-b", "channels=[32,32,32,32]", *CELL)
    code, _, err = bench("run", "--dataset", "mnist", *wide)
    assert code == 2
    assert "cannot be halved 3 times" in err
    code, _, err = bench("run", "--dataset", "mnist", "-d", "pad=true", *wide)
    assert code == 0, err


# Flips ------------------------------------------------------------------------------------


@pytest.fixture
def gradients():
    """Images that grow brighter from left to right, each of another height."""
    ramp = torch.arange(8, dtype=torch.uint8).expand(64, 1, 4, 8).clone()
    return Examples(ramp + 3 * torch.arange(64, dtype=torch.uint8).reshape(-1, 1, 1, 1), ramp[:, 0])


def batch(items, flip, step=0):
    """Grey levels of a training batch, before the noise of the dequantisation."""
    model = Model(torch.nn.Identity(), VariancePreserving(), UniformDequantization(256), (1, 4, 8))
    noised_batches = NoisedBatches({"all": items}, model, 7, 64, flip)
    drawn = noised_batches.batch("all", step)
    return torch.floor(drawn.x0 * 256), drawn


def test_flips_mirror_half_of_the_images(gradients):
    """Each image is itself or its mirror image, about as often, and anew at each step."""
    mirrored = []
    for step in range(8):
        x, _ = batch(gradients, True, step)
        rising = x[:, 0, 0, 1] > x[:, 0, 0, 0]
        upright = torch.where(rising.reshape(-1, 1, 1, 1), x, x.flip(-1))
        assert torch.equal(upright.sort(dim=0).values, gradients.x.float().sort(dim=0).values)
        mirrored.append(~rising)
    share = torch.stack(mirrored).double().mean().item()
    assert share == pytest.approx(0.5, abs=0.1)  # 4.5 standard deviations of 512 draws
    assert not torch.equal(mirrored[0], mirrored[1])


def test_flips_are_drawn_from_the_seed(gradients):
    """The same step gives the same batch, and without flips the other draws are as they were."""
    first, second = (batch(gradients, True)[1] for _ in range(2))
    assert torch.equal(first.x0, second.x0)
    plain, drawn = batch(gradients, False)
    assert torch.equal(plain.sort(dim=0).values, gradients.x.float().sort(dim=0).values)
    assert not torch.equal(drawn.eps, first.eps)


def test_flips_count_in_the_fingerprint(place):
    """Data that are trained with flips are other data, whatever their protocol is called."""
    fake_data.write_mnist(place / "mnist")
    data = MNIST.create().load()
    assert data_fingerprint(data) != data_fingerprint(replace(data, flip=True))
    assert data_fingerprint(data) == data_fingerprint(replace(data, flip=False))
