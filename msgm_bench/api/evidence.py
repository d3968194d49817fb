"""Evidence: tensors from which the rows of a metric follow without model, judge or data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from msgm_bench.errors import StorageError


@dataclass(frozen=True)
class Evidence:
    """What ``Metric.recompute`` sees: the judged classes, the NLL of each item, features, moments.

    The tensors may be a stranger's; the methods below read them, and refuse what is missing or of
    another kind than it should be.

    Attributes:
        task: Name of the task that was measured.
        protocol: ``name@version`` of the rows.
        settings: Settings of the protocol.
        forget: Names of the classes of D_f, in the order of ``context.targets``.
        tensors: The tensors, by name, on the CPU.
    """

    task: str
    protocol: str
    settings: Mapping[str, Any]
    forget: tuple[str, ...]
    tensors: Mapping[str, Tensor]

    @property
    def common(self) -> dict[str, Any]:
        """Fields that all its rows share: ``task`` and ``protocol``."""
        return {"task": self.task, "protocol": self.protocol}

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self.tensors

    def numbers(self, name: str, ndim: int = 1) -> Tensor:
        """A tensor of floating-point numbers as float64; infinite ones may be among them.

        Raises:
            StorageError: It is missing, has another number of dimensions, holds no
                floating-point numbers or a NaN.
        """
        x = self._tensor(name, ndim)
        if not x.is_floating_point() or bool(x.isnan().any()):
            raise self._refusal(name, "numbers")
        return x.double()

    def integers(self, name: str, ndim: int = 1) -> Tensor:
        """A tensor of integers as int64.

        Raises:
            StorageError: It is missing, has another number of dimensions or no integers.
        """
        x = self._tensor(name, ndim)
        if x.is_floating_point() or x.dtype == torch.bool:
            raise self._refusal(name, "integers")
        return x.long()

    def mask(self, name: str, ndim: int = 1) -> Tensor:
        """A tensor of truth values.

        Raises:
            StorageError: It is missing, has another number of dimensions or other values.
        """
        x = self._tensor(name, ndim)
        if x.dtype != torch.bool:
            raise self._refusal(name, "truth values")
        return x

    def labels(self, name: str) -> Tensor:
        """Classes ``int64 [N]`` or attributes ``bool [N, A]``.

        Raises:
            StorageError: It is missing or neither.
        """
        return self.mask(name, 2) if self._tensor(name).ndim == 2 else self.integers(name)

    def count(self, name: str) -> int:
        """One integer.

        Raises:
            StorageError: It is missing, or no single integer.
        """
        return int(self.integers(name, 0))

    def _tensor(self, name: str, ndim: int | None = None) -> Tensor:
        if name not in self.tensors:
            raise self._refusal(name, "a tensor")
        x = self.tensors[name]
        if ndim is not None and x.ndim != ndim:
            raise self._refusal(name, f"{ndim} dimensions")
        return x

    def _refusal(self, name: str, wanted: str) -> StorageError:
        held = "is missing"
        if name in self.tensors:
            x = self.tensors[name]
            held = f"is {str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
        return StorageError(f"the evidence {name!r} of {self.protocol} {held}", wanted)
