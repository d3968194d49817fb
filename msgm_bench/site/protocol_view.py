"""How the quantities of a board are measured, a protocol each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgm_bench.boards.pages import BoardPage
from msgm_bench.boards.protocols import flatten
from msgm_bench.boards.protocols_page import compact, quantities
from msgm_bench.boards.render import column_label, columns


@dataclass(frozen=True)
class ProtocolView:
    """How quantities are measured.

    Attributes:
        name: ``name@version``.
        hash: First digits of the hash of its settings.
        quantities: Labels of what is measured by it.
        n: Items of a result.
        settings: Each setting and its value.
    """

    name: str
    hash: str
    quantities: Sequence[str]
    n: str
    settings: Sequence[tuple[str, str]]


def protocol_views(page: BoardPage) -> list[ProtocolView]:
    """The protocols of a board's quantities, in the order of the columns."""
    board = page.board
    named = {str(column.key): column_label(column) for column in reversed(columns(board))}
    parts: dict[str, tuple[dict[str, str], list[str]]] = {}
    for entry in quantities(board, page.frame):
        entry_labels = parts.setdefault(entry["protocol"], (entry, []))[1]
        entry_labels.append(named.get(entry["key"], entry["key"]))
    stored: dict[str, Mapping[str, Any]] = {}
    for result in page.results:
        for name, record in result.protocols.items():
            stored.setdefault(name, record.settings)
    return [
        ProtocolView(
            name,
            entry["hash"],
            labels,
            entry["n"],
            [(key, compact(value)) for key, value in sorted(flatten(stored[name]).items())],
        )
        for name, (entry, labels) in parts.items()
    ]
