"""YAML by the core schema of YAML 1.2, with numbers in their plain form only.

PyYAML follows YAML 1.1, where ``no`` is false, ``1:30`` is 90, ``010`` is 8 and ``2001-99-99``
raises. Here a scalar is a number only in its plain form: ``3`` and ``-12`` are integers, ``00001``
and ``+3`` are text, so that the text of an integer is the typed text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_SCALARS = (
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("tag:yaml.org,2002:int", r"^(?:0|-?[1-9][0-9]*)$", list("-0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
    ("tag:yaml.org,2002:merge", r"^(?:<<)$", ["<"]),
)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, first_letters in _SCALARS:
        for letter in first_letters:
            table.setdefault(letter, []).append((tag, re.compile(pattern)))
    return table


class CoreLoader(yaml.SafeLoader):
    """Reads the core schema; builds plain Python values only."""

    yaml_implicit_resolvers = _resolvers()

    def construct_yaml_float(self, node: Any) -> float:
        """``1e-3`` is a number, as everywhere but in YAML 1.1."""
        text = str(self.construct_scalar(node)).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping in which no key stands twice."""
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(
                problem="a key stands twice", problem_mark=node.start_mark
            )
        return mapping


CoreLoader.add_constructor("tag:yaml.org,2002:float", CoreLoader.construct_yaml_float)


class _CoreDumper(yaml.SafeDumper):
    """Quotes every text that ``CoreLoader`` reads as another type."""

    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value out: the reader takes no aliases."""
        return True

    def represent_str(self, data: str) -> Any:
        """Escape line breaks and controls, so that a text stays on its line."""
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_CoreDumper.add_representer(str, _CoreDumper.represent_str)


def dump_yaml(value: Any) -> str:
    """``value`` as YAML that ``parse_yaml`` reads back as an equal value."""
    text: str = yaml.dump(value, Dumper=_CoreDumper, sort_keys=True, allow_unicode=True)
    return text


def one_line_yaml(value: Any) -> str:
    """``value`` on one line, for the value of ``key=value`` on a command line."""
    text: str = yaml.dump(
        value, Dumper=_CoreDumper, default_flow_style=True, width=float("inf"), allow_unicode=True
    )
    return text.removesuffix("...\n").strip()
