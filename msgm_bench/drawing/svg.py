"""Templates of drawings, as a file or as a part of a page."""

from __future__ import annotations

import functools
import importlib.resources
from typing import Literal

import jinja2

from msgm_bench.templating import environment, px

LIGHT = {
    "bg": "#ffffff",
    "panel": "#f1f1f1",
    "text": "#222222",
    "soft": "#444444",
    "line": "#e3e3e3",
    "ranked": "#2a6fbb",
    "reference": "#d98200",
    "baseline": "#7a4fa3",
    "outside": "#777777",
    "sans": "Helvetica,Arial,sans-serif",
}
"""Colours of a file, by the names that a page gives its own."""


def style() -> str:
    """The style sheet of all drawings, whose colours are variables of the page."""
    return (importlib.resources.files(__package__) / "templates/drawing.css").read_text("utf-8")


def drawing(
    package: str,
    name: str,
    *,
    width: int,
    height: int,
    title: str,
    is_file: bool,
    role: Literal["img", "group"] = "img",
    **values: object,
) -> str:
    """A drawing.

    Args:
        package: The package whose folder ``templates`` has the template.
        name: The template; it extends ``drawing.svg.j2``.
        width: Pixels.
        height: Pixels.
        title: What it shows.
        is_file: Whether it brings its own style, for light pages; else the page has ``style``.
        role: Of the element on a page: a ``group`` has parts that are read one by one.
        values: What the template reads.
    """
    template = _templates(package).get_template(name)
    return template.render(
        width=width,
        height=height,
        title=title,
        is_file=is_file,
        role=role,
        style=_light() if is_file else "",
        **values,
    )


@functools.cache
def _templates(package: str) -> jinja2.Environment:
    return environment(package, "msgm_bench.drawing", autoescape=True, px=px)


@functools.cache
def _light() -> str:
    """The style with the colours of a file: not every viewer of SVG knows variables."""
    text = style()
    for key, value in LIGHT.items():
        text = text.replace(f"var(--{key})", value)
    return text
