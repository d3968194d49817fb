"""Embeddings of words that stand before a prompt and are learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import Batch, Model, Noise, derive_seed, dsm_loss


class SoftPrefix:
    """k embeddings v ``[k, d_w]`` between a prompt's start and its words, moved by Adam.

    They start at the embeddings of k random tokens. What they push out at the end is padding, or
    the last words of a long prompt: its last token stays, as where CLIP's tokenizer truncates.

    Args:
        model: The model, whose weights stay as they are.
        texts: The prompts.
        k: Number of embeddings.
        seed: Seed of the start, of batches and of noise.
        learning_rate: Adam's step size.
        weight_decay: Adam's penalty.
    """

    def __init__(
        self,
        model: Model,
        texts: Sequence[str],
        k: int,
        seed: int,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        self.model, self.seed, self.encoder = model, seed, model.prompts.encoder
        table: Tensor = self.encoder.get_input_embeddings().weight.detach()  # type: ignore[operator]
        self.words = table[model.prompts.tokenizer(texts).to(table.device)]
        generator = torch.Generator().manual_seed(derive_seed(seed, "start"))
        start = torch.randint(len(table), (k,), generator=generator)
        self.v = table[start.to(table.device)].clone().requires_grad_()
        self.adam = torch.optim.Adam([self.v], lr=learning_rate, weight_decay=weight_decay)

    def conditions(self, which: Tensor) -> Tensor:
        """Embeddings of the prompts ``which [N]`` behind v, ``[N, L, d]``."""
        used, inverse = which.to(self.words.device).unique(return_inverse=True)
        words, k = self.words[used], len(self.v)
        v = self.v.expand(len(used), *self.v.shape)
        parts = [words[:, :1], v, words[:, 1 : words.shape[1] - k - 1], words[:, -1:]]
        embeddings: Tensor = self.encoder(torch.cat(parts, dim=1))
        return embeddings[inverse]

    def learn(self, x0: Tensor, which: Tensor, steps: range, batch: int) -> None:
        """Steps down E w(t) |eps_hat(x_t, t, c) - eps|^2 / D, with c the conditions of ``which``.

        Args:
            x0: Images in model space ``[N, *shape]``.
            which: The prompt of each ``[N]``.
            steps: Numbers of the steps.
            batch: Images of a step.
        """
        with torch.enable_grad():
            for step in steps:
                noise = Noise(derive_seed(self.seed, "step", step), 0, batch, x0.device)
                item = (noise.uniform(()) * len(x0)).long()
                part = torch.arange(batch, device=x0.device)
                t = self.model.process.sample_times((part + noise.uniform(())) / batch)
                eps, prompt = noise.normal(tuple(x0.shape[1:])), which.to(x0.device)[item]
                x_t = self.model.process.perturb(x0[item], t, eps)
                condition = self.conditions(prompt)
                drawn = Batch(x0[item], t, eps, x_t, prompt, condition)
                (self.v.grad,) = torch.autograd.grad(dsm_loss(self.model, drawn), [self.v])
                self.adam.step()
