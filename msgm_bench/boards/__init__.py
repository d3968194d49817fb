"""Leaderboards: results to pandas to a page, and nothing about how they were made."""

from msgm_bench.boards.board import Board, Column, Gate, Quantity, load
from msgm_bench.boards.collect import Collected, collect, read, tidy
from msgm_bench.boards.comparison import compare
from msgm_bench.boards.import_results import Imported, import_results
from msgm_bench.boards.index import build_all, check_index, index, leaders
from msgm_bench.boards.pages import BoardPage, Problem, build, check, find_boards, page
from msgm_bench.boards.protocols import Difference, ProtocolMixError, protocol_diff
from msgm_bench.boards.ranking import RankedRow, rank

__all__ = [
    "Board",
    "BoardPage",
    "Collected",
    "Column",
    "Difference",
    "Gate",
    "Imported",
    "Problem",
    "ProtocolMixError",
    "Quantity",
    "RankedRow",
    "build",
    "build_all",
    "check",
    "check_index",
    "collect",
    "compare",
    "find_boards",
    "import_results",
    "index",
    "leaders",
    "load",
    "page",
    "protocol_diff",
    "rank",
    "read",
    "tidy",
]
