"""Quality against network evaluations: one task of a stored model by several samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, cast

from msgm_bench.api import Metric, MetricColumn, Result, Row, Task, Track
from msgm_bench.api.track import track_name
from msgm_bench.cache.cache import Cache, load_json
from msgm_bench.cache.entry import Entry
from msgm_bench.errors import MsgmBenchError, UsageError
from msgm_bench.evaluation.artifacts import ARTIFACT
from msgm_bench.execution import run_stage
from msgm_bench.experiment.evaluation_plan import check_tasks
from msgm_bench.experiment.evaluation_stages import ROWS
from msgm_bench.experiment.graph import Graph, build_graph
from msgm_bench.experiment.model_card import ModelCard, model_folder, read_card
from msgm_bench.experiment.model_io import skeleton, weights_hash
from msgm_bench.experiment.plan import Plan, resolve
from msgm_bench.experiment.reference_plan import ReferencePlan
from msgm_bench.experiment.spec import RunSpec, parse_spec
from msgm_bench.experiment.stored_result import RESULT, read_result
from msgm_bench.registry import registry
from msgm_bench.storage import read_yaml, single_line
from msgm_bench.storage.tensors import load_tensors
from msgm_bench.sweep.record import Point, Sweep, is_of

BUDGETS = (8, 12, 16, 24, 32, 50, 100)
SPEC = "spec.yaml"
Announce = Callable[[str, int, int, int], None]
"""Called with sampler, budget, number of the point and number of points, before each point."""


@dataclass(frozen=True)
class StoredRun:
    """A run folder with a model that can be drawn from.

    Attributes:
        folder: The folder.
        result: Its result.
        card: The card of its model.
        request: What was asked for.
    """

    folder: Path
    result: Result
    card: ModelCard
    request: RunSpec

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The run in ``folder``.

        Raises:
            UsageError: It holds no run that succeeded, or no model.
            StorageError: A file is damaged.
        """
        result = read_result(folder / RESULT)
        if result.status != "ok":
            reason = single_line(result.reason or "")
            raise UsageError(f"the run in {single_line(folder)} {result.status}: {reason}", "ok")
        values = read_yaml(folder / SPEC)
        if not isinstance(values, dict):
            raise UsageError(f"{single_line(folder / SPEC)} holds no mapping", "the run's request")
        return cls(folder, result, read_card(model_folder(folder)), parse_spec(values))

    def plan(self, device: str, samples: int | None) -> Plan:
        """The evaluation of the run's model, as in the run, with as many samples or ``samples``.

        Raises:
            UsageError: The model or its data cannot be used here.
        """
        spec = self.request.model_copy(
            update={
                "method": "external",
                "params": {},
                "regime": None,
                "passes": None,
                "backbone": self.card.backbone,
                "backbone_params": self.card.options,
                "model": str(model_folder(self.folder).absolute()),
                "base": self.request.base if self.card.part is not None else None,
                "device": device,
                "samples": self.request.samples if samples is None else samples,
            }
        )
        return resolve(spec)


def sweep_nfe(
    run: Path,
    samplers: Sequence[str] = (),
    budgets: Sequence[int] = BUDGETS,
    device: str = "auto",
    samples: int | None = None,
    announce: Announce | None = None,
) -> Sweep:
    """Draw the task that ranks the run's track with each sampler and budget, and measure.

    Stages are cached: what was drawn before is not drawn again. The sampler that the run itself
    used has the options that it had there, others have their defaults.

    Args:
        run: A run folder with result.json, spec.yaml and model/.
        samplers: Names; empty: those that suit the backbone.
        budgets: Network evaluations a sample.
        device: Where to draw.
        samples: Largest size of an evaluation set; None: as in the run.
        announce: Called before each point.

    Raises:
        UsageError: The run has no such model, or a sampler or budget does not suit it; nothing
            was drawn.
        StorageError: A file of the run is damaged.
        MsgmBenchError: No metric has a value at any point.
    """
    stored = StoredRun.read(run)
    plan = stored.plan(device, samples)
    metrics, columns = _measured(plan, ranking_task(plan.spec.track))
    own = _drawn_task(plan, ranking_task(plan.spec.track))
    names = samplers or type(plan.backbone).samplers
    choices = [(name, nfe) for name in dict.fromkeys(names) for nfe in sorted({*budgets})]
    tasks = [_with_sampler(own, *choice) for choice in choices]
    model = skeleton(plan.backbone, plan.loaded.stats)
    for task in tasks:
        check_tasks({task.name: task}, model)
    cache, known, points = Cache(), dict[str, Entry](), []
    for i, (choice, task) in enumerate(zip(choices, tasks, strict=True)):
        if announce is not None:
            announce(*choice, i + 1, len(choices))
        evaluation = replace(plan.evaluation, tasks={task.name: task}, metrics=metrics)
        narrow = replace(plan, evaluation=evaluation, references=ReferencePlan())
        points.append(_point(choice, build_graph(narrow), columns, cache, known))
    return Sweep(
        spec=stored.result.spec,
        weights=weights_hash(model_folder(run)),
        task=own.name,
        columns=_panels(columns, points),
        points=points,
    )


def _panels(columns: Sequence[MetricColumn], points: Sequence[Point]) -> list[MetricColumn]:
    """The columns with a value at any point.

    Raises:
        MsgmBenchError: There is none.
    """
    pairs = [(column, point.row(column)) for column in columns for point in points]
    measured = [column for column, row in pairs if row is not None and row.value is not None]
    if not measured:
        reasons = (row.reason for _, row in pairs if row is not None and row.reason)
        reason = next(reasons, "no metric measures the task")
        raise MsgmBenchError(f"nothing was measured: {reason}", "a task with metrics, and samples")
    return list(dict.fromkeys(measured))


def ranking_task(track: Track) -> str:
    """The task behind the leftmost column that ranks a track.

    Raises:
        UsageError: No installed metric ranks the track.
    """
    ranking = [
        (column.position, metric.tasks[0])
        for metric in (cast(type[Metric], entry.cls) for entry in registry().entries("metrics"))
        for column in metric.columns
        if column.ranks and column.track in (None, track)
    ]
    if not ranking:
        raise UsageError(f"no installed metric ranks {track_name(track)} models", "one that does")
    return min(ranking)[1]


def _measured(plan: Plan, task: str) -> tuple[tuple[Metric, ...], list[MetricColumn]]:
    """The metrics of a task with columns for the track, and these from left to right."""
    pairs = [
        (metric, column)
        for metric in plan.evaluation.metrics
        for column in metric.columns
        if task in metric.tasks and column.track in (None, plan.spec.track)
        if not metric.needs_base
    ]
    columns = sorted((column for _, column in pairs), key=lambda column: column.position)
    return tuple(dict.fromkeys(metric for metric, _ in pairs)), columns


def _drawn_task(plan: Plan, name: str) -> Task:
    """The task with the options that it had in the run.

    Raises:
        UsageError: The model does not do it, or has one sampler alone.
    """
    reasons = {skip.name: skip.reason for skip in plan.evaluation.skipped}
    if name not in plan.evaluation.tasks:
        why = reasons.get(name, "it is not installed")
        raise UsageError(f"the model cannot do {name!r}: {why}", "a model that draws")
    limits = plan.evaluation.limits
    if "sampler" in limits.required_task_options.get(name, {}):
        only = limits.required_task_options[name]["sampler"]
        raise UsageError(
            f"models of {limits.maker!r} are drawn from by the sampler {only!r} alone",
            "runs of methods whose models predict noise",
        )
    task = plan.evaluation.tasks[name]
    if not {"sampler", "nfe", "sampler_options"} <= set(type(task).options_type.model_fields):
        raise UsageError(f"the task {name!r} has no sampler", "tasks that draw with one")
    return task


def _with_sampler(task: Task, sampler: str, nfe: int) -> Task:
    """The task with another sampler and budget."""
    options = task.options.model_dump()
    if sampler != options["sampler"]:
        options["sampler_options"] = {}
    return type(task).create(options | {"sampler": sampler, "nfe": nfe})


def _point(
    choice: tuple[str, int],
    graph: Graph,
    columns: Sequence[MetricColumn],
    cache: Cache,
    known: dict[str, Entry],
) -> Point:
    """Run the stages of a point, and read what the columns show."""
    scores = load_json(run_stage(graph.rows, cache, known).path, ROWS)
    (drawn,) = graph.artifacts.values()
    nfe = load_tensors(run_stage(drawn, cache, known).path / ARTIFACT)["nfe"]
    measured = [Row.model_validate(row) for row in scores["rows"]]
    rows = [row for row in measured if any(is_of(row, column) for column in columns)]
    return Point(
        sampler=choice[0],
        nfe=choice[1],
        evaluations=float(nfe.double().mean()),
        rows=rows,
        protocols={row.protocol: scores["protocols"][row.protocol]["hash"] for row in rows},
    )
