"""The run folder: spec, model, judge, log, pictures, report; ``result.json`` comes last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from msgm_bench.api import ModelContext, Result
from msgm_bench.api.track import track_name
from msgm_bench.cache.entry import Entry
from msgm_bench.evaluation.artifacts import ARTIFACT
from msgm_bench.evaluation.context import model_context
from msgm_bench.experiment.evaluation_stages import JUDGE, JUDGE_REPORT
from msgm_bench.experiment.graph import Graph
from msgm_bench.experiment.model_card import BASE_FOLDER
from msgm_bench.experiment.model_io import copy_model, load_model
from msgm_bench.experiment.model_stage import BASE, MODEL
from msgm_bench.experiment.plan import Plan
from msgm_bench.experiment.recording import recorded_sets
from msgm_bench.experiment.stored_result import RESULT
from msgm_bench.experiment.training_stages import LOG
from msgm_bench.report import image_grids, plots, sample_sheets, saved_images
from msgm_bench.report.metric_table import WARNING, metric_table
from msgm_bench.storage import (
    copy_file,
    dump_yaml,
    markdown_text,
    single_line,
    storage_errors,
    write_text,
)
from msgm_bench.storage.tensors import map_tensors

SPEC, REPORT = "spec.yaml", "report.md"
RECORDED, SHEET = "recording", "step-{:09d}.png"  # a folder, and a set of samples in it


def write(
    target: Path, plan: Plan, stages: Graph, entries: Mapping[str, Entry], result: Result
) -> None:
    """Write everything but the result."""
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    model = entries[stages.model.name].path
    write_text(target / SPEC, spec_text(plan))
    copy_model(model, target / "model")
    if stages.model.part_of is not None and plan.base is None:  # else --base brings it again
        copy_model(entries[BASE].path, target / "model" / BASE_FOLDER)
    for name in (JUDGE, JUDGE_REPORT):
        copy_file(entries[stages.judge.name].path / name, target / "judge" / name)
    log = []
    if plan.training is not None:
        copy_log(target, model)
        log = [json.loads(line) for line in (model / LOG).read_text("utf-8").splitlines()]
    _draw_pictures(target, plan, stages, entries, log)
    if stages.recording is not None:
        _draw_recording(target, plan, entries[stages.recording.name].path)
    write_text(target / REPORT, report(result))


def _draw_pictures(
    target: Path,
    plan: Plan,
    stages: Graph,
    entries: Mapping[str, Entry],
    log: list[dict[str, float]],
) -> None:
    """Draw the losses, the previews of tasks, and of points the score field."""
    if any("loss" in row for row in log):
        plots.loss_curve(target / "loss.png", log)
    context, seed = stages.judge.context, plan.spec.seeds["sample"]
    names = {MODEL: stages.model.name, BASE: BASE}
    folders = {name: entries[names[name]].path for name in stages.model.files}
    model = stages.model.load(folders, context.device)
    subject = model_context(context, model, seed)
    rows = _preview_rows(plan, stages, entries, subject)
    saved_images.write(target, rows)
    for name, preview in rows.items():
        if name != saved_images.DATA:
            _draw_preview(target / f"{name}.png", preview, rows.get(saved_images.DATA, {}))
    if subject.model.shape == (2,):
        base = None
        if stages.base is not None:
            base = load_model(entries[BASE].path, context.device)
        plots.score_field(target / "score.png", subject, base)


def _draw_recording(target: Path, plan: Plan, entry: Path) -> None:
    """Draw a sheet of samples for each recorded step of the training; older ones go."""
    folder, data = target / RECORDED, _data_rows(plan)
    for path in folder.glob("*.png"):
        path.unlink()
    for step, rows in recorded_sets(entry):
        sheet = sample_sheets.sheet_of(rows, data, sample_sheets.STEP_BUDGET)
        if sheet is not None:
            sample_sheets.write_sheet(folder / SHEET.format(step), sheet)


def has_recording(target: Path) -> bool:
    """Whether a run folder has samples along its training."""
    return (target / RECORDED).is_dir()


def _draw_preview(path: Path, rows: Mapping[str, Tensor], data: Mapping[str, Tensor]) -> None:
    """Draw the preview of a task: points over the data, one row as a square, several as strips."""
    if all(x.ndim == 2 for x in rows.values()):
        plots.scatter(path, data, rows)
    elif len(rows) == 1:
        image_grids.image_grid(path, *rows.values())
    else:
        image_grids.strips(path, [[section] for section in image_grids.sections(rows)])


def _preview_rows(
    plan: Plan, stages: Graph, entries: Mapping[str, Entry], subject: ModelContext
) -> dict[str, Mapping[str, Tensor]]:
    """Rows of all pictures, by task and caption; those of the data where they are points."""
    rows: dict[str, Mapping[str, Tensor]] = {}
    if subject.model.shape == (2,):
        rows[saved_images.DATA] = _data_rows(plan)
    for name, stage in stages.artifacts.items():
        artifact = map_tensors(entries[stage.name].path / ARTIFACT)
        preview = stage.task.preview(subject, artifact)
        if preview:
            rows[name] = preview
    return rows


def _data_rows(plan: Plan) -> dict[str, Tensor]:
    """Held-out items to keep and to forget, where they are points; else none."""
    if plan.loaded.stats.shape != (2,):
        return {}
    retain, forget = plan.data.split(plan.data.test[: saved_images.POINTS], plan.targets)
    return {"keep": retain.x, "forget": forget.x}


def spec_text(plan: Plan) -> str:
    """The request as YAML: ``msgm-bench run spec.yaml`` repeats it."""
    values = plan.spec.model_dump(mode="json", exclude_defaults=True)
    return dump_yaml(values)


def report(result: Result) -> str:
    """The report in markdown: every row, and what is missing or skipped."""
    spec = result.spec
    forget = markdown_text(", ".join(spec.forget))
    lines = [
        f"# {spec.method} on {spec.dataset}, {spec.backbone}, forget {forget}",
        "",
        f"{track_name(spec.track).capitalize()}, regime {spec.regime}, "
        f"preset {spec.preset}, seed {spec.seed}.",
        "",
        *base_lines(result),
        *metric_table(result.metrics),
    ]
    for title, note_lines in _notes(result).items():
        lines += ["", f"{title}:", "", *note_lines] if note_lines else []
    lines += ["", "Command:", "", f"    {single_line(result.provenance['command'])}", ""]
    return "\n".join(lines)


def _notes(result: Result) -> dict[str, list[str]]:
    """Lines on missing values, stamps, required options and skipped plugins, by their titles."""
    missing = [
        f"- {row.protocol}, {row.metric} on {row.split}: {markdown_text(row.reason)}"
        for row in result.metrics
        if row.value is None
    ]
    stamps = dict.fromkeys(row.stamp for row in result.metrics if row.stamp)
    notes = {
        "Values that are missing": missing,
        "Stamps": [f"- {WARNING} {markdown_text(stamp)}" for stamp in stamps],
    }
    limits = result.provenance.get("limits", {})
    for task, options in limits.get("required_task_options", {}).items():
        text = ", ".join(f"{key} = {value}" for key, value in options.items())
        notes.setdefault("Options that the model requires", []).append(
            f"- {task}: {markdown_text(text)}"
        )
    for title, kind in (("Skipped tasks", "tasks"), ("Skipped metrics", "metrics")):
        notes[title] = [
            f"- {skipped['name']}: {markdown_text(skipped['reason'])}"
            for skipped in result.provenance.get("skipped", ())
            if skipped["kind"] == kind
        ]
    return notes


def base_lines(result: Result) -> list[str]:
    """Source and hash of a pretrained base model; empty where the run has none."""
    base = result.provenance.get("base")
    if base is None:
        return []
    change = "" if result.spec.settings["training"] else ", evaluated unchanged"
    remark = f"; {markdown_text(base['remark'])}" if base["remark"] else ""
    return [
        f"Base model: {markdown_text(base['source'])}, sha256 {base['sha256']}{change}{remark}.",
        "",
    ]


def write_result(target: Path, result: Result) -> None:
    """Write ``result.json``, whole or not at all."""
    write_text(target / RESULT, result.to_json())


def copy_log(target: Path, stage: Path) -> None:
    """Copy the training log of a stage, if there is one."""
    if (stage / LOG).exists():
        copy_file(stage / LOG, target / LOG)
