"""Inception features are pytorch-fid's own, from files that are what they should be."""

from __future__ import annotations

import hashlib

import pytest
import torch
from contexts import CPU, Quadrants
from lazy import LazyModule

from msgm_bench import OptionError, StorageError
from msgm_builtin import weights_files
from msgm_builtin.embedders.inception import ADDRESS, FILE, Inception

inception = LazyModule("pytorch_fid.inception")
torchvision = LazyModule("torchvision")

JUDGE = Quadrants()


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A weights file of pytorch-fid's own network with random weights, named by its checksum."""
    with pytest.MonkeyPatch.context() as patch:
        name = "pytorch_fid.inception.load_state_dict_from_url"
        patch.setattr(name, lambda *_, **__: {})
        patch.setattr(torchvision.models.Inception3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        state = inception.fid_inception_v3().state_dict()
    place = tmp_path_factory.mktemp("weights")
    torch.save(state, place / "new.pth")
    short = hashlib.sha256((place / "new.pth").read_bytes()).hexdigest()[:8]
    return (place / "new.pth").rename(place / f"random-{short}.pth")


def images(channels):
    """Two images of 20 pixels."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, channels, 20, 20, generator=generator)


def test_features_are_those_of_pytorch_fid(stored, tmp_path, monkeypatch):
    """The same file, read by pytorch-fid itself from torch hub, gives the same features."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / FILE).symlink_to(stored)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    reference = inception.InceptionV3([inception.InceptionV3.DEFAULT_BLOCK_INDEX]).eval()
    embedder = Inception.create({"path": str(stored)})
    assert embedder.missing_weights(JUDGE) is None
    embedder.load(JUDGE, CPU)
    x = images(3)
    with torch.no_grad():
        expected = reference(x)[0].flatten(1)
    assert torch.equal(embedder.embed(x), expected)
    assert expected.shape == (2, 2048)
    assert float(expected.std()) > 0
    grey = images(1)
    assert torch.equal(embedder.embed(grey), embedder.embed(grey.repeat(1, 3, 1, 1)))
    assert embedder.protocol()["weights"] == stored.stem.rpartition("-")[2]


def test_the_published_file_is_the_one_that_is_looked_for():
    """Name and address are pytorch-fid's."""
    assert ADDRESS == inception.FID_WEIGHTS_URL
    assert ADDRESS.endswith(FILE)


def test_a_damaged_file_is_recognised_by_its_name(tmp_path, monkeypatch):
    """A file whose SHA-256 is not what its name says is not used, wherever it was found."""
    (tmp_path / FILE).write_bytes(b"half of it")
    monkeypatch.setenv(weights_files.VARIABLE, str(tmp_path))
    embedder = Inception()
    assert "is damaged" in embedder.missing_weights(JUDGE)
    with pytest.raises(StorageError, match="SHA-256"):
        embedder.load(JUDGE, CPU)


@pytest.mark.parametrize("content", ["other network", "no weights", "nothing"])
def test_files_of_something_else_are_refused(content, tmp_path):
    """Weights of another network, another format, an empty file: an error names the file."""
    path = tmp_path / "mine.pth"
    if content == "other network":
        torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    else:
        path.write_bytes(b"PK" if content == "no weights" else b"")
    with pytest.raises(StorageError, match=r"mine\.pth does not hold"):
        Inception.create({"path": str(path)}).load(JUDGE, CPU)


def test_a_path_without_a_file_is_refused(tmp_path):
    """A path overrides every other place; one without a file is refused before any training."""
    with pytest.raises(OptionError, match=r"gone\.pth'\nallowed: there is nothing at this path"):
        Inception.create({"path": str(tmp_path / "gone.pth")})


def test_checksums_follow_the_file(tmp_path):
    """A file that is replaced has another checksum at once."""
    path = tmp_path / "weights.pth"
    path.write_bytes(b"first")
    first = weights_files.sha256(path)
    path.write_bytes(b"the second")
    assert first == hashlib.sha256(b"first").hexdigest()
    assert weights_files.sha256(path) == hashlib.sha256(b"the second").hexdigest()
