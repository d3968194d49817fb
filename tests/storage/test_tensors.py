"""Tensors on disk: what safetensors' own library reads and writes, and nothing else."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from msgm_bench.errors import IncompatibleError, MsgmBenchError, StorageError
from msgm_bench.storage import tensors
from msgm_bench.storage.concatenation import concatenate_files
from msgm_bench.storage.pickles import load_pickle
from msgm_bench.storage.tensors import DTYPES, load_tensors, map_tensors, open_tensors, save_tensors
from msgm_bench.storage.weights import boundary, check_finite, check_network

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
LAYOUTS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(sorted(DTYPES)), SHAPES),
    max_size=5,
)


def state_of(layout):
    """Tensors of these dtypes and shapes with bytes that anything may be."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, (dtype, shape) in layout.items():
        raw = torch.randint(0, 2, (torch.Size(shape).numel(),), generator=generator)
        state[name] = raw.to(DTYPES[dtype]).reshape(shape)
    return state


def same(a, b):
    """Equal names, dtypes, shapes and values."""
    return sorted(a) == sorted(b) and all(
        a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a
    )


def file_of(header, data=b""):
    """A safetensors file of this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder that hypothesis may use again."""
    return tmp_path_factory.mktemp("tensors")


@given(LAYOUTS)
def test_safetensors_own_library_is_the_oracle(place, layout):
    """What the library writes is read here, and what is written here is read by the library."""
    state, theirs, ours = state_of(layout), place / "theirs", place / "ours"
    safetensors.torch.save_file(state, theirs)
    with open_tensors(theirs) as file:
        assert {n: (t.dtype, t.shape, t.is_meta) for n, t in file.state.items()} == {
            n: (t.dtype, t.shape, True) for n, t in state.items()
        }
        loaded, sha256 = file.read_hashed()
    assert same(loaded, state)
    assert sha256 == hashlib.sha256(theirs.read_bytes()).hexdigest()
    save_tensors(ours, state)
    assert same(safetensors.torch.load_file(ours), state)
    assert same(load_tensors(ours), state)


def test_tensors_are_independent_of_each_other(tmp_path):
    """Each has memory of its own, so that keeping one does not keep all."""
    save_tensors(tmp_path / "x", {"a": torch.ones(1000), "b": torch.zeros(1)})
    state = load_tensors(tmp_path / "x")
    assert state["b"].untyped_storage().nbytes() == 4
    state["a"].add_(1)
    assert torch.equal(load_tensors(tmp_path / "x")["a"], torch.ones(1000))


@given(LAYOUTS, st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_joined_files_are_what_the_library_writes(place, layout, counts):
    """Byte for byte the library's file of the concatenated tensors."""
    parts = [place / f"part-{i}" for i in range(len(counts))]
    states = [
        state_of({name: (dtype, (count, *shape)) for name, (dtype, shape) in layout.items()})
        for count in counts
    ]
    for part, state in zip(parts, states, strict=True):
        save_tensors(part, state)
    concatenate_files(place / "joined", parts)
    joined = {name: torch.cat([state[name] for state in states]) for name in layout}
    assert (place / "joined").read_bytes() == safetensors.torch.save(joined)


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.ones(2, 3)},
        {"a": torch.ones(2, 2).double()},
        {"b": torch.ones(2, 2)},
        {"a": torch.ones(2, 2), "b": torch.ones(2)},
        {"a": torch.ones(())},
    ],
)
def test_files_of_other_tensors_are_not_joined(tmp_path, other):
    """Another shape of items, dtype, name or number of tensors, or no items: nothing is written."""
    save_tensors(tmp_path / "first", {"a": torch.ones(1, 2)})
    save_tensors(tmp_path / "second", other)
    with pytest.raises(StorageError, match="cannot be joined"):
        concatenate_files(tmp_path / "joined", [tmp_path / "first", tmp_path / "second"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


@given(LAYOUTS)
def test_mapped_tensors_are_those_of_the_file(place, layout):
    """Names, dtypes, shapes and values are those that are read; writing leaves the file alone."""
    save_tensors(place / "mapped", state_of(layout))
    content, mapped = (place / "mapped").read_bytes(), map_tensors(place / "mapped")
    assert same(mapped, load_tensors(place / "mapped"))
    for tensor in mapped.values():
        tensor.fill_(1)
    assert (place / "mapped").read_bytes() == content


def test_mapped_tensors_outlive_their_file(tmp_path):
    """A file that is deleted or replaced stays as it was for who has mapped it."""
    save_tensors(tmp_path / "x", {"a": torch.ones(5000)})
    mapped = map_tensors(tmp_path / "x")["a"]
    save_tensors(tmp_path / "x", {"a": torch.zeros(5000)})
    (tmp_path / "x").unlink()
    assert torch.equal(mapped, torch.ones(5000))


WHOLE = safetensors.torch.save(
    {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True, False]), "c": torch.ones(())},
    metadata={"format": "pt"},
)


@settings(max_examples=200)
@given(st.data())
def test_damaged_files_are_an_error_or_what_the_library_reads(place, data):
    """Bytes changed, cut or added anywhere: one of our errors, or the library's tensors."""
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["change", "cut", "add", "end"]))
        if how == "change":
            content[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del content[at : at + data.draw(st.integers(1, 9))]
        elif how == "add":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            content += data.draw(st.binary(min_size=1, max_size=9))
        content = content or bytearray(b"x")
    path = place / "damaged"
    path.write_bytes(content)
    try:
        loaded = load_tensors(path)
    except StorageError:
        return
    expected = safetensors.torch.load(bytes(content))
    assert {n: t.view(-1).view(torch.uint8).tolist() for n, t in loaded.items()} == {
        n: t.reshape(-1).view(torch.uint8).tolist() for n, t in expected.items()
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BOOL", "F8_E4M3", "C64"]) | JSON,
        "shape": st.lists(st.integers(-1, 2**62) | JSON, max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-1, 2**62) | JSON, max_size=3) | JSON,
    },
    optional={"more": JSON},
)


@settings(max_examples=200)
@given(st.dictionaries(st.text(max_size=5), ENTRY | JSON, max_size=3) | JSON)
def test_headers_of_anything_are_an_error(place, header):
    """A header that does not tile eight bytes of data is one sentence, and takes no memory."""
    path = place / "header"
    path.write_bytes(file_of(header, b"12345678"))
    with pytest.raises(StorageError, match=r"cannot be read|not valid JSON"):
        load_tensors(path)


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HEADERS = [
    ({"a": F32 | {"shape": [2**40], "data_offsets": [0, 2**42]}}, "bytes, and it holds"),
    ({"a": F32, "b": F32}, "does not begin where another ends"),
    ({"a": F32 | {"data_offsets": [4, 12]}}, "does not begin where another ends"),
    ({"a": F32 | {"shape": [3]}}, "other bytes than its shape"),
    ({"a": F32 | {"shape": [True, 2]}}, "no shape"),
    ({"a": F32 | {"shape": [1] * 9 + [2]}}, "no shape"),
    ({"a": F32 | {"dtype": "F8_E4M3"}}, "has the dtype 'F8_E4M3'"),
    ({"a": F32, "exported": "code"}, "exported is no tensor"),
    ({"a": F32, "__metadata__": {"x": 1}}, "metadata"),
    ({"a" * 2000: F32}, "no shape"),
    (b'{"a": ' * 80, "nests more than"),
    (b'{"a":1,"a":1}', "stands twice"),
    (b"\xff\xfe", "no UTF-8"),
    ([1, 2], "no table"),
]


@pytest.mark.parametrize(("header", "reason"), HEADERS, ids=[reason for _, reason in HEADERS])
def test_faults_of_headers_are_named(tmp_path, header, reason):
    """The reason names what does not fit."""
    (tmp_path / "x").write_bytes(file_of(header, b"12345678"))
    with pytest.raises(StorageError) as caught:
        load_tensors(tmp_path / "x")
    assert reason in caught.value.what


@pytest.mark.parametrize("content", [b"", b"1234567", (2**63).to_bytes(8, "little"), b"\xff" * 9])
def test_files_without_a_header(tmp_path, content):
    """Nothing, less than a length, a length that no file has."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(StorageError, match="longer than the file"):
        load_tensors(tmp_path / "x")


def test_bools_are_zero_or_one(tmp_path):
    """Another byte would be a truth value that is equal to neither."""
    entry = {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}
    (tmp_path / "x").write_bytes(file_of({"a": entry}, b"\x01\x02"))
    with pytest.raises(StorageError, match="neither 0 nor 1"):
        load_tensors(tmp_path / "x")


def test_only_regular_files_inside_their_folder_are_read(tmp_path):
    """A link out of the folder, a pipe, a folder, a device: an error at once, no hang."""
    inner = tmp_path / "inner"
    inner.mkdir()
    save_tensors(tmp_path / "outside", {"a": torch.ones(2)})
    (inner / "link").symlink_to(tmp_path / "outside")
    (inner / "zero").symlink_to("/dev/zero")
    os.mkfifo(inner / "pipe")
    (inner / "folder").mkdir()
    for name in ("link", "zero", "pipe", "folder", "gone"):
        with pytest.raises(StorageError):
            load_tensors(inner / name)
    assert same(load_tensors(inner / "link", inside=tmp_path), {"a": torch.ones(2)})
    with pytest.raises(StorageError, match="larger than"):
        load_tensors(tmp_path / "outside", limit=16)


def test_a_file_that_shrinks_while_it_is_open(tmp_path):
    """What was compared is what is read, or nothing."""
    save_tensors(tmp_path / "x", {"a": torch.ones(5000)})
    with open_tensors(tmp_path / "x") as file:
        os.truncate(tmp_path / "x", 100)
        with pytest.raises(StorageError, match="shorter"):
            file.read()


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    """A write that fails leaves the old file and no other."""
    save_tensors(tmp_path / "x", {"a": torch.ones(2)})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(StorageError, match="No space left"):
        save_tensors(tmp_path / "x", {"a": torch.zeros(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert same(load_tensors(tmp_path / "x"), {"a": torch.ones(2)})


# Weights beside a network ------------------------------------------------------------------


def network():
    """Two layers and a buffer, without memory."""
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def weights():
    """Its state, with memory."""
    return {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in network().state_dict().items()}


def test_the_right_weights_pass():
    """Names and shapes are equal; half precision is a matter of rounding."""
    check_network("x", weights(), network().state_dict())
    half = {k: v.half() if v.is_floating_point() else v for k, v in weights().items()}
    check_network("x", half, network().state_dict())


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model._orig_mod."])
def test_wrapped_names_are_recognised(prefix):
    """The prefix of torch.compile or of a wrapper is named, and how to save without it."""
    wrapped = {prefix + name: tensor for name, tensor in weights().items()}
    with pytest.raises(IncompatibleError) as caught:
        check_network("x", wrapped, network().state_dict())
    assert f"every name begins with {prefix!r}" in caught.value.what
    assert ("torch.compile" in caught.value.what) == ("_orig_mod" in prefix)
    assert f"removeprefix({prefix!r})" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"0.bias": None}, "missing keys: 0.bias"),
        ({"0.bias": None, "1.bias": None}, "missing keys: 0.bias and 1 more"),
        ({"x\x1b[31m": torch.ones(1)}, r"unexpected keys: x\x1b[31m"),
        ({"0.bias": torch.ones(3)}, "0.bias is (3,) and not (2,)"),
        ({"0.bias": torch.ones(2, dtype=torch.int64)}, "0.bias is torch.int64 and not"),
    ],
)
def test_other_weights_are_refused(change, reason):
    """Too few, too many, another shape, another kind: the first difference is named."""
    state = {name: t for name, t in (weights() | change).items() if t is not None}
    with pytest.raises(IncompatibleError) as caught:
        check_network("x", state, network().state_dict())
    assert reason in str(caught.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_are_finite(value):
    """The tensor is named; integers always are."""
    check_finite("x", weights())
    state = weights()
    state["1.running_var"][1] = value
    with pytest.raises(StorageError, match=r"not finite: 1\.running_var"):
        check_finite("x", state)


def test_the_hub_keeps_files_of_a_model_in_one_place(tmp_path):
    """Its snapshots link to blobs beside them; any other folder is its own boundary."""
    model = tmp_path / "models--a--b"
    assert boundary(model / "snapshots" / "f00" / "unet") == model
    assert boundary(tmp_path / "unet") == tmp_path / "unet"


# Pickles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_published_pickles_are_read(tmp_path, zipped):
    """Both formats of torch.save, with the hash of their bytes."""
    path = tmp_path / "x.pth"
    torch.save(weights(), path, _use_new_zipfile_serialization=zipped)
    state, sha256 = load_pickle(path)
    assert same(state, weights())
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        """Run something."""
        return (open, (str(self.path), "w"))


def bomb():
    """A zip archive of torch whose tensor is compressed."""
    plain, packed = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(10**6)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    return packed.getvalue()


def test_pickles_of_anything_else_are_refused(tmp_path):
    """Code, compressed archives, half a file, nothing: one sentence, and nothing is run."""
    touched, path = tmp_path / "touched", tmp_path / "x.pth"
    trap = io.BytesIO()
    torch.save({"a": Trap(touched)}, trap)
    whole = io.BytesIO()
    torch.save(weights(), whole)
    for content in (
        *(pickle.dumps(Trap(touched)), trap.getvalue(), bomb(), b"", b"PK", b"\x80\x02."),
        *(whole.getvalue()[:200], whole.getvalue()[:-200]),
    ):
        path.write_bytes(content)
        with pytest.raises(StorageError, match=r"x\.pth cannot be read as weights"):
            load_pickle(path)
    assert not touched.exists()
    path.write_bytes(whole.getvalue())
    with pytest.raises(StorageError, match="larger than"):
        load_pickle(path, limit=100)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_pickles_are_an_error_or_tensors(place, changes):
    """Bytes changed anywhere in a file of the older format, which has no checksums."""
    whole = io.BytesIO()
    torch.save(weights(), whole, _use_new_zipfile_serialization=False)
    content = bytearray(whole.getvalue())
    for at, value in changes:
        content[at % len(content)] = value
    (place / "x.pth").write_bytes(content)
    with contextlib.suppress(MsgmBenchError):
        state, _ = load_pickle(place / "x.pth")
        check_network("x", state, network().state_dict())
