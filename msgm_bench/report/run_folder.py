"""The run folder: what a person opens after a run. ``result.json`` comes last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from msgm_bench.api import ModelContext, Result
from msgm_bench.cache.entry import Entry
from msgm_bench.evaluation.artifacts import ARTIFACT
from msgm_bench.evaluation.context import model_context
from msgm_bench.experiment.evaluation_stages import JUDGE, JUDGE_REPORT
from msgm_bench.experiment.graph import Graph
from msgm_bench.experiment.model_io import CARD, WEIGHTS, load_model
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.stored_result import RESULT
from msgm_bench.experiment.training_stages import BASE, LOG
from msgm_bench.report import image_grids, plots, saved_images
from msgm_bench.storage import (
    atomic,
    dump_yaml,
    explained,
    page_text,
    single_line,
    write_text,
)
from msgm_bench.storage.tensors import load_tensors

SPEC, REPORT = "spec.yaml", "report.md"


def write(
    target: Path, plan: Plan, stages: Graph, entries: Mapping[str, Entry], result: Result
) -> None:
    """Everything but the result."""
    with explained(target):
        target.mkdir(parents=True, exist_ok=True)
    model = entries[stages.model.name].path
    write_text(target / SPEC, spec_text(plan))
    for name in (WEIGHTS, CARD):
        _copy(model / name, target / "model" / name)
    for name in (JUDGE, JUDGE_REPORT):
        _copy(entries[stages.judge.name].path / name, target / "judge" / name)
    log = []
    if plan.training is not None:
        keep_log(target, model)
        log = [json.loads(line) for line in (model / LOG).read_text("utf-8").splitlines()]
    _pictures(target, plan, stages, entries, log)
    write_text(target / REPORT, report(result))


def _pictures(
    target: Path,
    plan: Plan,
    stages: Graph,
    entries: Mapping[str, Entry],
    log: list[dict[str, float]],
) -> None:
    if log:
        plots.loss_curve(target / "loss.png", log)
    context, seed = stages.judge.context, plan.spec.seeds["sample"]
    model = load_model(entries[stages.model.name].path, context.device)
    examined = model_context(context, model, seed)
    rows = _shown(plan, stages, entries, examined)
    saved_images.write(target, rows)
    for name, found in rows.items():
        if name != saved_images.DATA:
            _picture(target / f"{name}.png", found, rows.get(saved_images.DATA, {}))
    if examined.model.shape == (2,):
        before = None
        if stages.base is not None:
            before = load_model(entries[BASE].path, context.device)
        plots.score_field(target / "score.png", examined, before)


def _picture(path: Path, rows: Mapping[str, Tensor], data: Mapping[str, Tensor]) -> None:
    """The preview of a task: points over the data, one row as a square, several as strips."""
    if all(x.ndim == 2 for x in rows.values()):
        plots.scatter(path, data, rows)
    elif len(rows) == 1:
        image_grids.image_grid(path, *rows.values())
    else:
        image_grids.strips(path, [[section] for section in image_grids.sections(rows)])


def _shown(
    plan: Plan, stages: Graph, entries: Mapping[str, Entry], examined: ModelContext
) -> dict[str, Mapping[str, Tensor]]:
    """Rows of all pictures, whole."""
    rows: dict[str, Mapping[str, Tensor]] = {}
    flat = examined.model.shape == (2,)
    if flat:
        retain, forget = plan.data.split(plan.data.test[: saved_images.POINTS], plan.targets)
        rows[saved_images.DATA] = {"keep": retain.x, "forget": forget.x}
    for name, stage in stages.artifacts.items():
        artifact = load_tensors(entries[stage.name].path / ARTIFACT)
        found = stage.task.preview(examined, artifact)
        if found:
            rows[name] = found
    return rows


def spec_text(plan: Plan) -> str:
    """The request as YAML: ``msgm-bench run spec.yaml`` repeats it."""
    values = plan.spec.model_dump(mode="json", exclude_defaults=True)
    return dump_yaml(values)


def report(result: Result) -> str:
    """A page with every row."""
    spec = result.spec
    forget = page_text(", ".join(spec.forget))
    lines = [
        f"# {spec.method} on {spec.dataset}, {spec.backbone}, forget {forget}",
        "",
        f"{'Class-conditional, regime' if spec.conditional else 'Regime'} {spec.regime}, "
        f"preset {spec.preset}, seed {spec.seed}.",
        "",
        *base_of(result),
        "| task | metric | split | value | 95 % interval | unit | n | protocol |",
        "|---|---|---|---:|---|---|---:|---|",
    ]
    absent = []
    for row in result.metrics:
        value = "–" if row.value is None else f"{row.value:.4g}{' ⚠' if row.stamp else ''}"
        if row.value is None:
            absent.append(f"- {row.protocol}, {row.metric} on {row.split}: {page_text(row.reason)}")
        ends = "" if row.low is None or row.high is None else f"{row.low:.4g} to {row.high:.4g}"
        cells = (row.task, row.metric, row.split, value, ends, row.unit, str(row.n), row.protocol)
        lines.append(f"| {' | '.join(map(page_text, cells))} |")
    stamps = dict.fromkeys(row.stamp for row in result.metrics if row.stamp)
    notes = {
        "Values that are missing": absent,
        "Stamps": [f"- ⚠ {page_text(stamp)}" for stamp in stamps],
    }
    limits = result.provenance.get("limits", {})
    for task, options in limits.get("demands", {}).items():
        told = ", ".join(f"{key} = {value}" for key, value in options.items())
        notes.setdefault("Asked as the model needs it", []).append(f"- {task}: {page_text(told)}")
    for title, key in (("Tasks left out", "left_out"), ("Metrics left out", "unmeasured")):
        reasons = result.provenance.get(key, {})
        notes[title] = [f"- {name}: {page_text(why)}" for name, why in reasons.items()]
    for title, listed in notes.items():
        lines += ["", f"{title}:", "", *listed] if listed else []
    lines += ["", "Made by:", "", f"    {single_line(result.provenance['command'])}", ""]
    return "\n".join(lines)


def base_of(result: Result) -> list[str]:
    """What there is to say of a base model that was not trained here."""
    given = result.provenance.get("base")
    if given is None:
        return []
    said = "" if result.spec.settings["training"] else ", evaluated as it was given"
    remark = f"; {page_text(given['remark'])}" if given["remark"] else ""
    return [
        f"Base model: {page_text(given['source'])}, sha256 {given['sha256']}{said}{remark}.",
        "",
    ]


def write_result(target: Path, result: Result) -> None:
    """``result.json``, whole or not at all."""
    write_text(target / RESULT, result.to_json())


def keep_log(target: Path, stage: Path) -> None:
    """Copy the training log of a stage, if there is one."""
    if (stage / LOG).exists():
        _copy(stage / LOG, target / LOG)


def _copy(source: Path, target: Path) -> None:
    """Copy atomically; a hard link would share the damage of either file."""
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)
