"""What the page of a method shows: what it is, its options, and its rows on the boards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from msgm_bench.api import Method
from msgm_bench.errors import MsgmBenchError
from msgm_bench.registry import registry
from msgm_bench.site.board_view import BoardView, Line
from msgm_bench.site.texts import Paragraph, paragraphs


@dataclass(frozen=True)
class OptionView:
    """An option of a method: name, default as it is typed, description."""

    name: str
    default: str
    description: str


@dataclass(frozen=True)
class MethodView:
    """A method.

    Attributes:
        name: Its name.
        summary: First line of its docstring; empty of one that is not installed.
        paragraphs: The rest of its docstring.
        citation: Paper or source.
        origin: Distribution and module.
        regimes: Regimes that it knows.
        options: Its options.
        rows: Its rows: the board, and the line there.
    """

    name: str
    summary: str
    paragraphs: Sequence[Paragraph]
    citation: str
    origin: str
    regimes: Sequence[str]
    options: Sequence[OptionView]
    rows: Sequence[tuple[BoardView, Line]]

    @property
    def is_installed(self) -> bool:
        """Whether this machine knows more of it than its results."""
        return bool(self.origin)

    def on(self, board: BoardView) -> Line | None:
        """Its line on a board, or None where it is not listed there."""
        return next((line for view, line in self.rows if view is board), None)


def method_views(boards: Iterable[BoardView]) -> Iterator[MethodView]:
    """Every method of the boards, by name."""
    rows: dict[str, list[tuple[BoardView, Line]]] = {}
    for board in boards:
        for line in board.lines:
            rows.setdefault(line.method, []).append((board, line))
    for name in sorted(rows):
        yield _view(name, rows[name])


def _view(name: str, rows: Sequence[tuple[BoardView, Line]]) -> MethodView:
    try:
        entry = registry().entry("methods", name)
    except MsgmBenchError:
        return MethodView(name, "", (), "", "", (), (), rows)
    cls = cast(type[Method], entry.cls)
    options = [
        OptionView(
            key, typed(field.get_default(call_default_factory=True)), field.description or ""
        )
        for key, field in cls.options_type.model_fields.items()
    ]
    return MethodView(
        name,
        cls.summary(),
        list(paragraphs(cls)),
        cls.citation,
        str(entry.provenance),
        cls.regimes,
        options,
        rows,
    )


def typed(default: Any) -> str:
    """A default as it is typed on a command line."""
    return default if isinstance(default, str) else json.dumps(default, default=str)
