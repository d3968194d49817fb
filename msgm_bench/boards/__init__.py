"""Leaderboards: results to pandas to a page, and nothing about how they were made."""

from msgm_bench.boards.board import Board, Column, Gate, Key, load
from msgm_bench.boards.collect import Collected, collect, read, tidy
from msgm_bench.boards.comparison import compare
from msgm_bench.boards.ingest import Imported, import_results
from msgm_bench.boards.pages import BoardPage, Problem, build, check, find_boards, page
from msgm_bench.boards.protocols import Difference, ProtocolMixError, protocol_diff
from msgm_bench.boards.ranking import Standing, rank

__all__ = [
    "Board",
    "BoardPage",
    "Collected",
    "Column",
    "Difference",
    "Gate",
    "Imported",
    "Key",
    "Problem",
    "ProtocolMixError",
    "Standing",
    "build",
    "check",
    "collect",
    "compare",
    "find_boards",
    "import_results",
    "load",
    "page",
    "protocol_diff",
    "rank",
    "read",
    "tidy",
]
