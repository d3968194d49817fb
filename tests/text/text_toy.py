"""The toy text-to-image model under the real trainer."""

from __future__ import annotations

from typing import Any

import torch

from msgm_bench import Examples, Method, Model, Split, Training
from msgm_bench.testing.toy_text import toy_captions, toy_text_base, toy_text_model
from msgm_bench.training import NoisedBatches, Runtime, Trainer


def ignore_progress(*arguments: object) -> None:
    """A callback of progress that does nothing."""


def part_of(model: Model, names: frozenset[str]) -> Model:
    """The model, of which the parameters ``names`` alone have gradients."""
    for name, parameter in model.network.named_parameters():
        parameter.requires_grad_(name in names)
    return model


def trainer_of(method: Method, targets: tuple[int, ...] = (0,), **budget: Any) -> Trainer:
    """The real trainer of a fine-tuning from the trained toy base, batches of 8."""
    data, base, model = toy_captions(), toy_text_base(), toy_text_model()
    model.load_state_dict(base.state_dict())
    part_of(model, method.trains(model, "finetune"))
    retain, forget = data.split(data.train, targets)
    splits: dict[Split, Examples] = {"retain": retain, "forget": forget}
    defaults = {"steps": 4, "batch_size": 8, "learning_rate": 1e-2, "ema_decay": 0.0}
    chosen = Training(**{"max_grad_norm": 1e9} | defaults | budget)
    batches = NoisedBatches(
        {name: items for name, items in splits.items() if name in method.needs},
        model,
        0,
        chosen.batch_size,
        label_dropout_prob=chosen.label_dropout_prob,
    )
    return Trainer(
        model,
        method,
        batches,
        chosen,
        Runtime(torch.device("cpu")),
        0,
        base if "base" in method.needs else None,
        data.labels(targets),
        concepts=targets,
        prompts=data.prompts,
    )
