"""The plot of a board as SVG."""

from __future__ import annotations

from msgm_bench.boards.board import Board
from msgm_bench.boards.scatter import Scatter
from msgm_bench.drawing.svg import drawing
from msgm_bench.errors import clean


def plot(board: Board, scatter: Scatter, is_file: bool = True) -> str:
    """The SVG of a board.

    Args:
        board: The board.
        scatter: Its drawing.
        is_file: As of ``drawing``; in a page each method is a link to its row.
    """
    return drawing(
        "msgm_bench.boards",
        "plot.svg.j2",
        width=scatter.width,
        height=scatter.height,
        title=clean(f"{board.title}: forgetting against retained quality"),
        is_file=is_file,
        role="group",
        drawing=scatter,
    )
