"""Templates of pages, drawings and the site."""

from __future__ import annotations

from collections.abc import Callable

import jinja2


def environment(
    *packages: str, autoescape: bool, **filters: Callable[..., str]
) -> jinja2.Environment:
    """Templates of packages: a name that is missing is an error, and lines of blocks vanish.

    Args:
        packages: Their folders ``templates`` have them; the first that has a name wins.
        autoescape: Whether what a template prints is escaped as XML.
        filters: Functions that templates may call, by name.
    """
    templates = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in packages]),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(filters)
    return templates


def px(value: float) -> str:
    """A length in a drawing, to a tenth of a pixel."""
    return f"{value:.1f}"
