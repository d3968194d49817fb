"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import inspect
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest

from msgm_bench.registry import KINDS, registry

ROOT = Path(__file__).parents[1]
RULER = sorted((ROOT / "msgm_bench").rglob("*.py"))
CONTESTANTS = sorted((ROOT / "plugins").rglob("*.py"))
PLUGINS = [entry for kind in KINDS for entry in registry().entries(kind)]
MODULE_LINES = 300

# Registered names that are words of the ruler's own, too: (word, where, what it means there).
HOMONYMS = [
    ("standard", "msgm_bench/", "a preset"),
    ("finetune", "msgm_bench/", "a regime"),
    ("digits", "msgm_bench/boards/", "decimals of a column"),
    ("digits", "msgm_bench/api/result.py", "hexadecimal digits"),
    ("ddpm", "msgm_bench/diffusion/", "the module of a process"),
    ("clip", "msgm_bench/api/", "the largest norm of a gradient"),
    ("clip", "msgm_bench/training/", "the largest norm of a gradient"),
    ("attributes", "msgm_bench/api/", "labels of which an item may have many"),
    ("attributes", "msgm_bench/cli/options.py", "labels of which an item may have many"),
    ("attributes", "msgm_bench/pipeline/", "labels of which an item may have many"),
    ("attributes", "msgm_bench/testing/", "labels of which an item may have many"),
]


def relative(path):
    """Path below the root, for messages."""
    return str(path.relative_to(ROOT))


def named(entry):
    """Id of a parameter."""
    return f"{entry.kind}/{entry.cls.name}"


def functions(path):
    """Every function of a module."""
    tree = ast.parse(path.read_text("utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def test_imports_go_one_way():
    """import-linter keeps every contract of pyproject.toml."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert " 0 broken" in told.stdout


def test_there_is_something_to_check():
    """The rules below look at real files."""
    assert len(RULER) > 50
    assert len(CONTESTANTS) > 15
    assert len(PLUGINS) > 15


@pytest.mark.parametrize("path", RULER + CONTESTANTS, ids=relative)
def test_modules_are_short(path):
    """A module is one concept of under 300 lines."""
    assert len(path.read_text("utf-8").splitlines()) < MODULE_LINES


@pytest.mark.parametrize("path", RULER + CONTESTANTS, ids=relative)
def test_functions_are_short(path):
    """A function stays near forty lines, its docstring not counted."""
    for node in functions(path):
        first = node.body[0]
        documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        start = first.end_lineno if documented else node.lineno
        assert node.end_lineno - start <= 40, f"{node.name} is too long"


@pytest.mark.parametrize("path", RULER + CONTESTANTS, ids=relative)
def test_modules_say_what_they_are(path):
    """Every module has a docstring."""
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


def tokens(path):
    """Names and the text of strings, without comments."""
    source = path.read_text("utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NAME, tokenize.STRING):
            yield token.start[0], token.string


@pytest.mark.parametrize("path", RULER, ids=relative)
def test_the_ruler_names_no_contestant(path):
    """No registered method, dataset, backbone or judge is named in the ruler's code or prose."""
    kinds = ("methods", "datasets", "backbones", "judges")
    names = {entry.cls.name for entry in PLUGINS if entry.kind in kinds}
    names -= {word for word, where, _ in HOMONYMS if relative(path).startswith(where)}
    word = re.compile(rf"(?<![\w-])({'|'.join(sorted(map(re.escape, names)))})(?![\w-])")
    found = {(line, match[1]) for line, text in tokens(path) for match in word.finditer(text)}
    assert not found


def test_homonyms_are_needed():
    """An exception that nothing needs any more is taken off the list."""
    for word, where, _ in HOMONYMS:
        texts = [
            text for path in RULER if relative(path).startswith(where) for _, text in tokens(path)
        ]
        assert any(re.search(rf"\b{word}\b", text) for text in texts), word


@pytest.mark.parametrize("path", RULER + CONTESTANTS, ids=relative)
def test_nothing_is_swallowed(path):
    """``except Exception`` stands only where a stranger's code is called, and says so."""
    lines = path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if re.search(r"except\s*(:|\(?.*\b(Base)?Exception\b)", line):
            said = "noqa: BLE001" in line or "raise" in "".join(lines[number : number + 4])
            assert said, f"line {number}: {line}"


@pytest.mark.parametrize("entry", PLUGINS, ids=named)
def test_plugins_are_documented(entry):
    """A docstring of its own with a one-line summary, a lower-case name, described options."""
    cls = entry.cls
    assert "__doc__" in vars(cls)
    assert cls.summary()
    assert len(cls.summary()) < 100
    assert re.fullmatch(r"[a-z][a-z0-9_-]*", cls.name)
    for name, field in cls.options_type.model_fields.items():
        assert field.description, f"{cls.name} does not describe its option {name!r}"
    assert cls.options_type.model_config["extra"] == "forbid"
    assert cls.options_type.model_config["frozen"]
    assert not inspect.isabstract(cls)


@pytest.mark.parametrize(
    "entry", [e for e in PLUGINS if e.kind in ("methods", "backbones", "datasets")], ids=named
)
def test_contestants_cite_their_source(entry):
    """Methods, backbones and datasets say where they come from."""
    assert entry.cls.citation


@pytest.mark.parametrize("entry", PLUGINS, ids=named)
def test_one_entry_point_a_module(entry):
    """Entry points are called ``kind.name``, so that one broken module takes nothing else down."""
    assert entry.provenance.entry_point.split(".")[0] == entry.kind
    assert entry.provenance.module == entry.cls.__module__


def test_importing_costs_nothing():
    """``import msgm_bench`` and ``--help`` load neither torch nor a plugin."""
    source = (
        "import sys, msgm_bench\n"
        "from msgm_bench.cli.main import call\n"
        "assert call(['--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'pluggy', 'rich', 'msgm_methods', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines()[-1] == "[]"
    assert "Train, unlearn, score" in told.stdout


def test_every_package_is_typed():
    """What the wheel holds is what mypy reads, and each package says that it has types."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    packages = [ROOT / path for path in tools["hatch"]["build"]["targets"]["wheel"]["packages"]]
    assert sorted(tools["mypy"]["packages"]) == sorted(path.name for path in packages)
    assert tools["mypy"]["strict"]
    assert [path for path in packages if not (path / "py.typed").is_file()] == []
