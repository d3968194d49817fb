"""A submission from a run folder and the stages that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from msgm_bench.api import Metric
from msgm_bench.boards.collect import parse
from msgm_bench.cache.cache import Cache
from msgm_bench.cache.stage import Stage
from msgm_bench.errors import PluginError, StorageError, UsageError
from msgm_bench.evaluation.evidence import differences
from msgm_bench.experiment.graph import Graph, build_graph
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.spec import parse_spec
from msgm_bench.experiment.stored_result import RESULT, rerun_hint
from msgm_bench.registry import registry
from msgm_bench.report.run_folder import SPEC
from msgm_bench.storage import MIB, atomic_write, parse_yaml, read_text, single_line
from msgm_bench.storage.archives import ARCHIVE_LIMIT
from msgm_bench.storage.tensors import pack_tensors
from msgm_bench.submissions.archive import Exhibit, OmittedCard, Submission, pack


def make(run: Path, full: bool = False, limit: int = ARCHIVE_LIMIT) -> Submission:
    """The submission of a run folder, whose stages are in the cache.

    Evidence that does not fit is left out, the largest first.

    Args:
        run: The run folder.
        full: Whether large evidence is meant in full: features and not their moments.
        limit: Largest size of the archive in bytes.

    Raises:
        UsageError: It holds no result that is ok, or was made by other code, data or settings.
        StorageError: A file or a stage is not there, or the result alone is too large.
        PluginError: The rows of a metric do not follow from its evidence.
    """
    document, request = (read_text(run / name, inside=run) for name in (RESULT, SPEC))
    result = parse(document, single_line(run / RESULT))
    if result.status != "ok":
        raise UsageError(f"{single_line(run)} is of a run that {result.status}", "a result: ok")
    values = parse_yaml(request, single_line(run / SPEC))
    if not isinstance(values, dict):
        raise UsageError(f"{single_line(run / SPEC)} holds {type(values).__name__}", "a mapping")
    spec = parse_spec(values)
    graph = build_graph(resolve(spec, download=False))
    if result.provenance.get("stages", {}).get(graph.rows.name) != graph.rows.key:
        raise UsageError(
            f"{single_line(run)} was made by other code, data or settings than are here now",
            "a run of this version on this machine",
            rerun_hint(run),
        )
    submission = Submission(
        single_line(run), result, document, request, spec, tuple(_exhibits(graph, run, full))
    )
    _check_evidence(submission)
    return _within(submission, limit)


def write(path: Path, submission: Submission) -> int:
    """Write the archive atomically; its size in bytes."""
    content = pack(submission)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return len(content)


def _exhibits(graph: Graph, run: Path, full: bool) -> list[Exhibit]:
    needs = _folders(graph.rows.needs, run)
    return [Exhibit(metric.name, exhibit) for metric, exhibit in graph.rows.evidence(needs, full)]


def _folders(needs: Mapping[str, Stage], run: Path) -> dict[str, Path]:
    """Folders of finished stages."""
    cache = Cache()
    entries = {name: cache.find(stage.key) for name, stage in needs.items()}
    missing = [name for name, entry in entries.items() if entry is None]
    if missing:
        raise StorageError(
            f"the cache {single_line(cache.root)} lacks {', '.join(missing)}",
            "the cache in which the run was made",
            rerun_hint(run),
        )
    return {name: entry.path for name, entry in entries.items() if entry is not None}


def _check_evidence(submission: Submission) -> None:
    """Rows follow from the evidence here, so that they do elsewhere."""
    for exhibit in submission.exhibits:
        place = (exhibit.evidence.task, exhibit.evidence.protocol)
        rows = [row for row in submission.result.metrics if (row.task, row.protocol) == place]
        cls = cast(type[Metric], registry().entry("metrics", exhibit.metric).cls)
        for difference in differences(cls, exhibit.evidence, rows):
            raise PluginError(f"metric {exhibit.metric!r} and its evidence differ: {difference}")


def _within(submission: Submission, limit: int) -> Submission:
    """The submission without its largest evidence, until it fits."""
    exhibits = submission.exhibits
    sizes = {exhibit: len(pack_tensors(exhibit.evidence.tensors)) for exhibit in exhibits}
    fitting, size = submission, len(pack(submission))
    while size > limit and fitting.exhibits:
        largest = max(fitting.exhibits, key=sizes.__getitem__)
        card = OmittedCard(metric=largest.metric, task=largest.evidence.task, bytes=sizes[largest])
        rest = tuple(exhibit for exhibit in fitting.exhibits if exhibit is not largest)
        fitting = replace(fitting, exhibits=rest, omitted=(*fitting.omitted, card))
        size = len(pack(fitting))
    if size > limit:
        raise StorageError(
            f"the submission of {submission.name} is {size / MIB:.1f} MiB without any evidence",
            f"at most {limit / MIB:g} MiB",
            "raise --max-size",
        )
    return fitting
