"""What a judge sees in items, as tensors that a submission ships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msgm_bench import Evidence, MsgmBenchError, Prediction, members_of


@dataclass(frozen=True)
class Judged:
    """The classes of N items, on one device.

    Attributes:
        classes: ``int64 [N]``, or attributes ``bool [N, A]``.
        recognised: ``bool [N]`` whether the item looks like data.
    """

    classes: Tensor
    recognised: Tensor

    @classmethod
    def of(cls, evidence: Evidence, name: str) -> Judged:
        """The items ``name``, as ``judged_tensors`` wrote them.

        Raises:
            MsgmBenchError: They are missing, of the wrong kind, or not of one number.
        """
        judged = cls(evidence.labels(name), evidence.mask(f"{name}_recognised"))
        check_lengths(evidence, judged.classes, judged.recognised)
        return judged

    def __len__(self) -> int:
        """N."""
        return len(self.classes)

    def hits(self, mask: Tensor, targets: Sequence[int]) -> int:
        """Number of items in ``mask [N]`` that are of one of ``targets``."""
        return int((members_of(self.classes, targets) & mask).sum())

    def shows_any(self, targets: Sequence[int]) -> Tensor:
        """Mask ``[N]`` of the items that are recognised and of one of ``targets``."""
        return members_of(self.classes, targets) & self.recognised

    def shows(self, y: Tensor) -> Tensor:
        """Mask ``[N]`` of the items that are recognised and of the class, or attribute, ``y [N]``.

        Raises:
            MsgmBenchError: There is no such attribute.
        """
        if self.classes.ndim == 1:
            return (self.classes == y) & self.recognised
        last = self.classes.shape[1] - 1
        if not 0 <= int(y.min()) <= int(y.max()) <= last:
            raise MsgmBenchError(f"concepts {int(y.min())} to {int(y.max())}", f"0 to {last}")
        return self.classes.gather(1, y[:, None]).squeeze(1) & self.recognised

    def shows_forgotten(self, evidence: Evidence, y: str) -> Tensor:
        """Mask ``[N]`` of the items that show a class of D_f, or the class that they are of.

        Args:
            evidence: With the tensor ``y`` of drawn classes, or with the targets of D_f.
            y: Name of that tensor.

        Raises:
            MsgmBenchError: Neither is there, or the classes are not as many as the items.
        """
        if y not in evidence:
            return self.shows_any([*named_targets(evidence).values()])
        drawn = evidence.integers(y)
        check_lengths(evidence, self.classes, drawn)
        return self.shows(drawn)


def judged_tensors(name: str, prediction: Prediction) -> dict[str, Tensor]:
    """Evidence of what the judge predicts for the items ``name``."""
    return {name: prediction.classes, f"{name}_recognised": prediction.recognised}


def target_tensor(targets: Sequence[int]) -> Tensor:
    """Evidence of the indices of D_f's classes."""
    return torch.tensor(list(targets), dtype=torch.int64)


def named_targets(evidence: Evidence) -> dict[str, int]:
    """Index of each class of D_f, by its name.

    Raises:
        MsgmBenchError: They are not as many as the classes to forget.
    """
    targets = evidence.integers("targets").tolist()
    if len(targets) != len(evidence.forget) or min(targets, default=0) < 0:
        raise MsgmBenchError(
            f"the evidence has {len(targets)} targets", f"{len(evidence.forget)} indices"
        )
    return dict(zip(evidence.forget, targets, strict=True))


def check_lengths(evidence: Evidence, *tensors: Tensor) -> None:
    """Refuse tensors of one set of items that are not of one number.

    Raises:
        MsgmBenchError: They are not, or there is no item.
    """
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) != 1 or 0 in lengths:
        raise MsgmBenchError(
            f"the evidence of {evidence.protocol} is of {sorted(lengths)} items",
            "one number, not 0",
        )
