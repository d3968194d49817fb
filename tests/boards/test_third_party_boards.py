"""Boards and results of people who wish ill, or whose files are damaged."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msgm_bench.api.result import Result
from msgm_bench.boards import build, check, compare, load, read
from msgm_bench.cli.main import call
from msgm_bench.errors import MsgmBenchError, OptionError, StorageError

NAMES = ("alpha", "base", "beta", "ideal")
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 2**63, 10**300, -(10**300), 1e308, -1e308, 5e-324, 1e-9]),
    st.sampled_from(["", "\0", "../../../x", "/etc/passwd", "x" * 3000, "\ud800", "\x1b[2J", "1"]),
    st.sampled_from([[], {}, [[]], {"": {}}, {"a": None}, [None] * 3]),
    st.floats(),
    st.text(max_size=5),
)


def places(value, path=()):
    """Every path into nested lists and dictionaries."""
    yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, key))


@st.composite
def mutations(draw, documents):
    """A document with one to three parts replaced, deleted, added or wrapped."""
    value = copy.deepcopy(draw(documents))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([p for p in places(value) if p] or [("x",)]))
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        kind = draw(st.sampled_from(["replace", "delete", "insert", "wrap", "nest"]))
        if kind == "delete":
            del parent[path[-1]]
        elif kind == "insert" and isinstance(parent, dict):
            parent[draw(st.text(max_size=8))] = copy.deepcopy(draw(ODD))
        elif kind == "wrap":
            parent[path[-1]] = [parent[path[-1]]]
        elif kind == "nest":
            parent[path[-1]] = nested(draw(st.sampled_from([10, 60, 70, 500])))
        else:
            parent[path[-1]] = copy.deepcopy(draw(ODD))
    return value


def nested(depth):
    """Lists in lists."""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def signed(document):
    """The document with the digest of its content, where it has one."""
    with contextlib.suppress(Exception):
        plain = {k: v for k, v in document.items() if k not in ("schema", "digest")}
        document = document | {"digest": Result(**plain).digest}
    return document


@pytest.fixture
def small(tmp_path, definition, make, write):
    """A board of one seed, in a folder of its own, and a valid result as a document."""
    definition["seeds"] = 1
    place = tmp_path / "outer" / "board"
    write(place, [make(name, 0, 5.0, 2.0) for name in NAMES], definition)
    build(place)
    document = json.loads((place / "results" / "alpha-s0.json").read_text())
    document["spec"]["settings"] = {
        "training": {"steps": 10, "passes": None, "batch_size": 4},
        "tasks": {"generation": {"nfe": 50}},
        "judge": {},
        "pass_items": 4,
    }
    document["provenance"] |= {
        "limits": {"required_task_options": {"generation": {"nfe": 1}}},
        "code": {"core": "0", "methods/alpha": "1"},
        "stages": {"measure": "2"},
        "judge": {"confusion": [[1]]},
    }
    document = signed(document)
    return place, document, definition


def in_order(place):
    """Check a board, whatever a third party writes: our errors only, and nothing outside.

    The methods that stand on it; None where the board itself is wrong.
    """
    start, standing = time.monotonic(), None
    with contextlib.suppress(MsgmBenchError):
        standing = {result.spec.method for result in build(place).results}
        assert standing <= set(NAMES)
        results = []
        for path in sorted((place / "results").glob("*.json")):
            with contextlib.suppress(MsgmBenchError):
                results.append(read(path))
        compare(results)
    check(place)
    assert [p.name for p in place.parent.iterdir()] == ["board"]
    generated = {"README.md", "protocols.md", "plot.svg"}
    assert {p.name for p in place.iterdir()} == {"board.yaml", "results", *generated}
    assert time.monotonic() - start < 10
    return standing


FUZZ = settings(
    max_examples=70,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(data=st.data())
def test_mutated_results_leave_the_others_standing(small, data):
    """A mutated result stands or is left out; the other three stand, and nothing is raised."""
    place, document, _ = small
    value = data.draw(mutations(st.just(document)))
    value = signed(value) if data.draw(st.booleans()) else value
    with contextlib.suppress(UnicodeEncodeError):
        (place / "results" / "alpha-s0.json").write_text(json.dumps(value), "utf-8")
    standing = in_order(place)
    assert standing is None or {"base", "beta", "ideal"} <= standing


@FUZZ
@given(data=st.data())
def test_mutated_boards_are_errors_of_ours(small, data):
    """A mutated board.yaml makes a page or an error that names the place."""
    place, _, definition = small
    value = data.draw(mutations(st.just(definition)))
    (place / "board.yaml").write_text(json.dumps(value), "utf-8")  # flow style, as deep as it is
    in_order(place)


@FUZZ
@given(data=st.data())
def test_damaged_bytes_are_errors_of_ours(small, data):
    """Any bytes in the place of either file, or a part of it overwritten or cut off."""
    place, document, definition = small
    name = data.draw(st.sampled_from(["board.yaml", "results/alpha-s0.json"]))
    texts = {
        "board.yaml": yaml.safe_dump(definition),
        "results/alpha-s0.json": json.dumps(document),
    }
    content = texts[name].encode()
    start = data.draw(st.integers(0, len(content)))
    patch = data.draw(st.binary(max_size=12))
    for other, text in texts.items():
        (place / other).write_bytes(text.encode())
    cut = content[:start] + patch + content[start + len(patch) : None if patch else start]
    (place / name).write_bytes(cut)
    in_order(place)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["spec"]["settings"].update(training=None),
        lambda d: d["provenance"].update(limits=1),
        lambda d: d["provenance"].update(limits={"required_task_options": {"generation": 1}}),
        lambda d: d["provenance"].update(code=["x"]),
        lambda d: d["spec"].update(params={"a": float("nan")}),
        lambda d: d["spec"].update(method="../../../x"),
        lambda d: d["spec"].update(seed=10**300),
        lambda d: d["metrics"][0].update(n=-1),
        lambda d: d["metrics"][0].update(n=10**300),
        lambda d: d["metrics"].append(d["metrics"][0]),
        lambda d: d.update(protocols={}),
    ],
)
def test_one_bad_submission_is_left_out(small, change):
    """CASES: each of these took its whole board down with a traceback."""
    place, document, _ = small
    change(document)
    (place / "results" / "alpha-s0.json").write_text(json.dumps(signed(document)))
    page = build(place)
    assert [path.name for path in page.left_out] == ["alpha-s0.json"]
    assert {r.spec.method for r in page.results} == {"base", "beta", "ideal"}
    assert "Traceback" not in " ".join(page.refusals)
    assert check(place)[0].error


@pytest.mark.parametrize("text", ["[" * 3000, '{"a":' * 3000, "[" * 3000 + "]" * 3000])
def test_deep_nests_are_left_out(small, text):
    """CASES: nesting of 3,000 is a sentence."""
    place, _, _ = small
    (place / "results" / "alpha-s0.json").write_text(text)
    assert "nests more than" in next(iter(build(place).left_out.values()))


def test_results_that_are_no_files(small, tmp_path):
    """Links out of the board, to nowhere, to devices, and named pipes are left out at once."""
    place, document, _ = small
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(document))
    for number, target in enumerate((secret, tmp_path / "nowhere", "/dev/zero", "/dev/stdin")):
        (place / "results" / f"link-{number}.json").symlink_to(target)
    os.mkfifo(place / "results" / "pipe.json")
    (place / "results" / "folder.json").mkdir()
    page = build(place)
    assert sorted(path.name for path in page.left_out) == [
        "folder.json", "link-0.json", "link-1.json", "link-2.json", "link-3.json", "pipe.json",
    ]  # fmt: skip
    assert len(page.results) == 4


def test_a_link_in_the_place_of_the_results(small, make, tmp_path):
    """CASES: results/ as a link out of the board is neither read nor written through."""
    place, _, _ = small
    outside = tmp_path / "outside"
    shutil.move(place / "results", outside)
    (place / "results").symlink_to(outside)
    before = {path: path.read_bytes() for path in outside.iterdir()}
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "result.json").write_text(make("alpha", 5, 5.0, 2.0).to_json())
    with pytest.raises(StorageError, match="leads out of the board"):
        build(place, tmp_path / "runs")
    assert check(place)[0].error
    assert {path: path.read_bytes() for path in outside.iterdir()} == before


def test_something_else_in_the_place_of_the_results(small):
    """A pipe or a file called results is no board without results, and nothing waits for it."""
    place, _, _ = small
    for make in (os.mkfifo, lambda path: path.write_text("x")):
        shutil.rmtree(place / "results", ignore_errors=True)
        (place / "results").unlink(missing_ok=True)
        make(place / "results")
        with pytest.raises(StorageError, match="is no folder"):
            build(place)
        assert "is no folder" in check(place)[0].text
        (place / "results").unlink()


@pytest.mark.parametrize("name", ["board.yaml", "README.md"])
def test_links_in_the_place_of_a_boards_files(small, name, tmp_path):
    """board.yaml elsewhere is refused; a page elsewhere is neither read nor written."""
    place, _, _ = small
    outside = tmp_path / name
    shutil.move(place / name, outside)
    (place / name).symlink_to(outside)
    before = outside.read_bytes()
    assert "leads out of its folder" in check(place)[0].text
    if name == "README.md":
        build(place)
        assert not (place / name).is_symlink()
    assert outside.read_bytes() == before


def test_names_of_methods_are_no_paths(small, tmp_path, make, write):
    """CASES: ``methods: [../../../x]`` with a run that claims the name writes nothing outside."""
    place, document, definition = small
    definition["methods"].append("../../../x")
    write(place, [], definition)
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    document["spec"]["method"] = "../../../x"
    (run / "result.json").write_text(json.dumps(document))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OptionError, match=r"methods\.4"):
        build(place, tmp_path / "runs")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["Alpha", "a b", "", ".x", "-x", "a/b", "ä", "a\n", "x" * 65, "a\x1b"]
)
def test_names_are_plain(small, write, name):
    """A method of a board is ``[a-z0-9][a-z0-9_.-]*`` of at most 64 letters."""
    place, _, definition = small
    definition["methods"].append(name)
    write(place, [], definition)
    with pytest.raises(OptionError, match=r"methods\.4"):
        load(place)


def test_yaml_bombs_are_refused_at_once(small):
    """CASES: aliases that grow without end are a short sentence, in no time."""
    place, _, _ = small
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    (place / "board.yaml").write_text("\n".join(lines))
    start = time.monotonic()
    (problem,) = check(place)
    assert time.monotonic() - start < 1
    assert "alias" in problem.text
    assert len(problem.text) < 500


def test_a_board_that_moves_stays_in_order(small):
    """The page does not know where it lies."""
    place, _, _ = small
    moved = place.with_name("elsewhere-2")
    place.rename(moved)
    assert not any(problem.error for problem in check(moved))


def test_the_command_line_says_it_in_a_line(small, capsys, tmp_path):
    """``board check``, ``board build`` and ``compare`` name the file; codes 1, 0 and 0."""
    place, document, _ = small
    document["spec"]["params"] = {"x": "\x1b[2J"}
    bad = place / "results" / "beta-s0.json"
    bad.write_text(json.dumps(document).replace('"ok"', '"\\u001b[2J"'))
    for arguments, code in (
        (["board", "check", place], 1),
        (["board", "build", place], 0),
        (["compare", *sorted((place / "results").iterdir())], 0),
    ):
        assert call([str(argument) for argument in arguments]) == code
        said = capsys.readouterr()
        assert "beta-s0.json" in said.err
        assert "\x1b" not in said.err + said.out
