"""Run folders to a board's ``results/``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msgm_bench.api.result import Result
from msgm_bench.boards.board import RESULTS, Board, load
from msgm_bench.boards.collect import collect, file_name, read, rejection, results_of
from msgm_bench.boards.comparability import Place, agreeing, place
from msgm_bench.boards.picture import import_images
from msgm_bench.boards.protocols import name_of
from msgm_bench.boards.sample_sheets import import_sheets
from msgm_bench.boards.trust import record_trust
from msgm_bench.errors import StorageError, UsageError
from msgm_bench.storage import write_text


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        written: Source to the file written.
        same: Sources whose result was there already, to that file.
        left: Sources to the reason why they were not taken.
        refused: Sources that belong to the board and do not compare with what stands, to the
            reason.
    """

    written: dict[Path, Path] = field(default_factory=dict)
    same: dict[Path, Path] = field(default_factory=dict)
    left: dict[Path, str] = field(default_factory=dict)
    refused: dict[Path, str] = field(default_factory=dict)


def import_results(folder: Path, runs: Path) -> Imported:
    """Copy each ``runs/*/result.json`` of the board's task to ``results/METHOD-sSEED.json``.

    A run whose result is damaged, does not belong to the board or cannot be is left with its
    reason. A newer result replaces the board's file for the same method and seed, except that a
    failed one never replaces one that succeeded. Two runs that claim one place with different
    contents are both left, since nothing says which is meant; of one that succeeded and one that
    failed, the former is taken. Those that do not compare with what stands, or after which a result
    that stands would have to go, are refused, and the board stays as it is. Runs are those of the
    board's keepers: their results are re-run.

    Raises:
        UsageError: ``folder`` is no board, or ``runs`` no folder.
        StorageError: A file cannot be written.
    """
    board = load(folder)
    results_of(folder)  # refuses a folder that leads elsewhere
    if not runs.is_dir():
        raise UsageError(f"{runs} is no folder", "the --out folder of the runs", "check --runs")
    done, imported = Imported(), list[Result]()
    claims = _claims(board, runs, done).values()
    chosen = dict(filter(None, (_choose(rivals, done) for rivals in claims)))
    chosen = {path: one for path, one in chosen.items() if not _yields(folder, path, one, done)}
    done.refused.update(_not_comparable(board, folder, chosen))
    for path, result in chosen.items():
        if path in done.refused:
            continue
        _take(folder, path, result, done)
        import_images(board, folder, path.parent, result)
        import_sheets(board, folder, path.parent, result)
        imported.append(result)
    if imported:
        record_trust(folder, imported, "re-run")
    return done


def _claims(
    board: Board, runs: Path, done: Imported
) -> dict[tuple[str, int], list[tuple[Path, Result]]]:
    """Runs that fit the board, by the place they claim; the others go to ``done.left``."""
    claims: dict[tuple[str, int], list[tuple[Path, Result]]] = {}
    for path in sorted(runs.glob("*/result.json")):
        try:
            result = read(path)
        except StorageError as error:
            done.left[path] = error.what
            continue
        reason = rejection(board, result)
        if reason is not None:
            done.left[path] = reason
        else:
            place = (result.spec.method, result.spec.seed)
            claims.setdefault(place, []).append((path, result))
    return claims


def _choose(claims: list[tuple[Path, Result]], done: Imported) -> tuple[Path, Result] | None:
    """The one result of a place, or None where several differ."""
    sound = [claim for claim in claims if claim[1].status == "ok"] or claims
    for path, result in claims:
        if result.status != sound[0][1].status:
            done.left[path] = f"{result.status}, and another run of that seed succeeded"
    if len({result.digest for _, result in sound}) == 1:
        return sound[0]
    names = ", ".join(path.parent.name for path, _ in sound)
    reason = f"several runs of {name_of(sound[0][1])} differ: {names}"
    done.left.update({path: reason for path, _ in sound})
    return None


def _not_comparable(board: Board, folder: Path, chosen: Mapping[Path, Result]) -> dict[Path, str]:
    """Those of ``chosen`` that leave the board with fewer results that compare, and why."""
    try:
        standing = {place(result): result for result in collect(board, folder).results}
    except UsageError:  # what stands does not compare, and new runs may be what mends it
        return {}
    refused = dict[Path, str]()
    while new := {path: result for path, result in chosen.items() if path not in refused}:
        reasons = _disagreements(board, standing, new)
        if not reasons:
            break
        refused.update(reasons)
    return refused


def _disagreements(
    board: Board, standing: Mapping[Place, Result], new: Mapping[Path, Result]
) -> dict[Path, str]:
    """New results that do not agree with the board, or else those that push one from it."""
    together = dict(standing) | {place(result): result for result in new.values()}
    try:
        left = agreeing(board, [together[name] for name in sorted(together)])[1]
    except UsageError as error:
        return dict.fromkeys(new, error.what)
    reasons = {path: left[place(r)] for path, r in new.items() if place(r) in left}
    if reasons or not left:
        return reasons
    method, reason = next((name[0], why) for name, why in left.items())
    own = [path for path, result in new.items() if result.spec.method == method]
    return dict.fromkeys(own or new, f"a result that stands would have to go: {reason}")


def _yields(folder: Path, path: Path, result: Result, done: Imported) -> bool:
    """Whether a result that failed gives way to the one that stands."""
    target = folder / RESULTS / file_name(result)
    stored = _stored(target, folder)
    if result.status == "ok" or stored is None or stored.status != "ok":
        return False
    done.left[path] = f"{result.status}, and {target.name} holds one that succeeded"
    return True


def _take(folder: Path, path: Path, result: Result, done: Imported) -> None:
    target = folder / RESULTS / file_name(result)
    if _stored(target, folder) == result:
        done.same[path] = target
    else:
        write_text(target, result.to_json())
        done.written[path] = target


def _stored(path: Path, folder: Path) -> Result | None:
    """What the board holds; nothing where the file is absent or damaged, so that it is mended."""
    try:
        return read(path, inside=folder)
    except StorageError:
        return None
