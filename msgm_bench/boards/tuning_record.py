"""``tuning.json``: what a tuning tried for each method of a board, and what it chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from msgm_bench.api.result import Count, Name, Record, Seed, digest
from msgm_bench.boards.board import Gate, Quantity, RunConditions
from msgm_bench.boards.tuning_objective import Direction, RunValues, Score, score
from msgm_bench.errors import StorageError
from msgm_bench.storage import read_json, single_line
from msgm_bench.storage.validation_text import validation_text

TUNING_FILE = "tuning.json"
SCHEMA: Literal["msgm-bench/tuning@1"] = "msgm-bench/tuning@1"
MOST_TRIALS, MOST_SEEDS = 1000, 100
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_FORMAT = f"JSON of schema {SCHEMA}"


class Trial(Record):
    """Options of a method, and the values that they had.

    Attributes:
        options: Its values of the search space, by name; trial 0 has those of the preset.
        runs: Its runs, by seed in the order of the seeds.
    """

    options: dict[str, Any]
    runs: Annotated[list[RunValues], Field(max_length=MOST_SEEDS)] = []


class MethodTuning(Record):
    """The trials of one method.

    Attributes:
        space: Its search space, as ``Choices.describe`` has it.
        defaults: Values of the preset that multiples refer to.
        fixed: Options that the board states and nobody tunes.
        code: SHA-256 of the code behind the runs, by plugin.
        trials: In the order in which they were drawn.
        skipped: Why the method cannot run on the board, or None.
    """

    space: dict[str, dict[str, Any]]
    defaults: dict[str, Any] = {}
    fixed: dict[str, Any] = {}
    code: dict[str, str] = {}
    trials: Annotated[list[Trial], Field(max_length=MOST_TRIALS)] = []
    skipped: str | None = None


class Protocol(Record):
    """What is one over all methods of a tuning.

    Attributes:
        run: What all runs have in common: the board's, with another forget set.
        samples: Cap of the evaluation sets; None: as in the board's runs.
        seeds: Seeds of the runs; none is ranked.
        trials: Trials of each method, the preset's options among them.
        finalists: Trials that go on from the first seed to all.
        draw: How options are drawn, with its version.
        rank: The quantity that decides.
        gate: The quality that decides first.
    """

    run: RunConditions
    samples: Count | None = None
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=MOST_SEEDS)]
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)]
    finalists: Annotated[int, Field(ge=1, le=MOST_TRIALS)]
    draw: Literal["halton@1"] = "halton@1"
    rank: Quantity
    gate: Gate

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one appears twice")
        if self.finalists > self.trials:
            raise ValueError(f"finalists: {self.finalists} of {self.trials} trials")
        return self

    @property
    def quantities(self) -> list[Quantity]:
        """What the objective looks at."""
        return list(dict.fromkeys(entry.key for entry in (self.rank, *self.gate.limits)))


class TuningRecord(Record):
    """A tuning, whole or as far as it went.

    ``digest`` is the SHA-256 of all but itself, so that an edited trial is noticed.

    Attributes:
        protocol: What is one over all methods.
        directions: Which way is better, by quantity.
        reference: Runs of the gate's reference with the options of the board, by seed.
        reference_code: SHA-256 of the code behind them, by plugin.
        methods: The trials, by method.
    """

    schema_: Annotated[Literal["msgm-bench/tuning@1"], Field(alias="schema")] = SCHEMA
    protocol: Protocol
    directions: dict[str, Direction] = {}
    reference: Annotated[list[RunValues], Field(max_length=MOST_SEEDS)] = []
    reference_code: dict[str, str] = {}
    methods: dict[Name, MethodTuning] = {}
    digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""

    @model_validator(mode="after")
    def _digest_is_of_the_content(self) -> Self:
        content = digest(self.model_dump(mode="json", by_alias=True, exclude={"digest"}))
        if not self.digest:
            object.__setattr__(self, "digest", content)
        elif self.digest != content:
            raise ValueError("it was edited: its digest is not that of its content")
        return self

    def score(self, trial: Trial, seeds: Sequence[int]) -> Score:
        """The objective of a trial over ``seeds``; the smaller the better."""
        protocol = self.protocol
        return score(
            [run for run in trial.runs if run.seed in seeds],
            [run for run in self.reference if run.seed in seeds],
            protocol.rank,
            protocol.gate.limits,
            self.directions,
        )

    def finalists(self, method: str) -> list[int]:
        """Numbers of the trials that go on to all seeds, the best on the first seed first."""
        protocol, trials = self.protocol, self.methods[method].trials
        first = protocol.seeds[:1]
        order = sorted(range(len(trials)), key=lambda n: (self.score(trials[n], first), n))
        return order[: protocol.finalists]

    def is_complete(self, method: str) -> bool:
        """Whether all trials of a method were run, and the finalists on all seeds."""
        protocol, own = self.protocol, self.methods.get(method)
        if own is None or len(own.trials) < protocol.trials:
            return False
        first, others = protocol.seeds[0], set(protocol.seeds)
        seeds = [{run.seed for run in trial.runs} for trial in own.trials]
        return all(first in run for run in seeds) and all(
            seeds[n] >= others for n in self.finalists(method)
        )

    def best(self, method: str) -> int | None:
        """Number of the best finalist; None where not all were run, or none has a value."""
        if not self.is_complete(method):
            return None
        trials, seeds = self.methods[method].trials, self.protocol.seeds
        scores = {n: self.score(trials[n], seeds) for n in self.finalists(method)}
        chosen = min(scores, key=lambda n: (scores[n], n))
        return None if scores[chosen].state == "failed" else chosen

    def skipped(self, method: str) -> str | None:
        """Why a method cannot run on the board, or None."""
        own = self.methods.get(method)
        return None if own is None else own.skipped

    def best_options(self, method: str) -> Mapping[str, Any] | None:
        """The options of the best trial of a method, or None."""
        chosen = self.best(method)
        return None if chosen is None else self.methods[method].trials[chosen].options

    def to_json(self) -> str:
        """The file."""
        return self.model_dump_json(indent=1, by_alias=True) + "\n"


def read_tuning(path: Path, inside: Path | None = None) -> TuningRecord:
    """The tuning of a file.

    Args:
        path: The file.
        inside: The folder that it must not leave by symbolic links; its own by default.

    Raises:
        StorageError: It cannot be read, is no JSON, breaks the schema or was edited; it is named.
    """
    name, document = single_line(path), read_json(path, inside)
    try:
        if not isinstance(document, dict):
            raise StorageError(f"{name} is no valid tuning: it holds no mapping", _FORMAT)
        if not document.get("digest"):
            raise StorageError(f"{name} is no valid tuning: it has no digest", _FORMAT)
        return TuningRecord.model_validate({"schema": None} | document)
    except (ValidationError, RecursionError) as error:
        what = validation_text(error)
        raise StorageError(f"{name} is no valid tuning: {what}", _FORMAT) from error
