"""The stages that train: the base model and the method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from msgm_bench.api import Examples, Model, Split
from msgm_bench.cache.cache import Report, Stage
from msgm_bench.diffusion import derive_seed
from msgm_bench.errors import DivergenceError
from msgm_bench.experiment.cache_key import common
from msgm_bench.experiment.model_io import Limits, load_model, save_model
from msgm_bench.experiment.plan import Plan, identity
from msgm_bench.experiment.training_plan import TrainingPlan
from msgm_bench.storage import write_text
from msgm_bench.storage.tensors import load_tensors, save_tensors
from msgm_bench.training import NoisedBatches, Trainer
from msgm_bench.training.checkpoint import NAME as CHECKPOINT

LOG, OPTIMIZER = "train.jsonl", "optimizer.safetensors"


def training_stage(
    plan: Plan, trained: TrainingPlan, base: Stage | None, continued: bool = False
) -> Stage:
    """Train a method: from fresh weights, or from the base model's.

    Where it is to be ``continued`` by another training, its optimiser's state stays in its folder.
    """
    method, seeds = trained.method, plan.spec.seeds
    wanted = sorted(method.needs - {"base"})
    inputs = common(plan, "api", "diffusion", "training") | {
        "backbone": identity(plan.backbone),
        "method": identity(method),
        "regime": trained.regime,
        "budget": trained.budget.model_dump() | {"pass_items": trained.pass_items},
        "targets": [] if wanted == ["all"] else list(plan.targets),
        "classes": plan.loaded.info.classes,
        "seed_weights": seeds["train"],
        "seed": seeds["train"] if method.baseline else seeds["unlearn"],
        **({"continued": True} if continued else {}),
    }

    def produce(work: Path, needs: Mapping[str, Path], report: Report) -> None:
        _train(plan, trained, inputs["seed"], work, needs.get("base"), report, continued)

    needs = {} if base is None else {"base": base}
    length = trained.budget.passes or trained.budget.steps
    return Stage(f"train {method.name}", inputs, produce, needs, length)


def _train(
    plan: Plan,
    trained: TrainingPlan,
    seed: int,
    work: Path,
    base_folder: Path | None,
    report: Report,
    continued: bool,
) -> None:
    trainer = _trainer(plan, trained, seed, base_folder)

    def store_optimizer() -> None:
        save_tensors(work / OPTIMIZER, trainer.continuation())

    try:
        trainer.run(work, report, store_optimizer if continued else None)
    except DivergenceError:
        (work / CHECKPOINT).unlink(missing_ok=True)  # it leads to the same end
        raise
    finally:
        rows = (json.dumps(_finite(row)) + "\n" for row in trainer.log.rows)
        write_text(work / LOG, "".join(rows))
    limits = Limits.of(trained.method)
    save_model(work, trainer.model, plan.backbone, plan.loaded.info, limits)
    (work / CHECKPOINT).unlink(missing_ok=True)


def _trainer(plan: Plan, trained: TrainingPlan, seed: int, base_folder: Path | None) -> Trainer:
    """All that is trained and that it is trained with, before the first step."""
    device = plan.runtime.device
    model = _fresh(plan)
    base = None if base_folder is None else load_model(base_folder, device)
    if base is not None:
        base.requires_grad_(False)
        if trained.regime == "finetune":
            model.network.load_state_dict(base.network.state_dict())
    plan.runtime.place(model)
    splits = _splits(plan, trained, device)
    budget, flip = trained.budget, plan.data.flip
    stream = derive_seed(seed, "training")
    noised_batches = NoisedBatches(
        splits, model, stream, budget.batch_size, flip, budget.label_dropout_prob
    )
    labels = plan.data.labels(plan.targets)
    place = (plan.runtime, seed, base, labels, trained.pass_items)
    trainer = Trainer(model, trained.method, noised_batches, budget, *place)
    if trained.continues and base_folder is not None:
        trainer.continue_from(load_tensors(base_folder / OPTIMIZER))
    return trainer


def _fresh(plan: Plan) -> Model:
    """New weights from the training seed, drawn on the CPU whatever the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(plan.spec.seeds["train"], "weights"))
        return plan.backbone.build(plan.loaded.info)


def _splits(plan: Plan, trained: TrainingPlan, device: torch.device) -> dict[Split, Examples]:
    data = plan.data
    retain, forget = data.split(data.train, plan.targets)
    splits: dict[Split, Examples] = {"all": data.train, "retain": retain, "forget": forget}
    return {k: v.to(device) for k, v in splits.items() if k in trained.method.needs}


def _finite(row: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {k: v if abs(v) < float("inf") else None for k, v in row.items()}
