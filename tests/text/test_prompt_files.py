"""Prompt files: YAML and CSV of the field, what they mean, and what is refused."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench import MsgmBenchError, Prompt, PromptBook, StorageError, UsageError
from msgm_bench.storage import dump_yaml, parse_yaml
from msgm_text.datasets import prompt_table
from msgm_text.datasets.concept_sets import packaged_sets, parse_concepts, read_packaged_set
from msgm_text.datasets.prompt_csv import read_prompt_csv
from msgm_text.datasets.prompt_files import read_prompt_files
from msgm_text.datasets.prompt_table import join

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"
PAINTERS = """
concepts:
  Van Gogh:
    domain: style
    anchor: an artist
    synonyms: [Vincent]
    prompts:
      implicit: [{text: the starry night, seed: 3, guidance: 7.5}]
      pair: [{text: a Van Gogh of a dog, concepts: [dog]}]
  Monet: {domain: style}
  dog: {domain: object}
templates:
  - {text: "a {object} by {style}", groups: [train, target], seeds: [1, 2]}
"""


@pytest.fixture
def write(tmp_path):
    """``write(name, content)``: a file, and its path."""

    def create(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return create


def book_of(path, *more):
    """The book of prompt files."""
    return read_prompt_files([path, *more]).book(["{concept}"])


# YAML -------------------------------------------------------------------------------------


def test_a_concept_file_means_what_its_schema_says(write):
    """Every row of a small file, written out by hand from the schema's sentences."""
    van_gogh, monet, dog = 0, 1, 2
    rows = (
        Prompt("a dog by Van Gogh", (van_gogh, dog), "train"),
        Prompt("a dog by Monet", (monet, dog), "train"),
        Prompt("the starry night", (van_gogh,), "implicit", van_gogh, 3, 6.5),
        Prompt("a Van Gogh of a dog", (van_gogh, dog), "pair", van_gogh),
        *(Prompt("a dog by Van Gogh", (van_gogh, dog), "target", dog, seed) for seed in (1, 2)),
        *(
            prompt
            for seed in (1, 2)
            for prompt in (
                Prompt("a dog by Van Gogh", (van_gogh, dog), "target", van_gogh, seed),
                Prompt("a dog by Vincent", (van_gogh, dog), "synonym", van_gogh, seed),
            )
        ),
        *(
            Prompt("a dog by Monet", (monet, dog), "target", concept, seed)
            for concept in (dog, monet)
            for seed in (1, 2)
        ),
    )
    book = book_of(write("painters.yaml", PAINTERS))
    assert book == PromptBook(
        ("Van Gogh", "Monet", "dog"),
        rows,
        {"style": ("Van Gogh", "Monet"), "object": ("dog",)},
        {"Van Gogh": "an artist"},
    )
    groups = book.groups([van_gogh])
    neighbours = {book[i].concept for i in groups["neighbour"]}
    unrelated = {book[i].concept for i in groups["unrelated"]}
    assert (neighbours, unrelated) == ({monet}, {dog})


def test_concepts_without_captions_have_those_of_the_templates(write):
    """Captions of the caller's templates serve a concept of which the file has none."""
    text = "concepts: {a: {prompts: {target: [an a], train: [one a]}}, b: {prompts: {target: [b]}}}"
    book = read_prompt_files([write("x.yaml", text)]).book(["{concept}", "two {concept}"])
    captions = [(p.text, p.concepts) for p in book if p.group == "train"]
    assert captions == [("one a", (0,)), ("b", (1,)), ("two b", (1,))]


def test_unlearncanvas_has_the_published_counts():
    """50 styles, 20 objects, five seeds: the sets of its UA, IRA and CRA."""
    assert packaged_sets() == ("unlearncanvas",)
    book = read_packaged_set("unlearncanvas").book()
    assert {domain: len(names) for domain, names in book.domains.items()} == {
        "style": 50,
        "object": 20,
    }
    target = book.concepts.index("Van Gogh")
    groups = {name: rows for name, rows in book.groups([target]).items() if rows}
    assert {name: len(rows) for name, rows in groups.items()} == {
        "target": 20 * 5,
        "neighbour": 49 * 20 * 5,
        "unrelated": 50 * 20 * 5,
    }
    first = book[groups["target"][0]]
    assert (first.text, first.seed, first.guidance) == (
        "A Architectures image in Van Gogh style.",
        188,
        8.0,
    )
    captions = {name: len(rows) for name, rows in book.captions([target]).items()}
    assert captions == {"retain": 50 * 20, "forget": 20}
    assert set(book.anchors) == set(book.concepts)


def changed(*keys, value):
    """``BASE`` with another value at ``keys``."""
    document = {"concepts": {n: {"prompts": {"target": [f"an {n}"]}} for n in "ab"}}
    place = document
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    place[keys[-1]] = value
    return document


PROMPTS = ("concepts", "a", "prompts")
TEMPLATE = {"text": "a {style}", "groups": ["target"]}
WRONG = [
    (changed("concepts", value={}), "names no concept"),
    (changed("concept", value={}), "concept = {} is not understood"),
    (changed("concepts", "a", "anchors", value="c"), "concepts.a.anchors"),
    (changed("concepts", "a", "domain", value=3), "concepts.a.domain = 3"),
    (changed("concepts", "a", "domain", value="x"), "'b' has no domain"),
    (changed("concepts", "A", value={"prompts": {"target": ["A"]}}), "differ in case alone"),
    (changed("concepts", " c", value={"prompts": {"target": ["c"]}}), "blanks"),
    (changed("concepts", "", value=None), "the name of a concept is empty"),
    (changed("concepts", "c", value=None), "no prompt of the group 'target' asks for 'c'"),
    (changed("concepts", "a", "synonyms", value=[""]), "concepts.a.synonyms is empty"),
    (changed(*PROMPTS, "neighbour", value=["b"]), "of its own, of the same domain"),
    (changed(*PROMPTS, "targets", value=["b"]), "unknown group 'targets'"),
    (changed(*PROMPTS, "target", value="b"), "concepts.a.prompts.target = 'b'"),
    (changed(*PROMPTS, "target", value=[" "]), "concepts.a.prompts.target.0 is empty"),
    (changed(*PROMPTS, "target", value=["two\nlines"]), "line breaks"),
    (changed(*PROMPTS, "target", value=["x" * 2001]), "2,001 letters"),
    (changed(*PROMPTS, "pair", value=[{"text": "x", "concepts": ["c"]}]), "asks for 'c', which"),
    (changed(*PROMPTS, "pair", value=[{"text": "x", "seed": -1}]), "pair.0.seed = -1"),
    (changed(*PROMPTS, "pair", value=[{"text": "x", "guidance": "7"}]), "pair.0.guidance = '7'"),
    (changed("templates", value=[TEMPLATE]), "no concept has the domain 'style'"),
    (changed("templates", value=[{**TEMPLATE, "text": "a b"}]), "names no domain"),
    (changed("templates", value=[{**TEMPLATE, "groups": []}]), "templates.0: groups []"),
    (changed("templates", value=[{**TEMPLATE, "groups": ["pair"]}]), "groups ['pair']"),
    (changed("words", value=[""]), "a word is empty"),
    (changed("words", value=["an", "a"]), "has the word 'b'"),
]


def test_the_example_of_the_documentation_is_a_file_of_prompts():
    """The YAML of docs/datasets.md reads, and has what its comments say."""
    (block,) = re.findall(r"```yaml\n(concepts:.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    book = parse_concepts(parse_yaml(block, "docs"), "docs").book()
    groups = {name: len(rows) for name, rows in book.groups([0]).items() if rows}
    # two prompts of its own and a template at two seeds; Monet's, and the dog by Monet
    assert groups == {
        "target": 2 + 2,
        "synonym": 2,
        "implicit": 1,
        "pair": 1,
        "neighbour": 2,
        "unrelated": 2,
    }
    assert book.anchor(0) == "an artist"


@pytest.mark.parametrize(("document", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_a_wrong_concept_file_is_refused_with_its_place(write, document, reason):
    """The error names the file, the place within it and what is wrong."""
    path = write("wrong.yaml", dump_yaml(document))
    with pytest.raises(MsgmBenchError) as error:
        book_of(path)
    assert reason in str(error.value)
    assert path.name in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("concepts: [", "line 1"),
        ("concepts: {a: {}, a: {}}", "a key stands twice"),
        ("[]", "holds list"),
        ("a: &x 1\nb: *x", "alias"),
        (b"concepts: \xff", "UTF-8"),
        ("concepts: {1: {}}", "quote it"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(write, text, reason):
    """Syntax, double keys, aliases, encodings and keys that are no text."""
    with pytest.raises(StorageError, match=reason):
        book_of(write("wrong.yaml", text))


def test_too_many_prompts_are_refused_before_they_are_made(write, monkeypatch):
    """A template that stands for more prompts than the limit costs no memory."""
    names = {f"{d}{i}": {"domain": d} for d in "abcd" for i in range(200)}
    template = {"text": "{a} {b} {c} {d}", "groups": ["train"]}
    document = {"concepts": names, "templates": [template]}
    with pytest.raises(StorageError, match="6,400,000,000 prompts"):
        parse_concepts(document, "x.yaml")


def test_a_book_of_one_concept_has_no_neighbours(write):
    """Forgetting the only concept is refused before anything is trained."""
    book = book_of(write("one.yaml", "concepts: {a: {prompts: {target: [an a]}}}"))
    with pytest.raises(UsageError, match="the prompts ask for nothing but a"):
        book.groups([0])


# CSV --------------------------------------------------------------------------------------


def test_the_field_s_csv_by_the_names_of_its_columns(write):
    """Seeds and guidance scales of the rows; a table without concepts asks for the file's name."""
    path = write(
        "garbage_truck.csv",
        "case_number,prompt,evaluation_seed,evaluation_guidance,lexica_url\n"
        '0,"a truck, red",16025,7.5,x\n1,trucks,,,y\n2,three,12.0,1,\n',
    )
    table = read_prompt_csv(path)
    assert table.book().prompts == (
        Prompt("a truck, red", (0,), "target", 0, 16025, 6.5),
        Prompt("trucks", (0,), "target", 0),
        Prompt("three", (0,), "target", 0, 12, 0.0),
    )
    assert table.book().concepts == ("garbage truck",)
    assert table.remarks == (f"{path}: columns that are ignored: lexica_url",)


def test_categories_are_several_concepts(write):
    """A prompt of I2P probes each of its categories, and asks for all of them."""
    path = write("i2p.csv", 'prompt,categories,sd_seed\na,"hate, violence",3\nb,hate,4\n')
    assert read_prompt_csv(path).book().prompts == (
        Prompt("a", (0, 1), "target", 0, 3),
        Prompt("a", (0, 1), "target", 1, 3),
        Prompt("b", (0,), "target", 0, 4),
    )


def test_files_are_read_together(write):
    """Concepts of several files are one book, in which they are neighbours."""
    paths = [write(f"{n}.csv", f"prompt\na {n}\nmore {n}\n") for n in ("church", "tench")]
    book = book_of(*paths)
    assert book.concepts == ("church", "tench")
    groups = book.groups([1])
    assert [book[i].text for i in groups["target"]] == ["a tench", "more tench"]
    assert [book[i].text for i in groups["neighbour"]] == ["a church", "more church"]
    assert [p.text for p in book if p.group == "train"] == ["church", "tench"]


def test_files_that_contradict_each_other_are_refused(write):
    """A concept has one anchor."""
    files = [
        write(f"{anchor}.yaml", f"concepts: {{a: {{anchor: {anchor}, prompts: {{target: [a]}}}}}}")
        for anchor in "xy"
    ]
    with pytest.raises(StorageError, match="anchor 'y' of the concept 'a'"):
        read_prompt_files(files)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("text\na\n", "no column 'prompt'"),
        ("prompt,prompt\na,b\n", "two columns are called 'prompt'"),
        ("prompt,class\na,\n", "row 1: its concept is empty"),
        ("prompt,class\na,x\n,y\n", "row 2: prompt is empty"),
        ('prompt,categories\na,"x,,y"\n', "row 1: its concept is empty"),
        ("prompt,evaluation_seed\na,1.5\n", "row 1: seed 1.5"),
        ("prompt,evaluation_seed\na,-1\n", "row 1: seed '-1'"),
        ("prompt,evaluation_seed\na,x\n", "row 1: seed 'x'"),
        ("prompt,evaluation_seed\na,99999999999999999999\n", "seed '99999999999999999999'"),
        ("prompt,evaluation_guidance\na,nan\n", "row 1: guidance 'nan'"),
        ("prompt,group\na,neighbour\n", "row 1: unknown group 'neighbour'"),
        ("prompt\n", "a header alone"),
        ("", "nothing"),
        (b"prompt\n\xff\xfe\xfd\n", "no utf-8 text"),
        ("prompt\na\0b\n", "zero bytes"),
        ("prompt,class\na,x\nb,X\n", "differ in case alone"),
        ('prompt\n"a', "damaged"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_row(write, text, reason):
    """The error names the file and the row."""
    path = write("wrong.csv", text)
    with pytest.raises(StorageError) as error:
        book_of(path)
    assert reason in str(error.value)
    assert path.name in str(error.value)


def test_other_kinds_of_files_are_refused(write):
    """Only YAML and CSV are files of prompts."""
    with pytest.raises(StorageError, match=r"no file of prompts\nallowed: .yaml, .yml, .csv"):
        read_prompt_files([write("prompts.json", "{}")])


def test_too_many_rows_are_refused(write, monkeypatch):
    """Rows that categories multiply count, too."""
    monkeypatch.setattr("msgm_text.datasets.prompt_csv.MAX_ROWS", 3)
    with pytest.raises(StorageError, match="4 prompts"):
        book_of(write("x.csv", 'prompt,categories\na,"x,y"\nb,"x,y"\n'))


# Properties -------------------------------------------------------------------------------

TEXTS = st.text(
    st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=20
).map(lambda text: f"x{text}x")
NAMES = st.sampled_from(["cat", "a dog", "Übung", "x,y", '"q"'])
ROWS = st.lists(
    st.tuples(
        TEXTS,
        NAMES,
        st.none() | st.integers(0, 2**63 - 1),
        st.none() | st.floats(0, 1000, allow_subnormal=False),
    ),
    min_size=1,
    max_size=5,
)


@given(rows=ROWS, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), data=st.data())
def test_csv_gives_back_what_was_written(tmp_path_factory, rows, encoding, data):
    """Texts, concepts, seeds and scales survive, whatever the encoding and the columns' order."""
    header = data.draw(
        st.permutations(["prompt", "concept", "evaluation_seed", "evaluation_guidance", "other"])
    )
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header, restval="z")
    writer.writeheader()
    for prompt, concept, seed, scale in rows:
        values = (prompt, concept, seed, None if scale is None else repr(scale))
        writer.writerow(
            dict(
                zip(
                    ["prompt", "concept", "evaluation_seed", "evaluation_guidance"],
                    values,
                    strict=True,
                )
            )
        )
    path = tmp_path_factory.mktemp("csv") / "prompts.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    book = read_prompt_csv(path).book()
    assert [(p.text, book.concepts[p.concept], p.seed, p.guidance) for p in book] == [
        (prompt, concept, seed, None if scale is None else scale - 1)
        for prompt, concept, seed, scale in rows
    ]


@given(rows=ROWS)
def test_yaml_gives_back_what_was_written(rows):
    """Texts, seeds and scales of each concept survive, in the order of the file."""
    concepts = {}
    for text, name, seed, scale in rows:
        entry = {"text": text, "seed": seed, "guidance": scale}
        concepts.setdefault(name, {"prompts": {"target": []}})["prompts"]["target"].append(entry)
    book = parse_concepts({"concepts": concepts}, "x.yaml").book()
    assert [(p.text, p.seed, p.guidance) for p in book] == [
        (text, seed, None if scale is None else scale - 1)
        for name in concepts
        for text, other, seed, scale in rows
        if other == name
    ]


def assert_book_or_error(parse, name):
    """What ``parse`` makes is a book with prompts, or an error that names the file."""
    reason, count = "", 0
    try:
        count = len(parse().book())
    except MsgmBenchError as error:
        reason = error.what
    assert count or name in reason


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["concepts", "templates", "text", "prompts", "target", "groups", "{x}"])
            | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(value=st.dictionaries(st.sampled_from(["concepts", "templates", "words"]), VALUES))
def test_any_value_is_a_book_or_an_error_of_one_sentence(value):
    """Nothing but the project's own errors leaves the parser of YAML."""
    assert_book_or_error(lambda: parse_concepts(value, "x.yaml"), "x.yaml")


@given(content=st.binary(max_size=60) | st.text('prompt,class\n"ab1;', max_size=60).map(str.encode))
def test_any_bytes_are_prompts_or_an_error_of_one_sentence(tmp_path_factory, content):
    """Nothing but the project's own errors leaves the parser of CSV."""
    path = tmp_path_factory.mktemp("bytes") / "x.csv"
    path.write_bytes(content)
    assert_book_or_error(lambda: read_prompt_csv(path), "x.csv")


def test_joining_one_table_changes_nothing():
    """A table alone is its own join."""
    table = read_packaged_set("unlearncanvas")
    assert join([table]).book() == table.book()
    assert len(table.rows) < prompt_table.MAX_ROWS
