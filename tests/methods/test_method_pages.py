"""The pages of methods: sections, options and rows of the boards."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from msgm_bench.registry import registry

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "methods"
NAMES = [
    name
    for name in registry().names("methods")
    if registry().entry("methods", name).provenance.entry_point.startswith("methods.")
    and registry().entry("methods", name).cls.__module__.startswith(("msgm_builtin.", "msgm_text."))
]
SECTIONS = ["Objective", "Source", "What is adapted", "Cost", "Options", "Rows on the boards"]


@pytest.fixture(scope="module")
def method_pages() -> ModuleType:
    """The script that writes the generated end of a page."""
    path = ROOT / "docs" / "_ext" / "method_pages.py"
    spec = importlib.util.spec_from_file_location("method_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_built_in_method_has_a_page() -> None:
    """A page a method, and no page without a method."""
    assert {page.stem for page in PAGES.glob("*.md")} - {"index"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_its_sections(name: str) -> None:
    """A displayed objective, source, adaptation, cost, options and rows, in this order."""
    text = (PAGES / f"{name}.md").read_text("utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    objective = text.partition("## Objective")[2].partition("\n## ")[0]
    assert objective.count("$$") >= 2


@pytest.mark.parametrize("name", NAMES)
def test_options_and_rows_are_those_of_the_code_and_of_the_boards(
    method_pages: ModuleType, name: str
) -> None:
    """`python docs/_ext/method_pages.py` would change nothing."""
    page = PAGES / f"{name}.md"
    assert method_pages.with_generated_end(page) == page.read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_class_displays_its_objective_and_names_its_page(name: str) -> None:
    """One displayed formula in the docstring; deviations stand on the page that it names."""
    cls = registry().entry("methods", name).cls
    text = cls.__doc__ or ""
    assert re.search(r"^    (L|L_\w+|min|g)\b.* ", text, re.MULTILINE)
    if cls.__module__ != "msgm_builtin.methods.baselines":
        assert f"docs/methods/{name}.md" in text


def test_values_are_copied_from_the_boards(method_pages: ModuleType) -> None:
    """Every cell of a board's row stands on the method's page, under a link to the board."""
    board = ROOT / "leaderboards" / "digits-vesde-3-7" / "README.md"
    line = next(row for row in board.read_text("utf-8").splitlines() if "| `finetune` |" in row)
    text = (PAGES / "finetune.md").read_text("utf-8")
    assert "(../../leaderboards/digits-vesde-3-7/README.md)" in text
    assert " | ".join(method_pages.cells(line)[2:]) in text


def test_cells_keep_escaped_bars(method_pages: ModuleType) -> None:
    r"""A bar after a backslash belongs to the text of its cell."""
    assert method_pages.cells(r"| a \| b | c |") == [r"a \| b", "c"]
    assert method_pages.escaped("|e|*``x``") == r"\|e\|\*`x`"
