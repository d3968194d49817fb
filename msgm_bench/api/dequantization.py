"""Codecs: maps between data and model space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Codec(Protocol):
    """The map between data and model space."""

    @property
    def bits_offset(self) -> float | None:
        """Bits per dimension to add to the model-space NLL for the NLL of the data.

        None where model space has no density of the data, as latents do not.
        """

    @property
    def unit(self) -> str:
        """Unit of an NLL with ``bits_offset`` added."""

    @property
    def dequantised(self) -> bool:
        """Whether ``encode`` takes uniform noise ``u``."""

    @property
    def encodes_once(self) -> bool:
        """Whether ``encode`` is so costly that training items are encoded once, before it."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval of model space in which data lie; None if it is unbounded."""

    def encode(self, x: Tensor, u: Tensor | None = None) -> Tensor:
        """Data to model space; ``u`` in [0, 1), of the shape of ``x``, dequantises."""

    def decode(self, z: Tensor) -> Tensor:
        """Model space to [0, 1] images, or to points."""


@dataclass(frozen=True)
class IdentityCodec:
    """x -> x, for points in R^D.

    Attributes:
        offset: Convention of the dataset, in bits/dim, added to the NLL.
    """

    offset: float = 0.0
    dequantised: bool = False
    encodes_once: bool = False
    bounds: None = None

    @property
    def bits_offset(self) -> float:
        """``offset``."""
        return self.offset

    @property
    def unit(self) -> str:
        """``bits/dim``, with the convention named."""
        return f"bits/dim+{self.offset:g}" if self.offset else "bits/dim"

    def encode(self, x: Tensor, u: Tensor | None = None) -> Tensor:
        """``x``."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """``z``."""
        return z


@dataclass(frozen=True)
class UniformDequantization:
    """x = low + (high - low) (k + u) / L, u ~ U[0, 1): grey levels k in 0 .. L-1 to [low, high).

    A bin is (high - low)/L wide, so the NLL in units of grey levels is the NLL in model space
    + log2(L / (high - low)) bits/dim: for L = 256, score_sde's +8 on [0, 1] and +7 on [-1, 1].

    Attributes:
        n_levels: L.
        low: Lower end of model space.
        high: Upper end of model space.

    Source: docs/mathematics.md, 4; Theis et al. 2016, section 3.1.
    """

    n_levels: int
    low: float = 0.0
    high: float = 1.0
    unit: str = "bits/dim"
    dequantised: bool = True
    encodes_once: bool = False

    @property
    def bits_offset(self) -> float:
        """log2(L / (high - low))."""
        return math.log2(self.n_levels / (self.high - self.low))

    @property
    def bounds(self) -> tuple[float, float]:
        """``(low, high)``."""
        return self.low, self.high

    def encode(self, x: Tensor, u: Tensor | None = None) -> Tensor:
        """Grey levels to model space; without ``u`` the centre of the bin, u = 1/2."""
        k = x.float() + (0.5 if u is None else u)
        return self.low + (self.high - self.low) * k / self.n_levels

    def decode(self, z: Tensor) -> Tensor:
        """Model space to [0, 1], clamped."""
        return ((z - self.low) / (self.high - self.low)).clamp(0.0, 1.0)


def half_range(codec: Codec) -> float:
    """(high - low) / 2 of ``codec.bounds``; 1 if it has none."""
    low, high = codec.bounds or (-1.0, 1.0)
    return (high - low) / 2
