"""Training images of learned judges: shifted and mirrored ones, and spoiled ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import Data


def pixels(data: Data, x: Tensor) -> Tensor:
    """Grey levels to [0, 1], the centre of each bin."""
    assert data.levels is not None
    return (x.float() + 0.5) / data.levels


def augment(x: Tensor, max_shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Images shifted by up to ``max_shift`` pixels over black; with ``flip`` half are mirrored."""
    n, device = len(x), x.device
    if max_shift:
        offsets = torch.randint(
            -max_shift, max_shift + 1, (2, n), generator=generator, device=device
        )
        height, width = x.shape[2:]
        padded = F.pad(x, [max_shift] * 4)
        rows = torch.arange(height, device=device) + max_shift + offsets[0, :, None]
        columns = torch.arange(width, device=device) + max_shift + offsets[1, :, None]
        items = torch.arange(n, device=device)[:, None, None]
        x = padded.movedim(1, 3)[items, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
    if flip:
        mirrored = torch.rand(n, 1, 1, 1, generator=generator, device=device) < 0.5
        x = torch.where(mirrored, x.flip(3), x)
    return x


def spoil(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images that show nothing: under strong noise, with shuffled pixels, or uniform noise."""
    n, device = len(x), x.device
    strength = 0.35 + 0.65 * torch.rand(n, 1, 1, 1, generator=generator, device=device)
    noisy = (x + strength * torch.randn(x.shape, generator=generator, device=device)).clamp(0, 1)
    order = torch.rand(n, x[0, 0].numel(), generator=generator, device=device).argsort(dim=1)
    flat = x.flatten(2)
    shuffled = flat.gather(2, order[:, None].expand_as(flat)).reshape(x.shape)
    uniform = torch.rand(x.shape, generator=generator, device=device)
    kind = torch.randint(4, (n, 1, 1, 1), generator=generator, device=device)
    return torch.where(kind <= 1, noisy, torch.where(kind == 2, shuffled, uniform))
