"""The plot of a board as an SVG of stable bytes.

It rests on no plotting library, whose versions would change its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from msgm_bench.boards.board import Board
from msgm_bench.boards.ranking import RankedRow
from msgm_bench.boards.scatter import scatter
from msgm_bench.boards.templating import environment, px
from msgm_bench.errors import clean


def plot(board: Board, frame: pd.DataFrame, ranked: Sequence[RankedRow]) -> str:
    """The SVG of a board."""
    template = environment("msgm_bench.boards", autoescape=True, px=px).get_template("plot.svg.j2")
    return template.render(title=clean(board.title), drawing=scatter(board, frame, ranked))
