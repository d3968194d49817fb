"""Boards whose options were tuned: that they are what the record of the tuning chose."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgm_bench.api.result import digest
from msgm_bench.api.search_space import TRAINING
from msgm_bench.boards.board import Board, RunConditions
from msgm_bench.boards.tuning_record import TUNING_FILE, Protocol, TuningRecord, read_tuning
from msgm_bench.errors import UsageError
from msgm_bench.storage import one_line_yaml, single_line

SHARED = {*RunConditions.model_fields} - {"forget", "tasks", "method_params", "training"}
"""Conditions that a tuning has from its board."""


def tuning_of(board: Board, folder: Path, seeds: Collection[int]) -> TuningRecord | None:
    """The record of the board's tuning; None where no method was tuned.

    Args:
        board: The board.
        folder: Where it lives.
        seeds: Seeds that are ranked.

    Raises:
        UsageError: The board states tuned options, and they are not those of the record, or the
            record is of another task, or of the ranked one.
        StorageError: The record cannot be read.
    """
    tuned = [method for method in board.methods if board.origin(method) == "tuned"]
    if not tuned:
        return None
    path = folder / TUNING_FILE
    if not path.is_file():
        raise UsageError(
            f"options of {', '.join(tuned)} are tuned, and there is no {single_line(path)}",
            f"{TUNING_FILE} beside board.yaml",
            "make it: msgm-bench tune --board BOARD",
        )
    record = read_tuning(path, inside=folder)
    for problem in (
        *task_differences(board, record.protocol),
        *ranked_overlap(board, record.protocol, seeds),
        *(why for method in tuned for why in _option_differences(board, record, method)),
    ):
        raise UsageError(f"{TUNING_FILE}: {problem}", hint="tune again, or say by hand")
    return record


def task_differences(board: Board, protocol: Protocol) -> Iterator[str]:
    """What of a tuning is not the board's, but for the forget set and the seeds."""
    ours, theirs = (run.model_dump(mode="json") for run in (board.run, protocol.run))
    for name in sorted(SHARED):
        if digest(ours[name]) != digest(theirs[name]):
            yield f"its {name} is {theirs[name]!r}, the board's is {ours[name]!r}"
    if (protocol.rank.key, protocol.gate) != (board.rank.key, board.gate):
        yield "it was decided by another rank or gate than the board's"


def ranked_overlap(board: Board, protocol: Protocol, seeds: Collection[int]) -> Iterator[str]:
    """What of a tuning is ranked: classes of the forget set, and seeds."""
    classes = sorted(set(protocol.run.forget) & set(board.run.forget))
    if classes:
        yield f"it forgets {', '.join(classes)}, which the board ranks"
    both = sorted({*protocol.seeds} & {*range(board.seeds), *seeds})
    if both:
        yield f"it has the seeds {', '.join(map(str, both))}, which the board ranks"


def _option_differences(board: Board, record: TuningRecord, method: str) -> Iterator[str]:
    """What the board states of a method and the record chose otherwise."""
    best = record.best_options(method)
    if best is None:
        yield f"it has chosen nothing for {method}"
        return
    for part, stated, chosen in (
        ("method_params", board.run.method_params, split_options(best)[0]),
        ("training", board.run.training, split_options(best)[1]),
    ):
        ours = stated.get(method, {})
        for key, value in chosen.items():
            if key not in ours or (ours[key] != value and digest(ours[key]) != digest(value)):
                yield (
                    f"it chose {key} = {one_line_yaml(value)} for {method}, and run.{part} of "
                    f"board.yaml has {one_line_yaml(ours[key]) if key in ours else 'none'}"
                )


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a method, and settings of its training, of values of a search space."""
    own = {key: value for key, value in options.items() if not key.startswith(TRAINING)}
    training = {
        key.removeprefix(TRAINING): value
        for key, value in options.items()
        if key.startswith(TRAINING)
    }
    return own, training
