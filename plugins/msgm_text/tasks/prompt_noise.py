"""Noise of images whose prompts state a seed, beside noise of the run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import Noise

SEEDS = 2**64  # torch's generators take 64 bits


class PromptNoise(Noise):
    """Noise of items start, start + 1, ..., some of which have seeds of their own.

    An item without one has the noise that ``Noise`` gives its position. The r-th repetition of a
    prompt with seed s draws from ``torch.Generator().manual_seed(s)`` on the CPU, whatever the
    device, and its draws are the r-th of each ``[r + 1, *item_shape]``: the first one is the
    latent from which the scripts of the field start (ESD, UCE, I2P).

    Args:
        seed: Seed of the items without one of their own.
        start: Position of the first item.
        seeds: Seed of each item, or None.
        repetitions: r of each item.
        device: Where draws lie.
    """

    def __init__(
        self,
        seed: int,
        start: int,
        seeds: Sequence[int | None],
        repetitions: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(seed, start, len(seeds), device)
        self._own = {
            position: (torch.Generator().manual_seed(own % SEEDS), repetition)
            for position, (own, repetition) in enumerate(zip(seeds, repetitions, strict=True))
            if own is not None
        }

    def normal(self, item_shape: tuple[int, ...]) -> Tensor:
        """Draw N(0, 1), shape [count, *item_shape]."""
        draws = super().normal(item_shape)
        for position, (generator, r) in self._own.items():
            draws[position] = torch.randn(r + 1, *item_shape, generator=generator)[r]
        return draws

    def uniform(self, item_shape: tuple[int, ...]) -> Tensor:
        """Draw U[0, 1), shape [count, *item_shape]."""
        draws = super().uniform(item_shape)
        for position, (generator, r) in self._own.items():
            draws[position] = torch.rand(r + 1, *item_shape, generator=generator)[r]
        return draws

    def rademacher(self, item_shape: tuple[int, ...]) -> Tensor:
        """Draw -1 or +1, each with probability 1/2, shape [count, *item_shape]."""
        draws = super().rademacher(item_shape)
        for position, (generator, r) in self._own.items():
            bits = torch.randint(0, 2, (r + 1, *item_shape), generator=generator)[r]
            draws[position] = (2 * bits - 1).to(draws)
        return draws
