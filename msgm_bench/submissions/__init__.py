"""Submissions: results of strangers with what it takes to recompute them."""

from msgm_bench.submissions.add import Added, add
from msgm_bench.submissions.archive import Submission, pack, read, unpack
from msgm_bench.submissions.board import BoardFacts, board_facts
from msgm_bench.submissions.check import Assessment, check
from msgm_bench.submissions.make import make, write
from msgm_bench.submissions.verify import Comparison, method_results, verify

__all__ = [
    "Added",
    "Assessment",
    "BoardFacts",
    "Comparison",
    "Submission",
    "add",
    "board_facts",
    "check",
    "make",
    "method_results",
    "pack",
    "read",
    "unpack",
    "verify",
    "write",
]
