"""The pages name all that there is: hooks, plugins, members and the words of the project."""

from __future__ import annotations

import inspect
import re

import pytest
from blocks import DOCS, blocks

import msgm_bench
from msgm_bench import hookspecs
from msgm_bench.registry import registry

CLASSES = {
    "datasets": ("Dataset", "Data"),
    "judges": ("Judge",),
    "embedders": ("Embedder",),
    "methods": ("LossMethod",),
    "tasks": ("Task", "TaskOptions"),
}
"""Whose members the tables of a page describe, by page."""
HOOKS = {
    name: list(inspect.signature(function).parameters)
    for name, function in vars(hookspecs).items()
    if hasattr(function, f"{hookspecs.PROJECT}_spec")
}
KINDS = sorted(name.removeprefix("register_") for name in HOOKS if name.startswith("register_"))
WORDS = ("judge", "gate", "pass", "protocol", "provenance", "run", "stage", "board", "track")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_page_with_an_example(kind):
    """The page of a kind has an executed module that implements the kind's hook."""
    page = DOCS / "plugins" / f"{kind}.md"
    example = "".join(block.text for block in blocks(page) if "exec" in block.words)
    assert f"@hookimpl\ndef register_{kind}():" in example
    assert "from msgm_bench.testing import check_" in example


def test_every_life_cycle_hook_is_described():
    """The table names each hook with all of its arguments."""
    page = (DOCS / "plugins" / "lifecycle.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (.*) \|$", page, re.MULTILINE))
    described = {name: set(re.findall(r"`(\w+)`", row)) for name, row in rows.items()}
    hooks = {name: set(args) for name, args in HOOKS.items() if not name.startswith("register_")}
    assert described == hooks


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_plugin_is_listed(kind):
    """The page of built-in names has them all."""
    listed = set(re.findall(r"`([\w.-]+)`", (DOCS / "builtin.md").read_text("utf-8")))
    assert set(registry().names(kind)) <= listed


@pytest.mark.parametrize("page", sorted(CLASSES))
def test_members_in_tables_exist(page):
    """The first column of a table names members of the page's classes."""
    text = (DOCS / "plugins" / f"{page}.md").read_text("utf-8")
    cells = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    names = {name for cell in cells for name in re.findall(r"`(\w+)", cell)}
    classes = [getattr(msgm_bench, name) for name in CLASSES[page]]
    members = {name for cls in classes for name in (*dir(cls), *inspect.get_annotations(cls))}
    assert names <= members
    assert names


@pytest.mark.parametrize("word", WORDS)
def test_the_glossary_defines(word):
    """Each of the project's own words is a term of the glossary."""
    text = (DOCS / "glossary.md").read_text("utf-8")
    assert re.search(rf"^{word}(, \w+)*\n  \S", text, re.MULTILINE)
