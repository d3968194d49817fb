"""Samplers: how items are drawn from a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from msgm_bench.api.model import Model
from msgm_bench.api.plugin import OptionsT, Plugin
from msgm_bench.diffusion import Noise, Samples


class Sampler(Plugin[OptionsT], ABC):
    """Draws items from a model.

    Attributes:
        one_step: Whether it draws from one-step generators, whose networks predict no noise.
    """

    one_step: ClassVar[bool] = False

    @abstractmethod
    def sample(
        self, model: Model, noise: Noise, start: tuple[Tensor, float] | None = None
    ) -> Samples:
        """``noise.count`` items in model space, with the network evaluations of each.

        Args:
            model: The model.
            noise: The source of all randomness.
            start: (x_t ``[N, *shape]``, t) to start from; None: the prior at T.
        """

    def check(self, model: Model, t: float = 1.0) -> None:
        """Refuse a model or options before anything is trained.

        Args:
            model: The model; its weights are on ``meta``.
            t: The time at which sampling starts.

        Raises:
            UsageError: The sampler cannot run on this process, or with these options.
        """
