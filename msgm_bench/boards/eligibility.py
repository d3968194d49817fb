"""Whether one result may stand on a board, by itself: what it ran, and how."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from msgm_bench.api import merge
from msgm_bench.api.result import Result, SpecRecord
from msgm_bench.boards.board import Board
from msgm_bench.boards.protocols import ABSENT
from msgm_bench.errors import UsageError
from msgm_bench.pipeline.presets import parse_settings, preset_of
from msgm_bench.pipeline.suite import task_presets
from msgm_bench.registry import registry

POLICY = ("batch_size", "learning_rate", "warmup", "decay")
"""What decides, beside the passes, how far a budget carries."""


def foreign(board: Board, result: Result) -> str | None:
    """Why ``result`` does not belong to ``board``, or None where it does."""
    return next(_mismatches(board, result), None)


def _mismatches(board: Board, result: Result) -> Iterator[str]:
    cell, spec = board.cell, result.spec
    if spec.method not in board.methods:
        yield f"the board does not list the method {spec.method!r}"
    if spec.preset != cell.preset:
        yield f"its preset is {spec.preset}, the board's is {cell.preset}"
    for name, ours, theirs in (
        ("dataset", cell.dataset, spec.dataset),
        ("backbone", cell.backbone, spec.backbone),
        ("forget set", sorted(cell.forget), sorted(spec.forget)),
    ):
        if ours != theirs:
            yield f"its {name} is {theirs}, the board's is {ours}"
    if spec.conditional != cell.conditional:
        track = {True: "class-conditional", False: "unconditional"}
        yield f"its model is {track[spec.conditional]}, the board's are {track[cell.conditional]}"
    if spec.base != cell.base:
        ours, theirs = (base or "trained by the bench" for base in (cell.base, spec.base))
        yield f"its base model is {theirs}, the board's is {ours}"
    yield from _budget(board, spec)
    yield from _options(board, spec)
    if cell.passes is not None and result.status == "ok":
        yield from _policy(board, spec)


def _budget(board: Board, spec: SpecRecord) -> Iterator[str]:
    cell = board.cell
    if board.exempt(spec.method):
        return
    if cell.regime not in (None, spec.regime):
        yield f"its regime is {spec.regime}, the board's is {cell.regime}"
    passes = training(spec).get("passes")
    if passes != cell.passes:
        ours, theirs = (f"{n} passes" if n else "one of steps" for n in (cell.passes, passes))
        yield f"its budget is {theirs}, the board's is {ours}"


def training(spec: SpecRecord) -> Mapping[str, Any]:
    """The settings of its training; empty where nothing was trained."""
    settings: Mapping[str, Any] = spec.settings.get("training", {})
    return settings


def _options(board: Board, spec: SpecRecord) -> Iterator[str]:
    """Options that the board states and the result has otherwise."""
    cell = board.cell
    tasks = spec.settings.get("tasks", {})
    stated: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
        ("-d ", cell.dataset_params, spec.dataset_params),
        ("-b ", cell.backbone_params, spec.backbone_params),
        ("-p ", cell.method_params.get(spec.method, {}), spec.params),
        ("training: ", cell.training.get(spec.method, {}), training(spec)),
    ]
    stated += [
        (f"-t {name}.", ours, tasks.get(name, {})) for name, ours in cell.task_params.items()
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
    stated = board.cell.training.get(spec.method, {})
    open_keys = [key for key in POLICY if key not in stated]
    if not trained or not open_keys:
        return
    where = f"state it as cell.training.{spec.method} in board.yaml"
    own = own_training(spec.dataset, spec.backbone, spec.method, spec.preset, spec.regime)
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


@functools.lru_cache(maxsize=256)
def own_training(
    dataset: str, backbone: str, method: str, preset: str, regime: str
) -> Mapping[str, Any] | None:
    """The training that the method's own preset asks for; None where a plugin is not installed."""
    names = {"datasets": dataset, "backbones": backbone, "methods": method}
    try:
        classes = [registry().entry(kind, name).cls for kind, name in names.items()]
        layers = [*task_presets(preset), *(preset_of(cls, preset) for cls in classes)]
        return parse_settings(merge(*layers)).budget(regime == "finetune").model_dump()
    except UsageError:
        return None
