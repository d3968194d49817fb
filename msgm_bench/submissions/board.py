"""Submissions and the board that they are for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgm_bench.api import Result
from msgm_bench.boards.board import Board, Quantity, load
from msgm_bench.boards.collect import collect
from msgm_bench.boards.comparability import agreeing, place
from msgm_bench.boards.eligibility import mismatch
from msgm_bench.errors import RefusedError, UsageError
from msgm_bench.evaluation.statistics import Interval, wilson

MOST_ITEMS = 10**12  # of held-out data


@dataclass(frozen=True)
class BoardFacts:
    """A board and the results that stand on it."""

    board: Board
    results: Sequence[Result]


def board_facts(folder: Path) -> BoardFacts:
    """The board of a folder with its results.

    Raises:
        UsageError: The folder is no board, or its results differ without a majority.
        StorageError: A file cannot be read.
    """
    board = load(folder)
    return BoardFacts(board, collect(board, folder).results)


def check_board(facts: BoardFacts, result: Result) -> list[str]:
    """Compare a result with a board; notes on what its keepers should look at.

    A method that the board does not list yet is a note: whoever keeps the board lists it.

    Raises:
        RefusedError: It is of another task, budget or protocol than the board's.
    """
    board, method, notes = facts.board, result.spec.method, list[str]()
    if method not in board.methods:
        notes.append(f"the board does not list {method} yet: add it to methods in board.yaml")
        board = board.model_copy(update={"methods": [*board.methods, method]})
    against = mismatch(board, result)
    if against is not None:
        raise RefusedError(f"it does not belong to this board: {against}")
    others = [other for other in facts.results if place(other) != place(result)]
    try:
        reason = agreeing(board, [*others, result])[1].get(place(result))
    except UsageError as error:
        reason = error.what
    if reason is not None:
        raise RefusedError(f"it does not compare with the board's results: {reason}")
    _check_judge(others, result)
    missing = [str(key) for key in board.quantities if key.row(result) is None]
    if missing:
        notes.append(f"it lacks {', '.join(missing)}, which the board shows")
    known = {other.provenance.get("dataset_fingerprint") for other in others}
    if known and result.provenance.get("dataset_fingerprint") not in known:
        notes.append("its data are other bytes than those of the board's results")
    return notes


def _check_judge(others: Sequence[Result], result: Result) -> None:
    """Hold the accuracy of its judge against that of the others, which is of one recipe and seed.

    Raises:
        RefusedError: Their intervals of 99.9 % have nothing in common, so it is another judge.
    """
    theirs = [share for share in map(_judge_accuracy, others) if share is not None]
    ours = _judge_accuracy(result)
    if ours is None or not theirs:
        return
    middle = sorted(theirs, key=lambda share: share.value)[len(theirs) // 2]
    if ours.low > middle.high or ours.high < middle.low:
        raise RefusedError(
            f"its judge is right on {ours.value:.2%} of the held-out items, the judge of the "
            f"board's other results on {middle.value:.2%}",
            "the judge that the board's command fits",
        )


def _judge_accuracy(result: Result) -> Interval | None:
    """The share of held-out items on which the judge is right; None where that is not recorded."""
    match result.provenance.get("judge"):
        case {"accuracy": int() | float() as accuracy, "items": int() as items}:
            if 0 <= accuracy <= 1 and 0 < items < MOST_ITEMS:
                return wilson(round(accuracy * items), items, confidence=0.999)
    return None


def lacking_quantities(facts: BoardFacts, result: Result) -> tuple[str, ...]:
    """Quantities of the board of which the result has no value, and most others have one."""
    others = [other for other in facts.results if place(other) != place(result)]

    def has_value(key: Quantity, one: Result) -> bool:
        row = key.row(one)
        return row is not None and row.value is not None

    return tuple(
        str(key)
        for key in facts.board.quantities
        if not has_value(key, result)
        and 2 * sum(has_value(key, other) for other in others) > len(others)
    )
