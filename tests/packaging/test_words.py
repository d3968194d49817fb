"""The list of banned identifiers reads what a file binds, and nothing else."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

WORDS = runpy.run_path(str(Path(__file__).parents[2] / ".ci" / "words.py"))

BOUND = [
    "found = 1",
    "self.found = 1",
    "for _, found in x: pass",
    "def found(): pass",
    "def f(*, found=1): pass",
    "lambda found: 1",
    "class A:\n    found: int = 1",
    "import x as found",
    "with x as (found, y): pass",
    "try: pass\nexcept E as found: pass",
    "[1 for found in x]",
    "if (found := 1): pass",
    "match x:\n    case [found, *_]: pass",
    "_found = 1",
]
FREE = [
    "library.found(1)",
    "f(found=1)",
    "'found'",
    "# found\nfoundation = 1",
    "from library import found",
    "x['found'] = 1",
]


def lines(tmp_path, source, name="module.py"):
    """What is said of a file."""
    path = tmp_path / name
    path.write_text(source + "\n", encoding="utf-8")
    return [*WORDS["violations"](path)]


@pytest.mark.parametrize("source", BOUND)
def test_bound_names_are_read(tmp_path, source):
    """Every way of binding a name is seen, once, with its line."""
    (line,) = lines(tmp_path, source)
    number = next(i for i, text in enumerate(source.splitlines(), 1) if "found" in text)
    assert line.startswith(f"{tmp_path / 'module.py'}:{number}: ")


@pytest.mark.parametrize("source", FREE)
def test_other_text_is_not_read(tmp_path, source):
    """Strings, comments, keywords and other libraries' attributes are not ours."""
    assert lines(tmp_path, source) == []


def test_old_names_by_kind(tmp_path):
    """A name that is banned for a class is free for a value; a module's own name counts."""
    assert "use Options" in lines(tmp_path, "class Config: pass")[0]
    assert lines(tmp_path, "Config = 1") == []
    assert "use marginal" in lines(tmp_path, "def coefficients(): pass")[0]
    assert lines(tmp_path, "coefficients = 1") == []
    assert "use elbo" in lines(tmp_path, "x = 1", "bound.py")[0]
