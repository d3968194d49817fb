"""Models and the backbones that build them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from msgm_bench.api.codec import Codec, GreyLevels, Points
from msgm_bench.api.data import Data
from msgm_bench.api.plugin import Plugin
from msgm_bench.diffusion import Process


@dataclass(frozen=True)
class DataInfo:
    """What a backbone may know of the data; stored with the model.

    Attributes:
        shape: Shape of one item.
        levels: Grey levels, or None for points.
        nll_offset: The dataset's convention for points, bits/dim.
        std: Standard deviation over items and dimensions, in units of [0, 1] for images.
        max_distance: Largest Euclidean distance between two training items, same units.
    """

    shape: tuple[int, ...]
    levels: int | None
    nll_offset: float
    std: float
    max_distance: float

    @classmethod
    def of(cls, data: Data, limit: int = 2_000) -> Self:
        """Measure ``data`` on about ``limit`` evenly spaced training items."""
        few = data.train.x[:: max(1, len(data.train) // limit)].flatten(1).double()
        if data.levels is not None:
            few = (few + 0.5) / data.levels
        return cls(
            data.shape,
            data.levels,
            data.nll_offset,
            float((few - few.mean(0)).square().mean().sqrt()),
            float(torch.cdist(few, few).max()),
        )

    def codec(self, low: float, high: float) -> Codec:
        """Grey levels on [low, high) for images, the identity for points."""
        if self.levels is None:
            return Points(self.nll_offset)
        return GreyLevels(self.levels, low, high)

    def record(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self) | {"shape": list(self.shape)}


class Model(nn.Module):
    """A network with the process that it denoises and the space that it lives in.

    ``network(x_t, t, condition)`` returns eps_hat ``[N, *shape]`` for times ``t [N]``.
    """

    def __init__(
        self, network: nn.Module, process: Process, codec: Codec, shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.network, self.process, self.codec, self.shape = network, process, codec, shape

    def eps(self, x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """eps_hat(x_t, t[, condition]), ``[N, *shape]``."""
        result: Tensor = self.network(x_t, t, condition)
        return result

    def score(self, x_t: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        """s = -eps_hat / sigma(t)."""
        _, sigma = self.process.coefficients(t)
        return -self.eps(x_t, t, condition) / sigma.reshape(-1, *[1] * len(self.shape))

    @property
    def dim(self) -> int:
        """Number of dimensions D of an item."""
        return int(torch.Size(self.shape).numel())

    @property
    def forward_eps(self) -> Callable[[Tensor, Tensor], Tensor]:
        """``eps`` without a condition, as samplers and solvers take it."""
        return self.eps


class Backbone(Plugin, ABC):
    """A diffusion process and the network that learns it.

    Attributes:
        data_range: Interval to which images are scaled.
        samplers: Names of the samplers that suit the process, the default first.
    """

    data_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    samplers: ClassVar[tuple[str, ...]] = ("heun", "em", "pc")

    @abstractmethod
    def process(self, info: DataInfo) -> Process:
        """The forward process for this data."""

    @abstractmethod
    def network(self, info: DataInfo, process: Process) -> nn.Module:
        """A fresh network, initialised from torch's current random state."""

    def build(self, info: DataInfo) -> Model:
        """A fresh model for this data."""
        process = self.process(info)
        codec = info.codec(*self.data_range)
        return Model(self.network(info, process), process, codec, info.shape)
