"""What tasks and metrics see: the data and the judge, and a model under evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch

from msgm_bench.api import Data, EvalContext, Judge, Model, ModelContext, ModelTrainer
from msgm_bench.api.context import refuse_training
from msgm_bench.registry import registry


def eval_context(
    data: Data, targets: Sequence[int], judge: Judge, device: torch.device
) -> EvalContext:
    """The context that all models share, with the judge as it is: fitted or not yet."""
    return EvalContext(
        data=data,
        targets=tuple(targets),
        judge=judge,
        judge_id=judge.protocol(),
        device=device,
        create=registry().create,
    )


def model_context(
    context: EvalContext,
    model: Model,
    seed: int,
    base: Model | None = None,
    trainer: ModelTrainer = refuse_training,
) -> ModelContext:
    """The context with a model and the held-out items of D_g and D_f, on one device."""
    retain, forget = context.data.split(context.data.test, context.targets)
    return ModelContext(
        **{field.name: getattr(context, field.name) for field in fields(EvalContext)},
        model=model,
        retain=retain.to(context.device),
        forget=forget.to(context.device),
        seed=seed,
        base=base,
        trainer=trainer,
    )
