"""Models from elsewhere, which enter the cache as they are: nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch

from msgm_bench.cache.cache import Report, Stage
from msgm_bench.errors import StorageError
from msgm_bench.experiment.model_io import CARD, WEIGHTS, read_card, save_model
from msgm_bench.experiment.plan import Plan, identity
from msgm_bench.experiment.pretrained import BaseCheckpoint, adopt
from msgm_bench.storage import write_text
from msgm_bench.storage.tensors import open_tensors, save_tensors


def given_stage(plan: Plan) -> Stage:
    """Take the base model that was given, which is known by the hash of its weights."""
    given, info, backbone = cast(BaseCheckpoint, plan.given), plan.loaded.info, plan.backbone
    inputs = {
        "weights": given.sha256,
        "backbone": identity(backbone),
        "data": info.record(),
        "process": backbone.process(info).spec(),
    }

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        found = adopt(backbone, given.source, info, download=False)
        _check_hash(given.source, found.sha256, given.sha256)
        with torch.random.fork_rng(devices=[]):
            model = found.backbone.build(info)
        model.network.load_state_dict(found.weights, strict=True)
        save_model(work, model, backbone, info)

    return Stage("take the base", inputs, produce)


def foreign_stage(plan: Plan) -> Stage:
    """Take the model that is to be evaluated."""
    folder = Path(cast(str, plan.spec.model))
    card = read_card(folder).model_dump(mode="json", exclude_unset=True)
    with open_tensors(folder / WEIGHTS) as file:
        _, planned = file.read_hashed()
    inputs = {"weights": planned, "card": card, "backbone": identity(plan.backbone)}

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        with open_tensors(folder / WEIGHTS) as file:
            state, sha256 = file.read_hashed()
        _check_hash(str(folder), sha256, planned)
        save_tensors(work / WEIGHTS, state)
        write_text(work / CARD, json.dumps(card, indent=1, sort_keys=True) + "\n")

    return Stage("take the model", inputs, produce)


def _check_hash(source: str, sha256: str, planned: str) -> None:
    if sha256 != planned:
        raise StorageError(
            f"the weights of {source} have changed since the run began",
            hint="leave the file alone and repeat the command",
        )
