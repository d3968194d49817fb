"""The directive `public-names`: an entry for each name that `msgm_bench` exports.

Docstrings of this project are plain text with double backticks; formulas such as ``|s - g|^2`` or
``x_t`` would be markup in reStructuredText, so all that is outside backticks is escaped first.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import msgm_bench

PROJECT = msgm_bench.__name__
LITERAL = re.compile(r"(``.*?``|`[^`]+`)")
MARKUP = re.compile(r"([*|]|(?<=\w)_(?!\w))")


def group(name: str) -> str:
    """Which part of the page a name belongs to."""
    value = getattr(msgm_bench, name)
    if inspect.isclass(value):
        if issubclass(value, msgm_bench.Plugin):
            return "plugins"
        return "errors" if issubclass(value, Exception) else "classes"
    return "functions" if inspect.isroutine(value) or name == "hookimpl" else "values"


class PublicNames(SphinxDirective):
    """The public names of one group: plugins, classes, errors, functions or values."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """One autodoc directive a name."""
        names = [name for name in msgm_bench.__all__ if group(name) == self.arguments[0]]
        lines = [line for name in names for line in _directive(name)]
        node = nodes.container()
        self.state.nested_parse(StringList(lines, source="public-names"), 0, node)
        return node.children


def _directive(name: str) -> list[str]:
    value = getattr(msgm_bench, name)
    if inspect.ismodule(value):
        return [f".. automodule:: {value.__name__}", "   :members:", ""]
    if inspect.isclass(value):
        return [f".. autoclass:: msgm_bench.{name}", "   :members:", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: msgm_bench.{name}", ""]
    return [f".. autodata:: msgm_bench.{name}", "   :no-value:", ""]


def escape(line: str) -> str:
    """The line with all markup outside backticks escaped; single backticks become double."""
    parts = LITERAL.split(line)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = MARKUP.sub(r"\\\1", part)
        elif not part.startswith("``"):
            parts[i] = f"`{part}`"
    return "".join(parts)


def escape_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Before napoleon reads its sections; docstrings of other projects stay as they are."""
    if not getattr(obj, "__module__", PROJECT).startswith(PROJECT):
        return
    lines[:] = [escape(line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    importlib.import_module("msgm_bench.api")
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-process-docstring", escape_docstring, priority=100)
    return {"parallel_read_safe": True}
