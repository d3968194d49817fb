"""Latents of a variational autoencoder as model space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PIXELS = 2**20
"""Pixels that go through the autoencoder at once: memory does not grow with the batch."""


class Latents(nn.Module):
    """z = scale (mean of q(z | x) - shift): grey levels to latents, and latents to images.

    The posterior's mean is deterministic. The autoencoder is frozen, no part of a model's network,
    and no invertible map: ``bits_offset`` is None.

    Args:
        vae: diffusers' ``AutoencoderKL``, on images in [-1, 1].
        scale: Its scaling factor.
        shift: Its shift factor.
        levels: L, the number of grey levels.

    Source: Rombach et al. 2022, arXiv:2112.10752, section 3.1 and appendix G.
    """

    bits_offset: None = None
    unit: str = "bits/dim"
    dequantised: bool = False
    bounds: None = None
    encodes_once: bool = True

    def __init__(self, vae: Any, scale: float, shift: float = 0.0, levels: int = 256) -> None:
        super().__init__()
        self.vae = vae.eval().requires_grad_(False)
        self.scale, self.shift, self.levels = scale, shift, levels
        self.factor: int = 2 ** (len(vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def encode(self, x: Tensor, u: Tensor | None = None) -> Tensor:
        """Grey levels ``[N, 3, H, W]`` to latents ``float32 [N, C, h, w]``."""
        images = 2 * x.float() / (self.levels - 1) - 1
        parts = [self._mean(part) for part in images.split(block(images.shape[2:].numel()))]
        return self.scale * (torch.cat(parts).float() - self.shift)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Latents ``[N, C, h, w]`` to images in [0, 1], ``float32 [N, 3, H, W]``."""
        latents, pixels = z / self.scale + self.shift, z.shape[2:].numel() * self.factor**2
        parts = [self._image(part) for part in latents.split(block(pixels))]
        return (torch.cat(parts).float() / 2 + 0.5).clamp(0.0, 1.0)

    def train(self, mode: bool = True) -> Latents:
        """Stay in evaluation mode: the autoencoder is never trained."""
        return super().train(False)

    def _mean(self, images: Tensor) -> Tensor:
        mean: Tensor = self.vae.encode(images).latent_dist.mode()
        return mean

    def _image(self, latents: Tensor) -> Tensor:
        image: Tensor = self.vae.decode(latents).sample
        return image


def block(pixels: int) -> int:
    """Number of images of so many pixels that go through the autoencoder at once."""
    return max(1, PIXELS // pixels)
