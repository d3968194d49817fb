"""docs/boards.md names every key of board.yaml, and its example is a board."""

from __future__ import annotations

import re
import typing
from pathlib import Path

from pydantic import BaseModel

from msgm_bench.boards import Board
from msgm_bench.boards.board import RunConditions
from msgm_bench.storage import parse_yaml

PAGE = (Path(__file__).parents[2] / "docs" / "boards.md").read_text("utf-8")
RUN = ("### run", "### Quantities")
"""Headings around the table of ``run``."""


def keys(model):
    """Keys of a model and, ``run`` apart, of the models inside it."""
    for name, field in model.model_fields.items():
        yield name
        for inner in (field.annotation, *typing.get_args(field.annotation)):
            if (
                isinstance(inner, type)
                and issubclass(inner, BaseModel)
                and inner is not RunConditions
            ):
                yield from keys(inner)


def documented(text):
    """First columns of the tables of keys."""
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def test_every_key_is_documented_once():
    """The tables have the keys of the schema, no more and no fewer."""
    before, rest = PAGE.split(RUN[0])
    run, after = rest.split(RUN[1])
    assert sorted(documented(run)) == sorted(RunConditions.model_fields)
    assert sorted(documented(before + after)) == sorted(set(keys(Board)))


def test_the_example_is_a_board():
    """The block of YAML is valid, and has every key of the first table."""
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    content = parse_yaml(text, "the example")
    assert set(content) == set(Board.model_fields)
    assert Board.model_validate(content).run.passes == 2000


def test_every_key_describes_itself():
    """The schema carries a description of each key, for whoever reads it without the page."""
    for model in (Board, RunConditions):
        assert all(field.description for field in model.model_fields.values())
