"""From data to the space in which the diffusion runs, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Codec(Protocol):
    """The map between data and model space."""

    @property
    def bits_offset(self) -> float:
        """Bits per dimension to add to the model-space NLL for the NLL of the data."""

    @property
    def unit(self) -> str:
        """Unit of an NLL with ``bits_offset`` added."""

    @property
    def dequantised(self) -> bool:
        """Whether ``encode`` needs uniform noise."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval of model space that data can fill; None where it has no end."""

    def encode(self, x: Tensor, u: Tensor | None = None) -> Tensor:
        """Data to model space; ``u`` in [0, 1), of the shape of ``x``, dequantises."""

    def decode(self, z: Tensor) -> Tensor:
        """Model space to what metrics see: [0, 1] for images, points as they are."""


@dataclass(frozen=True)
class IdentityCodec:
    """Identity, for points in R^D; ``offset`` is a convention of the dataset, in bits/dim."""

    offset: float = 0.0
    dequantised: bool = False
    bounds: None = None

    @property
    def bits_offset(self) -> float:
        """The dataset's own convention."""
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
    """Uniform dequantisation of grey levels k in 0 .. L-1 to [low, high).

    x = low + (high - low) (k + u) / L with u ~ U[0, 1). A bin is (high - low)/L wide, so
    the NLL in units of grey levels is the model-space NLL + log2(L / (high - low)).
    For L = 256 that is score_sde's +8 on [0, 1] and +7 on [-1, 1] (docs/mathematics.md, 4).
    """

    n_levels: int
    low: float = 0.0
    high: float = 1.0
    unit: str = "bits/dim"
    dequantised: bool = True

    @property
    def bits_offset(self) -> float:
        """log2(1 / bin width)."""
        return math.log2(self.n_levels / (self.high - self.low))

    @property
    def bounds(self) -> tuple[float, float]:
        """``(low, high)``."""
        return self.low, self.high

    def encode(self, x: Tensor, u: Tensor | None = None) -> Tensor:
        """Grey levels to model space; the centre of the bin without ``u``."""
        k = x.float() + (0.5 if u is None else u)
        return self.low + (self.high - self.low) * k / self.n_levels

    def decode(self, z: Tensor) -> Tensor:
        """Model space to [0, 1], clamped."""
        return ((z - self.low) / (self.high - self.low)).clamp(0.0, 1.0)


def half_range(codec: Codec) -> float:
    """Half the width of ``codec.bounds``; 1 where there are none."""
    low, high = codec.bounds or (-1.0, 1.0)
    return (high - low) / 2
