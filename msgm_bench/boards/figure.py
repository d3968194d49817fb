"""Runs side by side as a picture: methods as rows, the same noise in each column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from msgm_bench.api.result import Result, SpecRecord, digest
from msgm_bench.boards.collect import read
from msgm_bench.boards.comparison import identity, labels, shared_run
from msgm_bench.experiment.spec import slug
from msgm_bench.experiment.stored_result import RESULT
from msgm_bench.report import image_grids, plots, saved_images
from msgm_bench.report.image_grids import Section
from msgm_bench.report.image_table import Table, draw_tables

PROMPT_IMAGES = 2  # images of a prompt in a column


def draw(run_folders: Iterable[Path], target: Path) -> list[Path]:
    """One figure for each group of at least two runs that share all but the method.

    Args:
        run_folders: Those without a good result or without saved pictures are left out.
        target: The PNG; of several groups each has its name added to the stem.

    Returns:
        The files written, none where no two runs belong together.

    Raises:
        StorageError: A result or saved pictures cannot be read, or the figure not written.
    """
    groups: dict[str, dict[str, tuple[Path, Result]]] = {}
    for folder in run_folders:
        if (folder / saved_images.IMAGES_FILE).exists():
            result = read(folder / RESULT)
            if result.status == "ok":
                groups.setdefault(_group(result.spec), {})[identity(result)] = (folder, result)
    several = {key: [*runs.values()] for key, runs in groups.items() if len(runs) > 1}
    names = [_name(runs[0][1].spec) for runs in several.values()]
    written = []
    for (key, runs), name in zip(several.items(), names, strict=True):
        unique = name if names.count(name) == 1 else f"{name}-{digest(key)[:8]}"
        place = target if len(names) == 1 else target.with_stem(f"{target.stem}-{unique}")
        methods = labels([result for _, result in runs])
        folders = (folder for folder, _ in runs)
        rows = {
            method: saved_images.read(folder)
            for method, folder in zip(methods, folders, strict=True)
        }
        spec = runs[0][1].spec
        if spec.track == "text":
            draw_tables(place, _tables(_title(spec), rows))
        else:
            _side_by_side(place, _title(spec), rows)
        written.append(place)
    return written


def _group(spec: SpecRecord) -> str:
    """Runs of a group were drawn from the same noise, of models that saw the same data."""
    return "\0".join((shared_run(spec), str(spec.seed), str(spec.seeds.get("sample", spec.seed))))


def _name(spec: SpecRecord) -> str:
    return f"{spec.dataset}-{slug(spec.forget)}-{spec.backbone}-s{spec.seed}"


def _title(spec: SpecRecord) -> str:
    task = f"{spec.dataset}, forget {', '.join(spec.forget)}, {spec.backbone}"
    return f"{task}, preset {spec.preset}, seed {spec.seed}"


def _tables(title: str, runs: Mapping[str, saved_images.Rows]) -> list[Table]:
    """A table for each task: runs as rows, prompts as columns."""
    tasks = dict.fromkeys(task for rows in runs.values() for task in rows)
    tables = []
    for task in tasks:
        cells = {
            label: {caption: x[:PROMPT_IMAGES] for caption, x in rows[task].items()}
            for label, rows in runs.items()
            if task in rows
        }
        columns = list(dict.fromkeys(caption for row in cells.values() for caption in row))
        tables.append(Table(f"{title}: {task}", columns, cells))
    return tables


def _side_by_side(path: Path, title: str, runs: Mapping[str, saved_images.Rows]) -> None:
    """Runs that share their noise in one figure: a panel a run, or a row a run and task.

    Column j of every row starts from the same noise, or shows the same held-out image. Rows that
    are the same for all runs (originals, say) are drawn once, above those that are not.
    """
    with_data = (rows for rows in runs.values() if saved_images.DATA in rows)
    data = next((rows[saved_images.DATA] for rows in with_data), None)
    tasks = dict.fromkeys(task for rows in runs.values() for task in rows)
    previews = {
        task: {label: rows[task] for label, rows in runs.items() if task in rows}
        for task in tasks
        if task != saved_images.DATA
    }
    if data is not None:
        single = (_single(rows) for rows in previews.values())
        points = (rows for rows in single if rows and all(x.ndim == 2 for x in rows.values()))
        plots.scatter(path, data, next(points, {}), title)
        return
    bands = [[Section(title, [])]]
    for task, rows in previews.items():
        row = _single(rows)
        heading = next(iter(next(iter(rows.values()))))
        bands.append([Section(heading, [*row.items()])] if row else [*_sections(task, rows)])
    image_grids.strips(path, bands)


def _single(runs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The only row of a task by run, or nothing where a run has several."""
    if any(len(rows) != 1 for rows in runs.values()):
        return {}
    return {label: x for label, rows in runs.items() for x in rows.values()}


def _sections(task: str, runs: Mapping[str, Mapping[str, Tensor]]) -> Iterator[Section]:
    """A section for each row in which the runs differ, below those in which they agree."""
    common: list[tuple[str, Tensor]] = []
    for caption in dict.fromkeys(caption for rows in runs.values() for caption in rows):
        rows = {label: shots[caption] for label, shots in runs.items() if caption in shots}
        first, *others = rows.values()
        if others and all(torch.equal(first, x) for x in others):
            common.append((caption.rpartition(": ")[2], first))
        else:
            yield Section(f"{task}, {caption}", [*common, *rows.items()])
            common = []
    if common:
        yield Section(task, common)
