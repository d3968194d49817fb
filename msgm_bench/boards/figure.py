"""Runs side by side as a picture: methods as rows, the same noise in each column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from msgm_bench.api.result import Result, SpecRecord, digest
from msgm_bench.boards.collect import read
from msgm_bench.boards.comparison import identity, labels, shared_run
from msgm_bench.pipeline import pictures, sheets, shown
from msgm_bench.pipeline.folder import RESULT
from msgm_bench.pipeline.sheets import Section
from msgm_bench.pipeline.spec import slug


def draw(folders: Iterable[Path], target: Path) -> list[Path]:
    """One figure for each group of at least two runs that share cell and seed.

    Args:
        folders: Run folders; those without a good result or without kept pictures are left out.
        target: The PNG; of several groups each has its name added to the stem.

    Returns:
        The files written, none where no two runs belong together.

    Raises:
        StorageError: A result or kept pictures cannot be read, or the figure not written.
    """
    groups: dict[str, dict[str, tuple[Path, Result]]] = {}
    for folder in folders:
        if (folder / shown.NAME).exists():
            result = read(folder / RESULT)
            if result.status == "ok":
                found = groups.setdefault(_group(result.spec), {})
                found[identity(result)] = (folder, result)
    several = {key: [*found.values()] for key, found in groups.items() if len(found) > 1}
    names = [_name(runs[0][1].spec) for runs in several.values()]
    written = []
    for (key, runs), name in zip(several.items(), names, strict=True):
        unique = name if names.count(name) == 1 else f"{name}-{digest(key)[:8]}"
        place = target if len(names) == 1 else target.with_stem(f"{target.stem}-{unique}")
        told = labels([result for _, result in runs])
        rows = {label: shown.read(folder) for label, (folder, _) in zip(told, runs, strict=True)}
        _side_by_side(place, _title(runs[0][1].spec), rows)
        written.append(place)
    return written


def _group(spec: SpecRecord) -> str:
    """Runs of a group were drawn from the same noise, of models that saw the same data."""
    return "\0".join((shared_run(spec), str(spec.seed), str(spec.seeds.get("sample", spec.seed))))


def _name(spec: SpecRecord) -> str:
    return f"{spec.dataset}-{slug(spec.forget)}-{spec.backbone}-s{spec.seed}"


def _title(spec: SpecRecord) -> str:
    told = f"{spec.dataset}, forget {', '.join(spec.forget)}, {spec.backbone}"
    return f"{told}, preset {spec.preset}, seed {spec.seed}"


def _side_by_side(path: Path, title: str, runs: Mapping[str, shown.Shown]) -> None:
    """Runs that share their noise in one figure: a panel a run, or a row a run and task.

    Column j of every row starts from the same noise, or shows the same held-out image. Rows that
    are the same for all runs (originals, say) are drawn once, above those that are not.
    """
    samples = {k: x for k, found in runs.items() for x in found.get(shown.SAMPLES, {}).values()}
    data = next((found[shown.DATA] for found in runs.values() if shown.DATA in found), None)
    if data is not None:
        pictures.scatter(path, data, samples, title)
        return
    bands = [[Section(title, [])]]
    bands += [[Section("samples", [*samples.items()])]] if samples else []
    tasks = dict.fromkeys(task for found in runs.values() for task in found)
    for task in (task for task in tasks if task != shown.SAMPLES):
        rows = {k: found[task] for k, found in runs.items() if task in found}
        bands.append([*_sections(task, rows)])
    sheets.strips(path, bands)


def _sections(task: str, runs: Mapping[str, Mapping[str, Tensor]]) -> Iterator[Section]:
    """A section for each row in which the runs differ, below those in which they agree."""
    common: list[tuple[str, Tensor]] = []
    for caption in dict.fromkeys(caption for found in runs.values() for caption in found):
        rows = {k: found[caption] for k, found in runs.items() if caption in found}
        first, *others = rows.values()
        if others and all(torch.equal(first, x) for x in others):
            common.append((caption.rpartition(": ")[2], first))
        else:
            yield Section(f"{task}, {caption}", [*common, *rows.items()])
            common = []
    if common:
        yield Section(task, common)
