"""Where files are looked for, what is said if they are nowhere, and downloads."""

from __future__ import annotations

import functools
import http.server
import io
import os
import shutil
import tarfile
import threading
import zipfile

import fake_data
import pytest

from msgm_bench import Source, StorageError, UsageError
from msgm_builtin.datasets import download as downloads
from msgm_builtin.datasets import files
from msgm_builtin.datasets.cifar10 import CIFAR10
from msgm_builtin.datasets.mnist import MNIST, FashionMNIST


def silent(name, done, total):
    """Progress that nobody sees."""


def held(folder):
    """Every file below a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_places_in_order(tmp_path, place):
    """Option, environment, the user's data folder, Debian's: the first that has the files wins.

    A named folder has to be there.
    """
    dataset = MNIST.create({"data_dir": str(tmp_path / "option")})
    with pytest.raises(UsageError, match=r"data folder .*option is not there"):
        dataset.located()
    (tmp_path / "option").mkdir()
    expected = [tmp_path / "option", place, tmp_path / "home" / "msgm-bench", tmp_path / "debian"]
    assert dataset.places() == expected
    for folder in reversed(expected):
        fake_data.write_mnist(folder / "mnist")
        assert {path.parent for path in dataset.located().values()} == {folder / "mnist"}


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw", "MNIST", "."])
@pytest.mark.parametrize("packed", [True, False])
def test_layouts_of_mnist(place, folder, packed):
    """Our folder, torchvision's and the files themselves are found, packed or not."""
    fake_data.write_mnist(place / folder, packed=packed)
    assert len(MNIST.create().load().train) == 40


def test_fashion_where_debian_puts_it(tmp_path):
    """``/usr/share/datasets/fashion-mnist`` is the last place, and needs no option."""
    fake_data.write_mnist(tmp_path / "debian" / "fashion-mnist")
    assert len(FashionMNIST.create().load().test) == 20


def test_namesakes_are_not_mixed_up(tmp_path, monkeypatch):
    """MNIST is not read from a folder that is Fashion-MNIST's, though the files look alike."""
    folder = fake_data.write_mnist(tmp_path / "fashion-mnist")
    monkeypatch.setenv("MSGM_BENCH_DATA", str(folder))
    assert FashionMNIST.create().located()
    assert not MNIST.create().located()


def test_a_whole_folder_goes_before_a_fuller_place(tmp_path, place):
    """A folder that lacks a file is passed over where another has all."""
    (fake_data.write_mnist(place / "mnist") / "t10k-labels-idx1-ubyte.gz").unlink()
    fake_data.write_mnist(tmp_path / "home" / "msgm-bench" / "mnist")
    assert len(MNIST.create().load().test) == 20


@pytest.mark.parametrize("allowed", [True, False])
def test_missing_files(place, allowed):
    """Offline the error names the files, the places and the ways to get them."""
    there = fake_data.write_mnist(place / "fashion_mnist") / "t10k-labels-idx1-ubyte.gz"
    there.unlink()
    with pytest.raises(StorageError) as caught:
        FashionMNIST.create({"download": allowed}).load()
    output = str(caught.value)
    for part in (
        "not found: t10k-labels-idx1-ubyte.gz (",
        str(place),
        "debian",
        "msgm-bench data fetch fashion_mnist",
        "apt-get install dataset-fashion-mnist",
        "--data-dir",
        "MSGM_BENCH_DATA",
    ):
        assert part in output
    assert ("no network in tests" in output) == allowed


def test_a_folder_of_ones_own_needs_no_checksum(place):
    """Files that nobody published are read as they are."""
    fake_data.write_mnist(place / "mnist")
    assert MNIST.create().load().classes == tuple("0123456789")


def test_missing_data_is_downloaded_when_read(tmp_path, place, monkeypatch):
    """Reading downloads what is nowhere, into the folder that the user named."""
    served = fake_data.write_mnist(tmp_path / "served")
    sources = [
        Source(path.name, (path.as_uri(),), (fake_data.md5(path),)) for path in served.iterdir()
    ]
    monkeypatch.setattr(MNIST, "published", tuple(sources))
    assert len(MNIST.create().load().train) == 40
    assert held(place / "mnist") == held(served)


def test_fetch_leaves_what_is_there(tmp_path, place, monkeypatch):
    """A file of the user's own is not overwritten by what was published."""
    served = fake_data.write_mnist(tmp_path / "served", train=80)
    mine = fake_data.write_mnist(place / "mnist")
    (mine / "t10k-labels-idx1-ubyte.gz").unlink()
    sources = [Source(path.name, (path.as_uri(),)) for path in sorted(served.iterdir())]
    monkeypatch.setattr(MNIST, "published", tuple(sources))
    MNIST.create().fetch(silent)
    assert len(MNIST.create().load().train) == 40


def test_archives_are_unpacked(tmp_path, place, monkeypatch):
    """CIFAR-10 comes as an archive: fetched, verified, unpacked, and the archive taken away."""
    fake_data.write_cifar10(tmp_path / "served")
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tmp_path / "served" / "cifar-10-batches-py", "cifar-10-batches-py")
    holds = CIFAR10.published[0].holds
    source = Source(
        archive.name, (archive.as_uri(),), (fake_data.md5(archive),), archive.stat().st_size, holds
    )
    monkeypatch.setattr(CIFAR10, "published", (source,))
    assert CIFAR10.create().fetch(silent) == place / "cifar10"
    assert len(CIFAR10.create().load().train) == 100
    assert [path.name for path in (place / "cifar10").iterdir()] == ["cifar-10-batches-py"]
    CIFAR10.create().fetch(lambda *_: pytest.fail("it was here"))


# Downloads --------------------------------------------------------------------------------


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; under ``/short/`` it promises more than it sends."""

    def do_GET(self):
        """A file, or ten of a thousand bytes."""
        if self.path.startswith("/short/"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"too little")
            return
        super().do_GET()

    def log_message(self, *arguments):
        """Quiet."""


@pytest.fixture
def server(tmp_path):
    """``(address, folder)`` of a server on this machine."""
    folder = tmp_path / "www"
    folder.mkdir()
    handler = functools.partial(Server, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}", folder
        served.shutdown()
        thread.join()


def test_download_with_progress_and_checksum(server, tmp_path):
    """Progress is heard up to the last byte, and the file is the one that was served."""
    address, folder = server
    (folder / "file").write_bytes(os.urandom(3 << 20))
    source = Source("file", (f"{address}/file",), (fake_data.md5(folder / "file"),))
    heard = []
    path = downloads.download(source, tmp_path / "here", lambda *values: heard.append(values))
    assert path.read_bytes() == (folder / "file").read_bytes()
    assert heard[-1] == ("file", 3 << 20, 3 << 20)
    assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)
    assert len(heard) >= 3


def test_the_next_address_is_tried(server, tmp_path):
    """A mirror that is gone, one that breaks off and one with another file are passed over."""
    address, folder = server
    (folder / "file").write_bytes(b"right")
    (folder / "other").write_bytes(b"wrong")
    urls = tuple(f"{address}/{name}" for name in ("gone", "short/file", "other", "file"))
    source = Source("file", urls, (fake_data.md5(folder / "file"),))
    assert downloads.download(source, tmp_path / "here", silent).read_bytes() == b"right"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gone", "File not found"),
        ("short/file", "broke off after 10 of 1,000"),
        ("other", "checksum"),
    ],
)
def test_a_bad_download_leaves_nothing(server, tmp_path, path, reason):
    """What is not whole and right never appears under its name."""
    address, folder = server
    (folder / "other").write_bytes(b"wrong")
    source = Source("file", (f"{address}/{path}",), ("0" * 32,))
    with pytest.raises(StorageError, match=reason):
        downloads.download(source, tmp_path / "here", silent)
    assert not held(tmp_path / "here")


def test_no_room(server, tmp_path, monkeypatch):
    """A file that will not fit is refused before a byte is written."""
    address, folder = server
    (folder / "file").write_bytes(b"0" * 1000)
    full = shutil._ntuple_diskusage(10, 10, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(StorageError, match="no room"):
        downloads.download(Source("file", (f"{address}/file",)), tmp_path / "here", silent)
    assert not held(tmp_path)[1:]


@pytest.mark.parametrize("name", ["it.tar.gz", "it.zip"])
def test_a_damaged_archive(tmp_path, name):
    """An archive that is cut short is named, and nothing of it is left."""
    whole = io.BytesIO()
    if name.endswith("zip"):
        with zipfile.ZipFile(whole, "w") as packed:
            packed.writestr("inner/file", os.urandom(10_000))
    else:
        with tarfile.open(fileobj=whole, mode="w:gz") as packed:
            entry = tarfile.TarInfo("inner/file")
            entry.size = 10_000
            packed.addfile(entry, io.BytesIO(os.urandom(10_000)))
    (tmp_path / name).write_bytes(whole.getvalue())
    downloads.unpack(tmp_path / name, tmp_path)
    assert held(tmp_path / "inner") == ["file"]
    shutil.rmtree(tmp_path / "inner")
    (tmp_path / name).write_bytes(whole.getvalue()[:5000])
    with pytest.raises(StorageError, match=f"{name} is damaged"):
        downloads.unpack(tmp_path / name, tmp_path)
    assert held(tmp_path) == [name]


def test_an_archive_stays_in_its_folder(tmp_path):
    """An entry that would be written elsewhere is refused."""
    with tarfile.open(tmp_path / "it.tar", "w") as packed:
        entry = tarfile.TarInfo("../outside")
        packed.addfile(entry, io.BytesIO())
    (tmp_path / "in").mkdir()
    with pytest.raises(StorageError, match="outside"):
        downloads.unpack(tmp_path / "it.tar", tmp_path / "in")
    assert not (tmp_path / "outside").exists()


def test_progress_in_the_log(caplog):
    """A download without a bar says so at once, and then seldom."""
    progress = files.LoggedProgress()
    with caplog.at_level("INFO", "msgm_bench.data"):
        for done in range(5):
            progress("file", done * 1_000_000, 4_000_000)
    assert [record.message for record in caplog.records] == ["downloading file: 0.0 of 4.0 MB"]
