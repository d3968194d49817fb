"""Whether a submission may be believed: what contradicts refuses it, what follows is recomputed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from msgm_bench.api import Metric, Result, Row
from msgm_bench.boards.board import Board
from msgm_bench.boards.plausibility import metrics, violation
from msgm_bench.boards.trust import Level
from msgm_bench.errors import MsgmBenchError, RefusedError
from msgm_bench.evaluation.evidence import differences
from msgm_bench.storage import error_summary, single_line
from msgm_bench.submissions.archive import Exhibit, Submission
from msgm_bench.submissions.board import BoardFacts, check_board, lacking_quantities
from msgm_bench.submissions.code import check_code, installed
from msgm_bench.submissions.request import check_request

Key = tuple[str, str, str, str]
PROTOCOL_ID = re.compile(r"[a-z0-9][a-z0-9_./-]{0,150}@[1-9][0-9]{0,5}")


@dataclass(frozen=True)
class Assessment:
    """What is left to believe of a submission that nothing contradicts.

    Attributes:
        result: The result.
        recomputed: Keys of the rows that follow from the evidence.
        notes: What a reader should know.
        lacking: Quantities without a value that other results of its board have.
    """

    result: Result
    recomputed: frozenset[Key]
    notes: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    @property
    def claimed(self) -> list[Row]:
        """Rows with a value that nothing is shipped for."""
        return [
            row
            for row in self.result.metrics
            if row.key not in self.recomputed and row.value is not None
        ]

    def level(self, board: Board | None = None) -> Level:
        """*recomputed* if all values that the board shows are; without a board all there are.

        A quantity that others have and that is left out is one of them.
        """
        claimed = {row.key for row in self.claimed}
        if board is not None:
            rows = [key.row(self.result) for key in board.quantities]
            claimed &= {row.key for row in rows if row is not None}
        return "claimed" if claimed or self.lacking or not self.recomputed else "recomputed"


def check(submission: Submission, facts: BoardFacts | None = None) -> Assessment:
    """Look a submission through, offline; nothing in it is run.

    Args:
        submission: What was read from its archive.
        facts: The board that it is for, with the results that stand there.

    Raises:
        RefusedError: It contradicts itself, this program or the board.
    """
    result = submission.result
    if result.status != "ok":
        raise RefusedError(f"its result is {result.status}: {result.reason}", "a result that is ok")
    notes = check_code(result, (exhibit.metric for exhibit in submission.exhibits))
    notes += check_request(submission.spec, result)
    _check_protocols(result)
    impossible = violation(result)
    if impossible is not None:
        raise RefusedError(f"its values cannot be: {impossible}")
    recomputed = frozenset(_recomputed(submission, notes))
    notes += [
        f"evidence of {card.metric} on {card.task} was too large: its rows stay claimed"
        for card in submission.omitted
    ]
    lacking: tuple[str, ...] = ()
    if facts is not None:
        notes += check_board(facts, result)
        lacking = lacking_quantities(facts, result)
        notes += [f"it has no value of {name}, which others have" for name in lacking]
    return Assessment(result, recomputed, tuple(notes), lacking)


def _check_protocols(result: Result) -> None:
    """Protocols of this program, of versions that it knows."""
    used = {row.protocol for row in result.metrics}
    for protocol in result.protocols:
        if not PROTOCOL_ID.fullmatch(protocol):
            raise RefusedError(
                f"it has the protocol {single_line(protocol)[:80]!r}", "name@version"
            )
        if protocol not in used:
            raise RefusedError(f"no row is by its protocol {protocol}")
        name, _, version = protocol.rpartition("@")
        owners = [metric for metric in metrics() if name.startswith(metric.protocols)]
        if not owners:
            raise RefusedError(
                f"no installed metric has the protocol {single_line(protocol)[:80]}",
                hint="install the plugin of the metric to check its values",
            )
        latest = max(metric.latest_version for metric in owners)
        if int(version) > latest:
            raise RefusedError(
                f"the protocol {protocol} is of a later version", f"{name}@{latest} at most"
            )


def _recomputed(submission: Submission, notes: list[str]) -> Iterator[Key]:
    """Keys of the rows that follow from the evidence.

    Raises:
        RefusedError: A row does not, or no row can.
    """
    seen = set[tuple[str, str]]()
    for exhibit in submission.exhibits:
        evidence = exhibit.evidence
        place = (evidence.task, evidence.protocol)
        rows = [row for row in submission.result.metrics if (row.task, row.protocol) == place]
        if not rows or place in seen:
            what = "is there twice" if rows else "is of no row"
            raise RefusedError(f"its evidence of {exhibit.metric} on {evidence.task} {what}")
        seen.add(place)
        cls = installed("metrics", exhibit.metric)
        if cls is None:
            notes.append(f"metrics/{exhibit.metric} is not installed here: its rows stay claimed")
            continue
        difference = next(_differences(cast(type[Metric], cls), exhibit, rows), None)
        if difference is not None:
            raise RefusedError(f"its evidence gives other rows: {difference}")
        yield from (row.key for row in rows)


def _differences(cls: type[Metric], exhibit: Exhibit, rows: Sequence[Row]) -> Iterator[str]:
    try:
        yield from differences(cls, exhibit.evidence, rows)
    except MsgmBenchError as error:
        raise RefusedError(f"{error.what}", error.allowed) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error_summary(error)}"
        raise RefusedError(f"nothing follows from {exhibit.file}: {reason}") from error
