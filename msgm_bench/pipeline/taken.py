"""Models from elsewhere, which enter the cache as they are: nothing is trained."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch

from msgm_bench.errors import StorageError
from msgm_bench.pipeline.cache import Report, Stage
from msgm_bench.pipeline.given import Given
from msgm_bench.pipeline.modelfile import CARD, WEIGHTS, read_card, save_model
from msgm_bench.pipeline.plan import Plan, identity
from msgm_bench.storage import atomic


def given_stage(plan: Plan) -> Stage:
    """Take the base model that was given, which is known by the hash of its weights."""
    given, info, backbone = cast(Given, plan.given), plan.loaded.info, plan.backbone
    inputs = {
        "weights": given.sha256,
        "backbone": identity(backbone),
        "data": info.record(),
        "process": backbone.process(info).spec(),
    }

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        found = backbone.load(given.source, info, download=False)
        if found.sha256 != given.sha256:
            raise StorageError(
                f"the weights of {given.source} have changed since the run began",
                hint="leave the file alone and repeat the command",
            )
        with torch.random.fork_rng(devices=[]):
            model = found.backbone.build(info)
        model.network.load_state_dict(found.weights)
        save_model(work, model, backbone, info)

    return Stage("take the base", inputs, produce)


def foreign_stage(plan: Plan) -> Stage:
    """Take the model that is to be evaluated."""
    folder = Path(cast(str, plan.spec.model))
    with (folder / WEIGHTS).open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    inputs = {"weights": weights, "card": read_card(folder), "backbone": identity(plan.backbone)}

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        for name in (WEIGHTS, CARD):
            with atomic(work / name) as temporary:
                shutil.copyfile(folder / name, temporary)

    return Stage("take the model", inputs, produce)
