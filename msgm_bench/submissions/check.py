"""Whether a submission may be believed: what contradicts refuses it, what follows is recomputed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from msgm_bench.api import Metric, Result, Row
from msgm_bench.boards.board import Board
from msgm_bench.boards.plausibility import metrics, violation
from msgm_bench.boards.trust import Level
from msgm_bench.errors import MsgmBenchError, RefusedError
from msgm_bench.evaluation.evidence import differences
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.report.provenance import rerun_command
from msgm_bench.storage import error_summary, single_line
from msgm_bench.submissions.archive import Exhibit, Submission
from msgm_bench.submissions.board import BoardFacts, check_board
from msgm_bench.submissions.code import check_code, installed

Key = tuple[str, str, str, str]
SAME = ("dataset", "backbone", "method", "seed", "seeds", "conditional", "text")


@dataclass(frozen=True)
class Assessment:
    """What is left to believe of a submission that nothing contradicts.

    Attributes:
        result: The result.
        recomputed: Keys of the rows that follow from the evidence.
        notes: What a reader should know.
    """

    result: Result
    recomputed: frozenset[Key]
    notes: tuple[str, ...] = ()

    @property
    def claimed(self) -> list[Row]:
        """Rows with a value that nothing is shipped for."""
        return [
            row
            for row in self.result.metrics
            if row.key not in self.recomputed and row.value is not None
        ]

    def level(self, board: Board | None = None) -> Level:
        """*recomputed* if all values that the board shows are; without a board all there are."""
        claimed = {row.key for row in self.claimed}
        if board is not None:
            rows = [key.row(self.result) for key in board.quantities]
            claimed &= {row.key for row in rows if row is not None}
        return "claimed" if claimed or not self.recomputed else "recomputed"


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
    _check_request(submission.spec, result)
    notes = check_code(result, (exhibit.metric for exhibit in submission.exhibits))
    _check_protocols(result)
    impossible = violation(result)
    if impossible is not None:
        raise RefusedError(f"its values cannot be: {impossible}")
    recomputed = frozenset(_recomputed(submission, notes))
    notes += [
        f"evidence of {card.metric} on {card.task} was too large: its rows stay claimed"
        for card in submission.omitted
    ]
    if facts is not None:
        notes += check_board(facts, result)
    return Assessment(result, recomputed, tuple(notes))


def _check_request(spec: RunSpec, result: Result) -> None:
    """The request, the result's record of it and the command are of one run."""
    record = result.spec
    for name in SAME:
        if getattr(spec, name) != getattr(record, name):
            ours, theirs = getattr(spec, name), getattr(record, name)
            raise RefusedError(f"its request has {name} {ours!r}, and its result {theirs!r}")
    for name in ("preset", "regime"):
        ours, theirs = getattr(spec, name), getattr(record, name)
        if ours is not None and ours != theirs:
            raise RefusedError(f"its request has {name} {ours!r}, and its result {theirs!r}")
    for name in ("steps", "samples"):
        ours, theirs = getattr(spec, name), record.settings.get(name)
        if ours != theirs:
            raise RefusedError(f"its request has {name} {ours!r}, and its result {theirs!r}")
    names = [("datasets", spec.dataset), ("backbones", spec.backbone), ("methods", spec.method)]
    if spec.model is not None or any(installed(*name) is None for name in names):
        return  # a stranger's path is not looked at; unknown options have no known text
    if result.provenance.get("command") != rerun_command(spec):
        raise RefusedError("its command is not that of its request", rerun_command(spec))


def _check_protocols(result: Result) -> None:
    """Protocols of this program, of versions that it knows."""
    for protocol in dict.fromkeys(row.protocol for row in result.metrics):
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
