"""Noised batches that depend on (seed, split, step, draw) alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from msgm_bench.api import Batch, Examples, Model, Prompts, Split
from msgm_bench.diffusion import derive_seed
from msgm_bench.errors import PluginError


class NoisedBatches:
    """x_t = a(t) x0 + sigma(t) eps with stratified times u_i = (i + u) / B, u ~ U[0, 1).

    Each u_i is uniform, and the loss has less variance than with independent times. Items come
    in epochs: a permutation of the split from (seed, split, epoch), so that all items are drawn
    equally often.

    Args:
        splits: Items of each split, on the training device.
        model: The model, for its codec and process.
        seed: Seed of this training stage.
        batch_size: B, over all devices.
        flip: Whether each image is mirrored left to right with probability 1/2.
        label_dropout_prob: Probability that a conditional model sees the null condition.
        encoded: Whether the items are in model space already.

    Source: Kingma et al. 2021, appendix I.1 (times).
    """

    def __init__(
        self,
        splits: Mapping[Split, Examples],
        model: Model,
        seed: int,
        batch_size: int,
        flip: bool = False,
        label_dropout_prob: float = 0.1,
        encoded: bool = False,
    ) -> None:
        self.splits, self.codec, self.process = splits, model.codec, model.process
        self.conditioning, self.label_dropout_prob = model.conditioning, label_dropout_prob
        self.encoded = encoded
        self.seed, self.batch_size, self.flip = seed, batch_size, flip
        self._orders: dict[Split, tuple[int, Tensor]] = {}

    def batch(
        self, split: Split, step: int, draw: int | str = 0, like: Batch | None = None
    ) -> Batch:
        """Batch number ``step`` of ``split``.

        Args:
            split: The split of its items.
            step: Number of the batch.
            draw: Name of a stream of noise for the same items.
            like: Another batch, whose t and eps are used; mirroring, dequantisation and dropped
                labels come from the batch's own stream.
        """
        chosen = self.splits[split][self._positions(split, step)]
        return self.noised(chosen, "batch", split, step, draw, like=like)

    def noised(
        self,
        items: Examples,
        *stream: int | str,
        encoded: bool = False,
        like: Batch | None = None,
    ) -> Batch:
        """``items`` with noise of ``stream``; ``encoded`` ones are in model space, as all may be.

        Raises:
            PluginError: ``like`` has another number of items.
        """
        if like is not None and len(like.t) != len(items):
            raise PluginError(f"like= with {len(like.t)} items", f"a batch of {len(items)} items")
        x, device, size = items.x, items.x.device, len(items)
        generator = torch.Generator(device)
        generator.manual_seed(derive_seed(self.seed, *stream))
        if self.flip:
            mirrored = torch.rand(size, generator=generator, device=device) < 0.5
            x = torch.where(mirrored.reshape(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
        x0 = x if encoded or self.encoded else self._encode(x, generator)
        offset = torch.rand((), generator=generator, device=device)
        t = self.process.sample_times((torch.arange(size, device=device) + offset) / size)
        eps = torch.randn(x0.shape, generator=generator, device=device)
        if like is not None:
            t, eps = like.t, like.eps
        y, condition = self._labels(items), None
        if self.conditioning is not None:
            dropped = torch.rand(size, generator=generator, device=device) < self.label_dropout_prob
            condition = y.masked_fill(dropped, self.conditioning.count)
        return Batch(x0, t, eps, self.process.perturb(x0, t, eps), y, condition)

    def _labels(self, items: Examples) -> Tensor:
        """The captions of ``items`` for models that take prompts, else their labels."""
        if isinstance(self.conditioning, Prompts) and items.c is not None:
            return items.c
        return items.y

    def _encode(self, x: Tensor, generator: torch.Generator) -> Tensor:
        u = None
        if self.codec.dequantised:
            u = torch.rand(x.shape, generator=generator, device=x.device)
        return self.codec.encode(x, u)

    def _positions(self, split: Split, step: int) -> Tensor:
        """Indices of items ``step B .. (step + 1) B - 1`` of the sequence of epochs."""
        count = len(self.splits[split])
        position, end, parts = step * self.batch_size, (step + 1) * self.batch_size, []
        while position < end:
            epoch, offset = divmod(position, count)
            size = min(count - offset, end - position)
            parts.append(self._order(split, epoch)[offset : offset + size])
            position += size
        return torch.cat(parts)

    def _order(self, split: Split, epoch: int) -> Tensor:
        """The permutation of an epoch; the last one of each split is cached."""
        cached = self._orders.get(split)
        if cached is None or cached[0] != epoch:
            device = self.splits[split].x.device
            generator = torch.Generator(device)
            generator.manual_seed(derive_seed(self.seed, "epoch", split, epoch))
            count = len(self.splits[split])
            cached = (epoch, torch.randperm(count, generator=generator, device=device))
            self._orders[split] = cached
        return cached[1]
