"""Export: a trained model as a folder for diffusers and other programs, with a model card."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path

import torch

from msgm_bench.api import Backbone, DataStats, Model, Result
from msgm_bench.errors import UsageError
from msgm_bench.experiment.model_card import WEIGHTS, Limits, ModelCard, PartCard, read_card
from msgm_bench.experiment.model_io import load_model
from msgm_bench.experiment.pretrained import ORIGIN, Origin, stored_base
from msgm_bench.experiment.stored_result import RESULT, read_result
from msgm_bench.report.model_card import model_card
from msgm_bench.storage import (
    claim,
    storage_errors,
    temporary_folder,
    write_text,
)
from msgm_bench.storage.atomic import NAME_LETTERS
from msgm_bench.storage.tensors import load_tensors

README = "README.md"
OLD = "-old"  # behind the name of the temporary folder: the target that it replaces


def export(run: Path, target: Path, force: bool = False, base: str | None = None) -> str:
    """Write the model of a run folder to ``target``, whole or not at all.

    Of a partial training the part alone is written, unless the base is named.

    Args:
        run: A run folder, with its result and its model.
        target: The folder to write, new or empty.
        force: Whether to replace ``target`` with all that is in it.
        base: The base model of a partial training, to write the whole model.

    Returns:
        SHA-256 of the weights, which identifies ``target``.

    Raises:
        UsageError: ``run`` holds no model, ``target`` is not empty, or diffusers has no such
            network or no sampler for it.
        StorageError: Something cannot be read or written.
    """
    result, card = read_run(run)
    if Limits.of_card(card).required_task_options:
        raise UsageError(
            f"{run} holds a model of {result.spec.method}, which only its own sampler draws from",
            "models that other programs can sample",
        )
    with storage_errors(target):
        finish_interrupted(target.resolve())
    check_target(target, run, force)
    target = target.resolve()
    with storage_errors(target), temporary_folder(target) as work:
        if card.part is not None and base is None:
            usage, sha256 = _write_part(run / "model", card, card.part, work)
        else:
            usage, sha256 = _write_model(run / "model", card, base, work)
        write_text(work / README, model_card(run, result, sha256, usage))
        write_text(work / ORIGIN, origin_json(result))
        replace_folder(work, target)
    return sha256


def _write_part(folder: Path, card: ModelCard, part: PartCard, work: Path) -> tuple[str, str]:
    """Write the trained part for other programs; how to use it, and the hash of its file."""
    usage = card.create(folder).save_part(load_tensors(folder / WEIGHTS), part.name, work)
    with next(work.glob("*.safetensors")).open("rb") as file:
        return usage, hashlib.file_digest(file, "sha256").hexdigest()


def _write_model(folder: Path, card: ModelCard, base: str | None, work: Path) -> tuple[str, str]:
    """Write the whole model for other programs; how to use it, and the hash of its weights."""
    stats = card.stats()
    if base is None:
        model = load_model(folder, torch.device("cpu"))
        return _write_whole(card.create(folder), model, stats, work)
    with tempfile.TemporaryDirectory(dir=work.parent) as place:
        stored = stored_base(base, card.create(folder), stats, Path(place))
        model = load_model(folder, torch.device("cpu"), stored)
        return _write_whole(read_card(stored).create(stored), model, stats, work)


def _write_whole(backbone: Backbone, model: Model, stats: DataStats, work: Path) -> tuple[str, str]:
    """Write a model of ``backbone``; how to use it, and the hash of its weights."""
    usage = backbone.save_pretrained(model, work)
    return usage, backbone.from_pretrained(str(work), stats, download=False).sha256


def replace_folder(work: Path, target: Path) -> None:
    """Rename ``work`` to ``target``; an older ``target`` is deleted after that."""
    old = target.with_name(f"{work.name}{OLD}")
    if target.exists():
        target.rename(old)
    try:
        work.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def finish_interrupted(target: Path) -> None:
    """Restore or delete the older ``target`` of an export that was killed while it replaced it."""
    if not target.parent.is_dir():
        return
    pattern = re.compile(rf"\.{re.escape(target.name[:NAME_LETTERS])}-[0-9a-f]{{8}}{OLD}")
    for old in [path for path in target.parent.iterdir() if pattern.fullmatch(path.name)]:
        with claim(old.with_name(old.name.removesuffix(OLD))) as is_free:
            if is_free and target.exists():
                shutil.rmtree(old, ignore_errors=True)
            elif is_free:
                old.rename(target)


def read_run(run: Path) -> tuple[Result, ModelCard]:
    """The result of a run folder, and the card of its model.

    Raises:
        UsageError: The folder has no model.
        StorageError: The result is missing or damaged.
    """
    card = read_card(run / "model")
    return read_result(run / RESULT), card


def check_target(target: Path, run: Path, force: bool) -> None:
    """Check that ``target`` may be written.

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
    resolved = target.resolve()
    if any(place.resolve().is_relative_to(resolved) for place in (run, Path())):
        raise UsageError(f"{target} holds the run or the current folder", "another folder")


def origin_json(result: Result) -> str:
    """Dataset and forgotten classes of the model as JSON, which ``--base`` reads."""
    return json.dumps(Origin.of(result).model_dump(mode="json"), indent=2) + "\n"
