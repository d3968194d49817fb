"""A user's table of labels: dialects, names, meanings, and sizes."""

from __future__ import annotations

import csv
import io
import random
import time
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msgm_bench import StorageError, UsageError
from msgm_builtin.datasets import table_text
from msgm_builtin.datasets.table import read_table
from msgm_builtin.datasets.table_text import read_rows

FILES = [f"{i}.png" for i in range(6)]


def read(path, content, names=FILES, **options):
    """The table of a file with ``content`` (text, or bytes) for images of these names."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, {name: path.parent / name for name in names}, **options)


@pytest.fixture
def path(tmp_path):
    """Where the table is."""
    return tmp_path / "labels.csv"


def lines(*rows):
    """One row for each image, below the header that comes first."""
    head, *cells = rows
    return "\n".join([head, *(f"{name},{cell}" for name, cell in zip(FILES, cells, strict=True))])


CATS = lines("file,kind", *["cat", "dog"] * 3)


# Dialects ---------------------------------------------------------------------------------

WORDS = (
    st.text(st.sampled_from("ab ,;\t|'\"éß\n#~0"), min_size=1, max_size=6)
    .map(str.strip)
    .filter(bool)
)


@given(
    rows=st.lists(st.lists(WORDS, min_size=2, max_size=2), min_size=2, max_size=5),
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    blank=st.booleans(),
)
@settings(max_examples=200)
def test_any_dialect(tmp_path_factory, rows, separator, encoding, end, blank):
    """What the csv module writes in any dialect and encoding is read back, or is ambiguous."""
    stream = io.StringIO()
    quoting = csv.QUOTE_ALL
    writer = csv.writer(stream, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow(["file", "kind"])
    for row in rows:
        writer.writerow(row)
        if blank:
            stream.write(f"{separator}{end}{end}")
    path = tmp_path_factory.getbasetemp() / "dialect.csv"
    path.write_bytes(stream.getvalue().encode(encoding))
    header, cells = read_rows(path, 100)
    assert header == ["file", "kind"]
    assert cells == rows


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(path, separator):
    """Without quotes, too."""
    table = read(path, CATS.replace(",", separator))
    assert table.classes == ("cat", "dog")
    assert table.labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_commas_in_cells_of_another_separator(path):
    """Semicolons in the header settle it, whatever the cells hold."""
    rows = "\n".join(
        ["file;kind", *(f"{n};{k}" for n, k in zip(FILES, ["a, b", "c"] * 3, strict=True))]
    )
    assert read(path, rows).classes == ("a, b", "c")


def test_two_separators_that_fit(path):
    """A file that is even by two separators is refused."""
    with pytest.raises(StorageError, match="separated by commas or semicolons\nquote"):
        read(path, lines("file,a;b", *["0;1"] * 6).replace(".png", ".p"))


@pytest.mark.parametrize("spelling", ["./{}", ".\\{}", "{}", "a/../{}"])
def test_spellings_of_a_path(path, spelling):
    r"""``./x`` and ``x\y`` mean the image; a way around does not."""
    names = [f"in/{name}" for name in FILES]
    rows = "\n".join(
        ["file,kind", *(f"{spelling.format(n)},{i % 2}x" for i, n in enumerate(names))]
    )
    if ".." in spelling:
        with pytest.raises(StorageError, match=r"names images that are not in .*: 6: a/\.\./in/0"):
            read(path, rows, names)
    else:
        assert list(read(path, rows, names).files) == names
        assert list(read(path, rows.replace("in/", "in\\"), names).files) == names


def test_composed_and_decomposed_letters(path):
    """A name that a Mac stored decomposed is the one that was typed."""
    names = [f"cafe\u0301{name}" for name in FILES]
    rows = "\n".join(["file,kind", *(f"caf\u00e9{name},{i % 2}x" for i, name in enumerate(FILES))])
    assert list(read(path, rows, names).files) == names


# Meanings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [("0", "1"), ("1.0", "0.0"), ("True", "False"), ("-1", "1")])
def test_a_column_of_truths_needs_a_word(path, values):
    """One column of 0 and 1 may be two classes or an attribute: the user says which."""
    rows = lines("file,label", *values * 3)
    with pytest.raises(UsageError) as caught:
        read(path, rows)
    assert "are these classes of their own" in str(caught.value)
    assert "-d labels=classes, or -d labels=attributes" in str(caught.value)
    classes = read(path, rows, reading="classes")
    assert classes.classes == tuple(sorted(values))
    assert [classes.classes[i] for i in classes.labels.tolist()] == list(values) * 3
    attribute = read(path, rows, reading="attributes")
    assert attribute.classes == ("label",)
    truths = [value in ("1", "1.0", "True") for value in values]
    assert attribute.labels[:, 0].tolist() == truths * 3


def test_names_as_typed(path):
    """Numbers with zeros, names that differ in case and words of YAML are names."""
    kinds = ["00001", "1", "Cat", "cat", "no", "~"]
    assert read(path, lines("file,kind", *kinds)).classes == tuple(sorted(kinds))


REFUSED = {
    "no header": (CATS.partition("\n")[2], "its first row is that of 0.png"),
    "two columns": (lines("file,a,a", *["0,1"] * 6), "two columns are called 'a'"),
    "no name": (lines("file,,a", *["0,1"] * 6), "column 2 has no name"),
    "running number": (
        "\n".join([",file,kind", *(f"{i},{n},x" for i, n in enumerate(FILES))]),
        "names no images, column 'file' does",
    ),
    "blank label": (lines("file,kind", *["cat", "dog"] * 2, "", ""), "rows without a label: 2: 4"),
    "three values": (
        lines("file,a,b", *["0,1", "1,0", "-1,1"] * 2),
        "column 'a' holds -1 beside 0",
    ),
    "words": (lines("file,a,b", *["x,1"] * 6), "values other than 0 and 1"),
    "unclosed quote": (CATS.replace("cat", '"cat', 1), "damaged"),
    "short row": (CATS.replace(",dog", "", 1), "rows without 2 cells: 1: 1.png"),
    "NUL": (CATS.replace("cat", "c\0t"), "zero bytes"),
    "half of UTF-16": (CATS.encode("utf-16")[:-1], "no utf-16-le text"),
    "UTF-16 without a mark": (CATS.encode("utf-16-le"), "zero bytes"),
    "Windows letters": (CATS.replace("cat", "Löwe").encode("cp1252"), "save it as UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "damaged"),
    "empty": (b"", "holds nothing\na header, and below it a row"),
    "blank": (b"\n \n,,\n", "holds nothing\na header, and below it a row"),
    "header alone": (b"file,label\n", "holds a header alone\na header, and below it a row"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind, path):
    """What is not plain is named with the file."""
    content, message = REFUSED[kind]
    with pytest.raises((StorageError, UsageError), match=message) as caught:
        read(path, content)
    assert str(path) in str(caught.value)


def test_words_where_attributes_are_wanted(path):
    """An option that does not fit the table is refused, both ways."""
    with pytest.raises(UsageError, match="column 'kind' holds words"):
        read(path, CATS, reading="attributes")
    with pytest.raises(UsageError, match="2 columns of labels\n"):
        read(path, lines("file,a,b", *["0,1", "1,0"] * 3), reading="classes")


def test_empty_last_columns(path):
    """What a spreadsheet appends is dropped."""
    rows = "\n".join(f"{line},," for line in CATS.splitlines())
    assert read(path, rows + "\n,,,\n").classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("words", "test_part", "held"),
    [
        (("train", "test"), None, [False, True]),
        (("Training", "VALIDATION"), None, [False, True]),
        (("0", "2"), None, [False, True]),
        (("0", "1"), None, [False, True]),
        (("train", "val", "test"), "val", [False, True]),
        (("train", "test", "val"), "test", [False, True]),
    ],
)
def test_splits(path, words, test_part, held):
    """Usual words of any case; of val and test one is chosen, and the other counted."""
    rows = lines("file,Split,kind", *(f"{words[i % len(words)]},k{i // 3}" for i in range(6)))
    skipped = Counter()
    table = read(path, rows, test_part=test_part, skipped=skipped)
    assert table.test.tolist() == held * (6 // len(words))
    assert len(table.files) == len(table.labels) == len(table.test)
    assert skipped == ({} if len(words) == 2 else {"of another part": 2})


def test_val_and_test_need_a_word(path):
    """Both are there, and nobody said which is held out."""
    rows = lines("file,split,kind", *(f"{word},k" for word in ["train", "val", "test"] * 2))
    with pytest.raises(UsageError, match=r"train, test, val: which is held out\?"):
        read(path, rows)


def test_a_part_without_a_split(path):
    """An option that needs a column ``split`` is refused where there is none."""
    with pytest.raises(UsageError, match=r"-d test_part=val, and .* has no column split"):
        read(path, CATS, test_part="val")


# Sizes ------------------------------------------------------------------------------------


def test_duplicates_in_linear_time(path):
    """Sixteen thousand rows that stand twice are counted at once."""
    names = [f"{i}.png" for i in range(16_000)]
    rows = "\n".join(["file,kind", *(f"{name},{i % 2}x" for i, name in enumerate(names * 2))])
    started = time.process_time()
    with pytest.raises(StorageError, match=r"names images twice: 16,000: 0.png"):
        read(path, rows, names)
    assert time.process_time() - started < 2


BOMBS = {
    "rows": (b"file,kind\n" + b"a,b\n" * 2_000_000, "more than 1,012 rows"),
    "line": (b"file,kind\n" + b"x" * 5_000_000, "a line of more than 1,048,576 letters"),
    "cells": (b"," * 1_000_000 + b"x\n" + (b"," * 1_000_000 + b"x\n") * 20, "10,000,000 cells"),
    "cell": (b"file,kind\n0.png," + b"x" * 200_000 + b"\n", "field larger than field limit"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs(kind, path):
    """Absurd rows, lines and cells end early, in little memory."""
    content, message = BOMBS[kind]
    tracemalloc.start()
    with pytest.raises(StorageError, match=message):
        read(path, content)
    assert tracemalloc.get_traced_memory()[1] < 300_000_000
    tracemalloc.stop()


def test_a_huge_table(path, monkeypatch):
    """A file beyond the cap is named before it is read."""
    monkeypatch.setattr(table_text, "MAX_BYTES", 10)
    with pytest.raises(StorageError, match=r"labels.csv is damaged: \d+ bytes; at most 10"):
        read(path, CATS)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_mutated_tables(tmp_path_factory, seed):
    """A damaged table is read or refused in a sentence."""
    draw = random.Random(seed)
    content = bytearray(lines("file,split,Hat,Tie", *["train,1,0", "test,0,1"] * 3).encode())
    for _ in range(draw.randint(1, 8)):
        place = draw.randrange(len(content))
        content[place : place + draw.randint(0, 3)] = draw.choice(
            [
                draw.randbytes(draw.randint(0, 3)),
                b'"',
                b",",
                b"\n",
                b";",
                b"\t",
                b"\r",
                b"-1",
                b"\xff\xfe",
            ]
        )
    path = tmp_path_factory.getbasetemp() / "mutated.csv"
    try:
        table = read(path, bytes(content))
    except (StorageError, UsageError):
        return
    assert len(table.files) == len(table.labels)
