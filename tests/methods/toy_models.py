"""A model whose gradients can be written out, under the real trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from msgm_bench import (
    Batch,
    Examples,
    IdentityCodec,
    Method,
    Model,
    Process,
    RunSpec,
    Split,
    Training,
    VarianceExploding,
)
from msgm_bench.experiment.plan import resolve
from msgm_bench.training import NoisedBatches, Runtime, Trainer

PROCESS = VarianceExploding(0.1, 5.0)


class Affine(nn.Module):
    """eps_hat = x_t A^T + b, whatever the time."""

    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.tensor([[0.3, -0.2], [0.1, 0.5]]))
        self.b = nn.Parameter(torch.tensor([0.05, -0.4]))

    def forward(self, x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """eps_hat."""
        return x_t @ self.A.T + self.b


def clouds(counts: Mapping[Split, int]) -> dict[Split, Examples]:
    """Points of D_g near (2, 0), in two classes, and of D_f near (-1, 1)."""
    generator = torch.Generator().manual_seed(3)
    centres = {"retain": (2.0, 0.0), "forget": (-1.0, 1.0)}
    splits: dict[Split, Examples] = {}
    for split, count in counts.items():
        x = torch.randn(count, 2, generator=generator) * 0.3 + torch.tensor(centres[split])
        y = torch.arange(count) % 2 if split == "retain" else torch.full((count,), 2)
        splits[split] = Examples(x, y)
    return splits


def trainer_of(
    method: Method,
    splits: Mapping[Split, Examples] | None = None,
    process: Process = PROCESS,
    **budget: Any,
) -> Trainer:
    """The real trainer of an affine model in the plane, batches of 8."""
    model = Model(Affine(), process, IdentityCodec(), (2,))
    defaults = {
        "steps": 4,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "ema_decay": 0.0,
        "max_grad_norm": 1e9,
    }
    chosen = Training(**defaults | budget)
    items = clouds({"retain": 20, "forget": 12}) if splits is None else splits
    noised_batches = NoisedBatches(items, model, 0, chosen.batch_size)
    return Trainer(model, method, noised_batches, chosen, Runtime(torch.device("cpu")), 0)


def ignore_progress(*arguments: object) -> None:
    """A callback of progress that does nothing."""


def weights(trainer: Trainer) -> Tensor:
    """All parameters ``[P]``."""
    return torch.cat([p.detach().reshape(-1) for p in trainer.parameters]).clone()


def recorded_gradients(trainer: Trainer) -> list[Tensor]:
    """Fills with the gradients that go to ``descend``, in float64; the steps are taken."""
    gradients: list[Tensor] = []
    original = trainer.descend

    def descend(gradient: Tensor, mask: Tensor | None = None) -> None:
        gradients.append(gradient.double())
        original(gradient, mask)

    trainer.descend = descend  # type: ignore[method-assign]
    return gradients


def dsm_gradient(trainer: Trainer, x_t: Tensor, target: Tensor) -> Tensor:
    """The gradient of mean r^2, r = x_t A^T + b - target: 2/(N D) (r^T x_t, sum r)."""
    A, b = (p.detach().double() for p in trainer.parameters)
    x = x_t.double()
    r = x @ A.T + b - target.double()
    return torch.cat([(r.T @ x).reshape(-1), r.sum(0)]) * 2 / r.numel()


def input_and_target(batch: Batch) -> tuple[Tensor, Tensor]:
    """(x_t, eps): input and target of denoising score matching."""
    return batch.x_t, batch.eps


def budget(method: str, preset: str) -> Training:
    """The budget of a preset for fine-tuning the digits' base model."""
    spec = RunSpec(
        dataset="digits",
        forget=["3"],
        backbone="vesde",
        method=method,
        preset=preset,
        regime="finetune",
    )
    training = resolve(spec).training
    assert training is not None
    return training.budget
