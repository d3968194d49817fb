"""Archives of strangers: what was packed is read back, and whatever else is refused."""

from __future__ import annotations

import hashlib
import io
import stat
import tracemalloc
import warnings
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench.errors import StorageError
from msgm_bench.storage.archives import pack_files, read_archive, unpack_files

NAMES = st.sampled_from(["a.json", "b.yaml", "c/a.json", "c/d/e.safetensors", "0_-.json"])
FILES = st.dictionaries(NAMES, st.binary(max_size=60), max_size=4)
SOUND = {"result.json": b"{}", "evidence/ur.json": b"[1]"}


@given(FILES)
def test_what_is_packed_is_read_back(files):
    """Reading undoes packing, whatever the contents and the order of the files."""
    content = pack_files(files)
    assert unpack_files(content, "x.zip") == files
    assert pack_files(dict(reversed(files.items()))) == content


def test_the_bytes_are_the_same_everywhere():
    """One archive has one hash, on every machine and under every version of Python."""
    digest = hashlib.sha256(pack_files(SOUND)).hexdigest()
    assert digest == "7aea1790068480a24e2bc6c6e6f805fd702be2c134ad3333ca19b5d0b5336c09"


@given(st.data())
def test_a_damaged_archive_is_refused(data):
    """No byte can be cut off, changed or added: what is read is what was packed, or nothing."""
    content = pack_files(SOUND)
    at = data.draw(st.integers(0, len(content) - 1))
    change = data.draw(st.sampled_from(["cut", "flip", "insert"]))
    byte = data.draw(st.integers(1, 255))
    damaged = {
        "cut": content[:at],
        "flip": content[:at] + bytes([content[at] ^ byte]) + content[at + 1 :],
        "insert": content[:at] + bytes([byte]) + content[at:],
    }[change]
    with pytest.raises(StorageError, match=r"^x\.zip cannot be read: "):
        unpack_files(damaged, "x.zip")


def packed(
    name="a.json", content=b"{}", mode=stat.S_IFREG | 0o644, compress=zipfile.ZIP_STORED, n=1
):
    """An archive of one member, as any program may write it."""
    target = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(target, "w") as archive:
        for _ in range(n):
            member = zipfile.ZipInfo(name)
            member.external_attr, member.compress_type = mode << 16, compress
            archive.writestr(member, content)
    return target.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "../a.json",
        "/etc/a.json",
        "a/../../b.json",
        "c:\\a.json",
        "a\nb.json",
        ".hidden.json",
        "a//b.json",
        "A.json",
        "a\u202ejson.json",
    ],
)
def test_a_path_that_climbs_out_is_refused(name):
    """Names are plain relative paths; no member can be meant for a place outside."""
    with pytest.raises(StorageError, match="no plain path inside the archive"):
        unpack_files(packed(name), "x.zip")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mode": stat.S_IFLNK | 0o777, "content": b"/etc/passwd"}, "is a link"),
        ({"mode": stat.S_IFIFO | 0o644}, "no regular file"),
        ({"n": 2}, "'a.json' stands twice"),
        (
            {"compress": zipfile.ZIP_DEFLATED, "content": b" " * 10_000},
            "is compressed, 10000 bytes",
        ),
        ({"compress": zipfile.ZIP_LZMA}, "is compressed"),
        ({"name": "run.py"}, "is no file of .json"),
        ({"name": "model.pt2"}, "is no file of .json"),
        ({"mode": stat.S_IFREG | 0o755}, "packed by another program"),
    ],
)
def test_members_are_plain_files(changes, reason):
    """Links, pipes, doubles, compressed members, code, and other programs' archives are refused."""
    with pytest.raises(StorageError, match=reason):
        unpack_files(packed(**changes), "x.zip")


def test_a_bomb_costs_nothing():
    """A member of megabytes in a few bytes is refused by the table of contents alone."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.json", "w", force_zip64=True) as member,
    ):
        for _ in range(8):
            member.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(StorageError, match="is compressed, 8388608 bytes"):
        unpack_files(target.getvalue(), "x.zip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_overlapping_members_are_refused():
    """Members whose sizes add up to more than the file has share their bytes: a bomb, too."""
    content = bytearray(packed(content=bytes(1000)))
    for marker, place in ((b"PK\x03\x04", 18), (b"PK\x01\x02", 20)):
        at = content.index(marker) + place
        content[at : at + 8] = (5000).to_bytes(4, "little") * 2
    with pytest.raises(StorageError, match="its members are 5000 bytes"):
        unpack_files(bytes(content), "x.zip")


def test_a_large_file_is_not_read(tmp_path):
    """The limit is compared with the file's size before it is read."""
    path = tmp_path / "x.zip"
    path.write_bytes(pack_files({"a.json": bytes(3 * 2**20)}))
    assert len(read_archive(path)["a.json"]) == 3 * 2**20
    with pytest.raises(StorageError, match="larger than 2 MiB"):
        read_archive(path, limit=2 * 2**20)
