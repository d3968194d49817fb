"""A trained model as a folder that other programs load, with a model card."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch

from msgm_bench.api import Result, Row
from msgm_bench.errors import UsageError
from msgm_bench.experiment.model_io import Limits, ModelCard, load_model, read_card
from msgm_bench.experiment.pretrained import ORIGIN, Origin, is_unlearned
from msgm_bench.experiment.stored_result import RESULT, read_result
from msgm_bench.storage import explained, page_code, page_text, write_text

README = "README.md"


def export(run: Path, target: Path, force: bool = False) -> str:
    """Write the model of a run folder to ``target``, whole or not at all.

    Args:
        run: A run folder, with its result and its model.
        target: The folder to write, new or empty.
        force: Whether to replace ``target`` with all that is in it.

    Returns:
        SHA-256 of the weights, by which ``target`` is known as a base.

    Raises:
        UsageError: ``run`` holds no model, ``target`` is not empty, or other programs have no
            such network or no sampler for it.
        StorageError: Something cannot be read or written.
    """
    result, card = read_run(run)
    if Limits.of_card(card).required_task_options:
        raise UsageError(
            f"{run} holds a model of {result.spec.method}, which only its own sampler draws from",
            "models that other programs can sample",
        )
    check_target(target, run, force)
    target = target.resolve()
    stats = card.stats()
    backbone = card.create()
    model = load_model(run / "model", torch.device("cpu"))
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            usage = backbone.save_pretrained(model, work)
            sha256 = backbone.from_pretrained(str(work), stats, download=False).sha256
            write_text(work / README, page(run, result, sha256, usage))
            write_text(work / ORIGIN, origin(result))
            work.chmod(0o755)
            put(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return sha256


def put(work: Path, target: Path) -> None:
    """Rename ``work`` to ``target``; what was there goes only when that is done."""
    old = target.with_name(f"{work.name}-old")
    if target.exists():
        target.rename(old)
    try:
        work.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def read_run(run: Path) -> tuple[Result, ModelCard]:
    """The result of a run folder, and the card of its model.

    Raises:
        UsageError: It has no model.
        StorageError: Its result is missing or damaged.
    """
    card = read_card(run / "model")
    return read_result(run / RESULT), card


def check_target(target: Path, run: Path, force: bool) -> None:
    """Make sure that nothing is overwritten that nobody meant to.

    Raises:
        UsageError: ``target`` is a file, not empty, or holds the run or the current folder.
    """
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file", "a folder, new or empty")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not force:
        raise UsageError(
            f"{target} is not empty", "a folder, new or empty", "--force replaces all that is in it"
        )
    whole = target.resolve()
    if any(place.resolve().is_relative_to(whole) for place in (run, Path())):
        raise UsageError(f"{target} holds the run or the current folder", "another folder")


def origin(result: Result) -> str:
    """Which classes of which data the model was made without: JSON for ``--base``."""
    return json.dumps(Origin.of(result).model_dump(mode="json"), indent=2) + "\n"


def page(run: Path, result: Result, sha256: str, usage: str) -> str:
    """The model card."""
    spec = result.spec
    forgotten = page_text(", ".join(spec.forget))
    track = " (class-conditional)" if spec.conditional else ""
    ema = spec.settings.get("training", {}).get("ema_decay", 0)
    averaged = f"averaged with the decay {ema:g}" if ema else "as they were scored"
    facts = {
        "Method": f"`{spec.method}`, regime {spec.regime}, preset {spec.preset}, seed {spec.seed}",
        "Data": f"`{spec.dataset}`",
        "Forgotten": forgotten if is_unlearned(result) else "nothing",
        "Backbone": f"`{spec.backbone}`{track}",
        "Run": page_code(run.resolve().name),
        "Weights": f"{averaged}, sha256 `{sha256}`",
    }
    if spec.base:
        facts["Base model"] = f"sha256 `{spec.base}`"
    commit = result.provenance.get("git_commit")
    facts["Made by"] = page_code(result.provenance.get("command", ""))
    facts["Version"] = ", ".join(
        [f"msgm-bench {result.provenance.get('versions', {}).get('msgm-bench', '')}"]
        + ([f"commit {commit}"] if commit else [])
    )
    lines = [
        f"# {spec.method} on {spec.dataset}"
        + (f", without {forgotten}" if is_unlearned(result) else ""),
        "",
        "A diffusion model that was scored by msgm-bench.",
        "",
        *(f"- {name}: {said}" for name, said in facts.items()),
        "",
        "## Use",
        "",
        usage.strip("\n"),
        "",
        "## Measured",
        "",
        "| metric | on | value | 95 % interval | n | protocol |",
        "|---|---|---:|---|---:|---|",
        *(_line(row) for row in result.metrics if row.value is not None),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    ends = "" if row.low is None or row.high is None else f"{row.low:.4g} to {row.high:.4g}"
    value = f"{row.value:.4g} {row.unit}{' ⚠' if row.stamp else ''}"
    cells = (row.metric, row.split, value, ends, str(row.n), row.protocol)
    return f"| {' | '.join(map(page_text, cells))} |"
