"""A class-conditional model whose gradients can be written out, under the real trainer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from msgm_bench import (
    Batch,
    Codec,
    Examples,
    IdentityCodec,
    Labels,
    Method,
    Model,
    Process,
    Split,
    Training,
    VarianceExploding,
)
from msgm_bench.training import NoisedBatches, Runtime, Trainer

K = 5
PROCESS = VarianceExploding(0.1, 5.0)


class ClassShift(nn.Module):
    """eps_hat = A x_t + W_c, entry by entry, with W_K of the null class; whatever the time."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.A = nn.Parameter(torch.tensor([0.3, -0.6]))
        self.W = nn.Parameter(torch.randn(K + 1, 2, generator=generator))

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """eps_hat."""
        return x_t * self.A + self.W[condition]


class Curved(ClassShift):
    """eps_hat = tanh(A x_t + W_c) + t W_c."""

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """eps_hat."""
        shift = self.W[condition]
        return torch.tanh(x_t * self.A + shift) + t[:, None].to(x_t) * shift


def conditional_model(
    network: type[ClassShift] = ClassShift, process: Process = PROCESS, codec: Codec | None = None
) -> Model:
    """A conditional model of five classes in the plane."""
    built = network()
    embeddings = [n for n, module in built.named_modules() if isinstance(module, nn.Embedding)]
    parts = {"class": [f"{name}.weight" for name in embeddings]} if embeddings else {}
    return Model(built, process, codec or IdentityCodec(), (2,), Labels(K), parts=parts)


def trainer_of(
    method: Method,
    forget_labels: tuple[int, ...] = (3,),
    process: Process = PROCESS,
    codec: Codec | None = None,
    network: type[ClassShift] = ClassShift,
    **budget: Any,
) -> Trainer:
    """The real trainer, batches of 8 of items that lie near (class, 0); the base is the start."""
    model, base = (conditional_model(network, process, codec) for _ in range(2))
    names = method.trains(model, "finetune")
    for name, parameter in model.network.named_parameters():
        parameter.requires_grad_(name in names)
    defaults = {
        "steps": 4,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "ema_decay": 0.0,
        "max_grad_norm": 1e9,
    }
    chosen = Training(**defaults | budget)
    y = torch.arange(60) % K
    x = torch.stack([y.float(), torch.zeros(60)], dim=1)
    is_forget = torch.isin(y, torch.tensor(forget_labels))
    splits: dict[Split, Examples] = {
        "retain": Examples(x[~is_forget], y[~is_forget]),
        "forget": Examples(x[is_forget], y[is_forget]),
    }
    retain_labels = tuple(label for label in range(K) if label not in forget_labels)
    noised_batches = NoisedBatches(
        splits, model, 0, chosen.batch_size, label_dropout_prob=chosen.label_dropout_prob
    )
    labels = {"retain": retain_labels, "forget": forget_labels}
    base.requires_grad_(False)
    runtime = Runtime(torch.device("cpu"))
    return Trainer(
        model, method, noised_batches, chosen, runtime, 0, base, labels, concepts=forget_labels
    )


def squared_error_gradient(model: Model, x_t: Tensor, condition: Tensor, target: Tensor) -> Tensor:
    """The gradient ``[P]`` of mean r^2, r = A x_t + W_c - target, written out in float64."""
    A, W = (p.detach().double() for p in model.parameters())
    x = x_t.double()
    r = 2 * (x * A + W[condition] - target.double()) / x.numel()
    of_W = torch.zeros_like(W).index_add_(0, condition, r)
    return torch.cat([(r * x).sum(0), of_W.reshape(-1)])


def dsm_gradient(model: Model, batch: Batch) -> Tensor:
    """The gradient ``[P]`` of denoising score matching as the batch is conditioned."""
    return squared_error_gradient(model, batch.x_t, batch.condition, batch.eps)
