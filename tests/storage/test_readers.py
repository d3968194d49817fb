"""Untrusted files: a sound file is read as it was written, and any fault is one sentence."""

import contextlib
import json
import os
import time
import tracemalloc

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench.errors import MsgmBenchError, StorageError
from msgm_bench.storage import (
    dump_yaml,
    one_line_yaml,
    parse_json,
    parse_yaml,
    read_bytes,
    read_json,
    read_yaml,
)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)
ODD_TEXTS = ["~", "null", "no", "1:30", "010", "00001", "+3", "1e-3", "2001-99-99", "=", "<<", "#x"]


@given(VALUES)
def test_what_is_written_as_yaml_is_read_back(value):
    """Reading undoes writing, for every value that JSON can hold, over lines and on one."""
    assert parse_yaml(dump_yaml(value), "x") == value
    assert parse_yaml(one_line_yaml(value), "x") == value
    assert len(one_line_yaml(value).splitlines()) <= 1


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_texts_that_look_like_something_else_survive(text):
    """A text that some YAML would read as a number, a date or nothing comes back as that text."""
    assert parse_yaml(dump_yaml({"a": text}), "x") == {"a": text}


@given(st.from_regex(r"[-+]?[0-9]{1,6}", fullmatch=True))
def test_an_integer_is_its_own_text(text):
    """Digits are read as a number only where the number prints as the same digits."""
    value = parse_yaml(text, "x")
    assert str(value) == text


def test_plain_scalars_follow_yaml_1_2():
    """The words that YAML 1.1 turns into something else are texts, numbers are numbers."""
    read = parse_yaml("[no, 1:30, 010, 2001-12-14, 1e-3, 3, -0.5, true, null]", "x")
    assert read == ["no", "1:30", "010", "2001-12-14", 1e-3, 3, -0.5, True, None]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x", "alias"),
        ("[" * 3000, "deep"),
        ("a: " + "[" * 100 + "]" * 100, "deep"),
        ("a: 1\na: 2", "twice"),
        ("a: .nan", "finite"),
        ("a: 1e999", "finite"),
        ("a: " + "9" * 6000, "6000 characters long"),
        ("seed: !!int zz", "zz"),
        ("a: !!python/object/apply:os.system [id]", "tag"),
        ("a: !!timestamp 2001-99-99", "YAML"),
        ("1: a", "no text"),
        ("? [1, 2]\n: a", "YAML"),
        ("a: !!binary aGk=", "bytes"),
        ("--- 1\n--- 2", "document"),
        ("a: \x07", "YAML"),
    ],
)
def test_bad_yaml_is_one_sentence_with_the_name(text, reason):
    """Whatever is wrong with a YAML text, the error is one line that names the file."""
    with pytest.raises(StorageError) as caught:
        parse_yaml(text, "board.yaml")
    assert "board.yaml" in str(caught.value)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_alias_bomb_costs_nothing():
    """Nine levels of nine aliases are refused before anything is built."""
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    started = time.process_time()
    with pytest.raises(StorageError, match="alias"):
        parse_yaml(bomb, "board.yaml")
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 3000 + "]" * 3000, "deep"),
        ('{"a": NaN}', "finite"),
        ('{"a": 1e999}', "finite"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": ' + "9" * 6000 + "}", "6000 characters long"),
        ("{", "JSON"),
        ("", "JSON"),
    ],
)
def test_bad_json_is_one_sentence_with_the_name(text, reason):
    """Whatever is wrong with a JSON text, the error is one line that names the file."""
    with pytest.raises(StorageError) as caught:
        parse_json(text, "result.json")
    assert "result.json" in str(caught.value)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@given(VALUES)
def test_json_is_read_as_the_library_reads_it(value):
    """For sound JSON the reader is Python's own."""
    assert parse_json(json.dumps(value), "x") == value


@given(st.text(alphabet='{}[]",:\\ 0e1.-anul', max_size=60))
def test_any_text_is_a_value_or_a_sentence(text):
    """No text brings anything but a finite value or an error of ours."""
    for parse in (parse_json, parse_yaml):
        with contextlib.suppress(MsgmBenchError):
            value = parse(text, "x")
            assert json.loads(json.dumps(value, allow_nan=False)) == value


def test_only_regular_files_inside_the_folder_are_read(tmp_path):
    """A pipe, a device, a folder, a link out of the folder and a large file are refused at once."""
    folder = tmp_path / "board"
    folder.mkdir()
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    os.mkfifo(folder / "pipe.json")
    (folder / "zero.json").symlink_to("/dev/zero")
    (folder / "out.json").symlink_to(outside)
    (folder / "loop.json").symlink_to(folder / "loop.json")
    (folder / "sub.json").mkdir()
    (folder / "large.json").write_bytes(b" " * 100)
    for name in ("pipe", "zero", "out", "loop", "sub", "missing", "nul\0"):
        with pytest.raises(StorageError, match=name.strip("\0")):
            read_json(folder / f"{name}.json", inside=folder)
    with pytest.raises(StorageError, match="larger"):
        read_bytes(folder / "large.json", limit=99)
    assert read_bytes(folder / "large.json", limit=100) == b" " * 100


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    """Refused by its size before a byte of it takes memory, however much would be allowed."""
    with (tmp_path / "x").open("wb") as file:
        file.truncate(2**40)
    tracemalloc.start()
    try:
        for limit in (10, 2**30):
            with pytest.raises(StorageError, match="is larger than"):
                read_bytes(tmp_path / "x", limit=limit)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_link_inside_the_folder_is_followed(tmp_path):
    """What lies in the folder may be linked to from within it."""
    (tmp_path / "a.yaml").write_text("a: 1", encoding="utf-8")
    (tmp_path / "b.yaml").symlink_to("a.yaml")
    assert read_yaml(tmp_path / "b.yaml") == {"a": 1}


def test_text_is_utf8_with_or_without_a_mark(tmp_path):
    """A byte-order mark is no part of the text; other encodings are named."""
    (tmp_path / "mark.yaml").write_bytes("a: é".encode("utf-8-sig"))
    (tmp_path / "wide.yaml").write_bytes("a: é".encode("utf-16"))
    assert read_yaml(tmp_path / "mark.yaml") == {"a": "é"}
    with pytest.raises(StorageError, match=r"wide\.yaml is no UTF-8"):
        read_yaml(tmp_path / "wide.yaml")


def test_aliases_are_not_written():
    """A value that stands in two places is written out twice."""
    shared = [1, 2]
    assert parse_yaml(dump_yaml({"a": shared, "b": shared}), "x") == {"a": [1, 2], "b": [1, 2]}


@given(VALUES)
def test_other_programs_read_what_is_written(value):
    """PyYAML's own safe loader, which follows YAML 1.1, reads texts and containers alike."""
    if isinstance(value, str | list | dict) and not value:
        assert yaml.safe_load(dump_yaml(value)) == value
    else:
        assert yaml.safe_load(dump_yaml({"k": ["a b", value]}))["k"][0] == "a b"
