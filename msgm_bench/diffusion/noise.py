"""Noise that depends on the seed, the item and the draw, never on the batch.

Items 0, 1, 2, ... live in aligned blocks of `BLOCK`; every block has its own
`torch.Generator`, seeded by a hash of (seed, block).  A draw always fills the
whole block and then cuts out the items of the stream, so that splitting a job over
batches, processes or devices of one kind changes no number.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from msgm_bench.errors import OptionError

BLOCK = 256
"""Items that share one generator; part of the definition of every stored sample."""


def derive_seed(*parts: int | str) -> int:
    """Hash the parts to a seed in [0, 2^63), stable over runs and machines.

    Each part is written with its type and length before hashing (blake2b, 8 bytes),
    so that ("a", "b"), ("ab",), (1,) and ("1",) give four different streams.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        text = str(part).encode()
        kind = "s" if isinstance(part, str) else "i"
        digest.update(f"{kind}{len(text)}:".encode() + text)
    return int.from_bytes(digest.digest(), "little") & (2**63 - 1)


class Noise:
    """Random draws for the items start, ..., start + count - 1 of a stream.

    The k-th draw of item i is a function of (seed, i, k) and of the item's shape only,
    provided that every batch makes the same sequence of draws.
    """

    def __init__(
        self,
        seed: int,
        start: int,
        count: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Open the stream `seed` at item `start >= 0` for `count >= 1` items.

        Raises:
            OptionError: if start is negative or count is not positive.
        """
        if start < 0 or count < 1:
            raise OptionError(f"Noise(start={start}, count={count})", "start >= 0 and count >= 1")
        self.seed = seed
        self.start = start
        self.count = count
        self.device = torch.device(device)
        self.dtype = dtype
        first, last = start // BLOCK, (start + count - 1) // BLOCK
        self._offset = start - first * BLOCK
        self._generators = [self._generator(block) for block in range(first, last + 1)]

    def normal(self, item_shape: tuple[int, ...]) -> Tensor:
        """Draw N(0, 1), shape [count, *item_shape]."""
        return self._cut(
            [
                torch.randn(BLOCK, *item_shape, generator=g, device=self.device, dtype=self.dtype)
                for g in self._generators
            ]
        )

    def uniform(self, item_shape: tuple[int, ...]) -> Tensor:
        """Draw U[0, 1), shape [count, *item_shape]."""
        return self._cut(
            [
                torch.rand(BLOCK, *item_shape, generator=g, device=self.device, dtype=self.dtype)
                for g in self._generators
            ]
        )

    def rademacher(self, item_shape: tuple[int, ...]) -> Tensor:
        """Draw -1 or +1, each with probability 1/2, shape [count, *item_shape]."""
        size = (BLOCK, *item_shape)
        bits = [
            torch.randint(0, 2, size, generator=g, device=self.device) for g in self._generators
        ]
        return 2 * self._cut(bits).to(self.dtype) - 1

    def __repr__(self) -> str:
        """Name the stream and the items."""
        stop = self.start + self.count
        return f"Noise(seed={self.seed}, items=[{self.start}, {stop}), device='{self.device}')"

    def _generator(self, block: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(derive_seed(self.seed, block))

    def _cut(self, blocks: list[Tensor]) -> Tensor:
        return torch.cat(blocks)[self._offset : self._offset + self.count]


def item_size(item_shape: tuple[int, ...]) -> int:
    """D, the number of dimensions of one item."""
    return math.prod(item_shape)
