"""The rules of the house that a machine can check: a test a rule, which prints what breaks it."""

from __future__ import annotations

import ast
import inspect
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from functools import cache
from pathlib import Path

from msgm_bench.registry import KINDS, registry

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "msgm_bench").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
MODULE_LINES, FUNCTION_LINES = 300, 40
CITING = ("methods", "backbones", "datasets")

# Registered names that are words of the core, too: (word, where, what it means there).
HOMONYMS = [
    ("finetune", "msgm_bench/", "a regime"),
    ("captions", "msgm_bench/", "texts of items"),
    ("concepts", "msgm_bench/", "what prompts ask for"),
    ("digits", "msgm_bench/boards/", "decimals of a column"),
    ("digits", "msgm_bench/site/", "decimals of a column"),
    ("digits", "msgm_bench/api/columns.py", "decimals of a column"),
    ("digits", "msgm_bench/api/result.py", "hexadecimal digits"),
    ("ddpm", "msgm_bench/diffusion/", "the module of a process"),
    ("standard", "msgm_bench/diffusion/", "standard deviation"),
    ("standard", "msgm_bench/evaluation/", "Student's interval of means: standard error"),
    ("standard", "msgm_bench/testing/", "standard deviation"),
    ("clip", "msgm_bench/api/", "to bound the norm of a gradient"),
    ("clip", "msgm_bench/training/", "to bound the norm of a gradient"),
    ("digits", "msgm_bench/cli/estimate.py", "decimals of a number"),
    ("emoji", "msgm_bench/cli/tables.py", "an option of rich"),
    ("attributes", "msgm_bench/cli/estimate.py", "labels of which an item may have many"),
    ("attributes", "msgm_bench/training/", "labels of which an item may have many"),
    ("attributes", "msgm_bench/api/", "labels of which an item may have many"),
    ("attributes", "msgm_bench/cli/options.py", "labels of which an item may have many"),
    ("attributes", "msgm_bench/estimate/", "labels of which an item may have many"),
    ("attributes", "msgm_bench/experiment/", "labels of which an item may have many"),
    ("attributes", "msgm_bench/testing/", "labels of which an item may have many"),
]


def relative(path):
    """Path below the root, for messages."""
    return path.relative_to(ROOT).as_posix()


@cache
def source(path):
    """Text of a module."""
    return path.read_text("utf-8")


@cache
def tree(path):
    """Syntax tree of a module."""
    return ast.parse(source(path))


def functions(path):
    """Every function of a module."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]


@cache
def tokens(path):
    """Line and text of names and strings, without comments."""
    stream = tokenize.generate_tokens(io.StringIO(source(path)).readline)
    kinds = (tokenize.NAME, tokenize.STRING)
    return [(token.start[0], token.string) for token in stream if token.type in kinds]


def entries():
    """Every registered plugin."""
    return [entry for kind in KINDS for entry in registry().entries(kind)]


def report(violations):
    """Fail with all violations, one a line."""
    assert not violations, "\n" + "\n".join(violations)


def test_imports_go_one_way():
    """import-linter keeps every contract of pyproject.toml."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_modules_are_short_and_documented():
    """A module is one concept of under 300 lines with a docstring."""
    assert len(CORE) > 50
    assert len(PLUGINS) > 15
    paths = CORE + PLUGINS
    sizes = {path: len(source(path).splitlines()) for path in paths}
    report(
        [f"{relative(path)}: {n} lines" for path, n in sizes.items() if n >= MODULE_LINES]
        + [f"{relative(path)}: no docstring" for path in paths if not ast.get_docstring(tree(path))]
    )


def test_functions_are_short():
    """A function stays near forty lines, its docstring not counted."""
    violations = []
    for path in CORE + PLUGINS:
        for node in functions(path):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            length = node.end_lineno - (first.end_lineno if documented else node.lineno)
            if length > FUNCTION_LINES:
                violations.append(f"{relative(path)}:{node.lineno}: {node.name} has {length} lines")
    report(violations)


def test_the_core_names_no_plugin():
    """No registered method, dataset, backbone or judge is named in the core's code or prose."""
    kinds = ("methods", "datasets", "backbones", "judges")
    names = {entry.cls.name for entry in entries() if entry.kind in kinds}
    assert len(names) > 15
    violations = []
    for path in CORE:
        homonyms = {word for word, where, _ in HOMONYMS if relative(path).startswith(where)}
        choices = "|".join(map(re.escape, sorted(names - homonyms)))
        word = re.compile(rf"(?<![\w-])({choices})(?![\w-])")
        for line, text in tokens(path):
            violations += [f"{relative(path)}:{line}: {m[1]}" for m in word.finditer(text)]
    report(violations)


def test_homonyms_are_needed():
    """An exception that nothing needs any more is taken off the list."""
    violations = []
    for word, where, _ in HOMONYMS:
        paths = [path for path in CORE if relative(path).startswith(where)]
        if not any(re.search(rf"\b{word}\b", text) for p in paths for _, text in tokens(p)):
            violations.append(f"{word} in {where}")
    report(violations)


def test_nothing_is_swallowed():
    """``except Exception`` stands only where a third party's code is called, and says so."""
    violations = []
    for path in CORE + PLUGINS:
        lines = source(path).splitlines()
        for number, line in enumerate(lines, 1):
            if re.search(r"except\s*(:|\(?.*\b(Base)?Exception\b)", line) and not (
                "noqa: BLE001" in line or "raise" in "".join(lines[number : number + 4])
            ):
                violations.append(f"{relative(path)}:{number}: {line.strip()}")
    report(violations)


def test_plugins_are_documented():
    """A docstring of its own with a one-line summary, a lower-case name, described options."""
    assert len(entries()) > 15
    violations = []
    for entry in entries():
        cls = entry.cls
        config = cls.options_type.model_config
        rules = {
            "has a docstring of its own": "__doc__" in vars(cls),
            "has a summary of at most 99 letters": 0 < len(cls.summary()) < 100,
            "has a lower-case name": re.fullmatch(r"[a-z][a-z0-9_-]*", cls.name),
            "describes each option": all(
                f.description for f in cls.options_type.model_fields.values()
            ),
            "refuses unknown options": config["extra"] == "forbid" and config["frozen"],
            "is no abstract class": not inspect.isabstract(cls),
            "cites its source": entry.kind not in CITING or cls.citation,
        }
        violations += [f"{entry.kind}/{cls.name}: not so: {k}" for k, v in rules.items() if not v]
    report(violations)


def test_one_entry_point_a_module():
    """Entry points are called ``kind.name``, so that one broken module takes nothing else down."""
    report(
        [
            f"{entry.kind}/{entry.cls.name}: {entry.provenance.entry_point}"
            for entry in entries()
            if entry.provenance.entry_point.split(".")[0] != entry.kind
            or entry.provenance.module != entry.cls.__module__
        ]
    )


def test_importing_costs_nothing():
    """``import msgm_bench`` and ``--help`` load neither torch nor a plugin."""
    program = (
        "import sys, msgm_bench\n"
        "from msgm_bench.cli.main import call\n"
        "assert call(['--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'pluggy', 'rich', 'msgm_methods', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Train a base model" in done.stdout


def test_every_package_is_typed():
    """What the wheel holds is what mypy reads, and each package says that it has types."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    packages = [ROOT / path for path in tools["hatch"]["build"]["targets"]["wheel"]["packages"]]
    assert sorted(tools["mypy"]["packages"]) == sorted(path.name for path in packages)
    assert tools["mypy"]["strict"]
    assert [path for path in packages if not (path / "py.typed").is_file()] == []
