"""Files that are not read again while they are untouched."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from msgm_builtin.datasets import hashes, images
from msgm_builtin.datasets.images import hash_all


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three files in a folder, and an empty cache; what changed just now counts as old."""
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "RACY_SECONDS", 0.0)
    paths = {name: tmp_path / name for name in ("a", "b", "c")}
    for name, path in paths.items():
        path.write_text(f"content of {name}")
    return paths


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read."""
    names, real = [], images.read_file

    def read_file(path, limit):
        names.append(path.name)
        return real(path, limit)

    monkeypatch.setattr(images, "read_file", read_file)
    return names


def digests(files):
    """SHA-256 of each file as hashlib gives it."""
    return [hashlib.sha256(path.read_bytes()).digest() for path in files.values()]


def hashed(files):
    """SHA-256 of each file as ``hash_all`` gives it."""
    listed = hash_all("pictures", files)
    assert [(image.name, image.path) for image in listed] == list(files.items())
    return [image.sha256 for image in listed]


def test_untouched_files_are_read_once(files, reads):
    """The second start reads none, and knows the same hashes."""
    assert hashed(files) == digests(files)
    assert sorted(reads) == ["a", "b", "c"]
    assert hashed(files) == digests(files)
    assert len(reads) == 3


@pytest.mark.parametrize("how", ["rewrite", "replace", "swap", "link"])
def test_changed_files_are_read_again(how, files, reads, tmp_path):
    """Equal size and a time of change that is set back hide nothing."""
    hashed(files)
    before = files["b"].stat()
    if how == "rewrite":
        files["b"].write_text("CONTENT OF B")
    elif how == "replace":
        (tmp_path / "new").write_text("CONTENT OF B")
        (tmp_path / "new").replace(files["b"])
    elif how == "swap":
        files["a"].rename(tmp_path / "third")
        files["b"].rename(files["a"])
        (tmp_path / "third").rename(files["b"])
    else:
        (tmp_path / "other").write_text("CONTENT OF B")
        files["b"].unlink()
        files["b"].symlink_to(tmp_path / "other")
    os.utime(files["b"], ns=(before.st_atime_ns, before.st_mtime_ns))
    reads.clear()
    assert hashed(files) == digests(files)
    assert reads == (["a", "b"] if how == "swap" else ["b"])


def test_files_that_changed_just_now_are_read_again(files, reads, monkeypatch):
    """Another change could have the same time: such a file is not known again."""
    monkeypatch.setattr(hashes, "RACY_SECONDS", 3600.0)
    hashed(files)
    assert hashed(files) == digests(files)
    assert len(reads) == 6


@pytest.mark.parametrize("content", [b"", b"no array", "objects", "shape"])
def test_a_damaged_index_knows_nothing(content, files, reads):
    """Files are read again, and the index is made again."""
    hashed(files)
    (index,) = images.cache_folder().glob("pictures-hashes-*.npy")
    if content == "shape":
        np.save(index, np.zeros((3, 5), dtype=np.uint8))
    elif content == "objects":
        np.save(index, np.array([{}, {}, {}]), allow_pickle=True)
    else:
        index.write_bytes(content)
    assert hashed(files) == digests(files)
    assert len(reads) == 6
    hashed(files)
    assert len(reads) == 6


def test_a_cache_that_cannot_be_written_costs_time_only(files, reads, tmp_path):
    """Without an index files are read at every start."""
    (tmp_path / "cache").write_text("no folder")
    assert hashed(files) == hashed(files) == digests(files)
    assert len(reads) == 6
