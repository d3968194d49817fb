"""Whether one result may stand on a board, by itself: what it ran, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgm_bench.api.result import Result, SpecRecord
from msgm_bench.api.track import track_name
from msgm_bench.boards.board import Board
from msgm_bench.boards.departures import preset_training
from msgm_bench.boards.protocols import ABSENT

POLICY = ("batch_size", "learning_rate", "warmup_steps", "lr_schedule")
"""What decides, beside the passes, how far a budget carries."""


def mismatch(board: Board, result: Result) -> str | None:
    """Why ``result`` does not belong to ``board``, or None where it does."""
    return next(_mismatches(board, result), None)


def _mismatches(board: Board, result: Result) -> Iterator[str]:
    conditions, spec = board.run, result.spec
    if spec.method not in board.methods:
        yield f"the board does not list the method {spec.method!r}"
    if spec.preset != conditions.preset:
        yield f"its preset is {spec.preset}, the board's is {conditions.preset}"
    for name, ours, theirs in (
        ("dataset", conditions.dataset, spec.dataset),
        ("backbone", conditions.backbone, spec.backbone),
        ("forget set", sorted(conditions.forget), sorted(spec.forget)),
    ):
        if ours != theirs:
            yield f"its {name} is {theirs}, the board's is {ours}"
    if spec.track != conditions.track:
        ours, theirs = track_name(conditions.track), track_name(spec.track)
        yield f"its model is {theirs}, the board's are {ours}"
    if spec.base != conditions.base:
        ours, theirs = (base or "trained by the bench" for base in (conditions.base, spec.base))
        yield f"its base model is {theirs}, the board's is {ours}"
    yield from _budget(board, spec)
    yield from _options(board, spec)
    if conditions.passes is not None and result.status == "ok":
        yield from _policy(board, spec)


def _budget(board: Board, spec: SpecRecord) -> Iterator[str]:
    conditions = board.run
    if board.exempt(spec.method):
        return
    if conditions.regime not in (None, spec.regime):
        yield f"its regime is {spec.regime}, the board's is {conditions.regime}"
    passes = training(spec).get("passes")
    if passes != conditions.passes:
        ours, theirs = (f"{n} passes" if n else "one of steps" for n in (conditions.passes, passes))
        yield f"its budget is {theirs}, the board's is {ours}"


def training(spec: SpecRecord) -> Mapping[str, Any]:
    """The settings of its training; empty where nothing was trained."""
    settings: Mapping[str, Any] = spec.settings.get("training", {})
    return settings


def _options(board: Board, spec: SpecRecord) -> Iterator[str]:
    """Tasks and options that the board states and the result lacks or has otherwise."""
    conditions = board.run
    tasks = spec.settings.get("tasks", {})
    for name in conditions.tasks:
        if name not in tasks:
            yield f"it has no task {name}: run it with --task {name}"
    stated: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
        ("-d ", conditions.dataset_params, spec.dataset_params),
        ("-b ", conditions.backbone_params, spec.backbone_params),
        ("-p ", conditions.method_params.get(spec.method, {}), spec.params),
        ("training: ", conditions.training.get(spec.method, {}), training(spec)),
    ]
    stated += [
        (f"-t {name}.", ours, tasks.get(name, {})) for name, ours in conditions.task_params.items()
    ]
    for prefix, ours, theirs in stated:
        for key, value in ours.items():
            other = theirs.get(key, ABSENT)
            if not _equal(value, other):
                yield f"its {prefix}{key} is {other!r}, the board's is {value!r}"


def _equal(a: Any, b: Any) -> bool:
    """Equal values; a text equals the number that it spells, as on a command line."""
    return bool(a == b) or (isinstance(a, str) != isinstance(b, str) and str(a) == str(b))


def _policy(board: Board, spec: SpecRecord) -> Iterator[str]:
    """At an equal budget, batch and learning rate are the method's own preset, or stated."""
    trained = training(spec)
    stated = board.run.training.get(spec.method, {})
    open_keys = [key for key in POLICY if key not in stated]
    if not trained or not open_keys:
        return
    where = f"state it as run.training.{spec.method} in board.yaml"
    own = preset_training(spec.dataset, spec.backbone, spec.method, spec.preset, spec.regime)
    if own is None:
        yield (
            f"{spec.method} is not installed, so that its {', '.join(open_keys)} cannot be "
            f"compared with its own preset: {where}"
        )
        return
    for key in open_keys:
        if trained.get(key, ABSENT) != own[key]:
            yield (
                f"it trained with {key} {trained.get(key, ABSENT)!r}, and the preset "
                f"{spec.preset!r} of {spec.method} has {own[key]!r}: {where}"
            )
