"""PSNR and SSIM of restored images against the originals."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    EvalContext,
    Evidence,
    MeasuredRows,
    Metric,
    MetricProtocol,
    Model,
    ModelContext,
    Row,
    Task,
    hookimpl,
    mean_interval,
)
from msgm_builtin.metrics.row_checks import out_of_range
from msgm_builtin.tasks.restoration import retain_pairs, task_protocol

WINDOW = 7


def psnr(restored: Tensor, original: Tensor) -> Tensor:
    """10 log10(1 / MSE) of each [0, 1] image ``[N, C, H, W]``, in dB; infinite where equal."""
    from torchmetrics.functional.image import peak_signal_noise_ratio  # takes seconds

    return peak_signal_noise_ratio(
        restored.double(), original.double(), data_range=1.0, reduction="none", dim=(1, 2, 3)
    )


def ssim(restored: Tensor, original: Tensor) -> Tensor:
    """Mean SSIM of each [0, 1] image ``[N, C, H, W]``, at most 1; H and W at least 7.

    Uniform 7x7 windows that lie within the image, K1 = 0.01, K2 = 0.03, range 1, variances with
    divisor 49, channels averaged: ``skimage.metrics.structural_similarity`` with
    ``use_sample_covariance=False``.

    Source: Wang et al. 2004, IEEE Transactions on Image Processing 13:600, equation 13.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, similarity = structural_similarity_index_measure(
        restored.double(),
        original.double(),
        gaussian_kernel=False,
        kernel_size=WINDOW,
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    edge = WINDOW // 2  # there torchmetrics mirrors the image
    return similarity[..., edge:-edge, edge:-edge].mean(dim=(1, 2, 3))


class ImageQuality(Metric):
    """The mean over retain images of a quality of each restored image beside its original."""

    tasks = ("inpainting", "reconstruction")
    latest_version = 2
    kind: ClassVar[str]
    unit: ClassVar[str]

    @abstractmethod
    def values(self, restored: Tensor, original: Tensor) -> Tensor:
        """The quality of each image, ``[N]``."""

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The kind and the task; pixels are not rounded to eight bits."""
        return task_protocol(self.kind, context, task, rounding="none")

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """One row, null where an image has no finite value."""
        return self.recompute(self.gather(context, task, artifact))

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """The value of each image; infinite where it has none."""
        pair = retain_pairs(context, task, artifact)
        return {"values": self.values(pair.restored, pair.original).nan_to_num(math.inf, math.inf)}

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The row of ``measure`` from the value of each image."""
        values = evidence.numbers("values")
        fields: dict[str, Any] = evidence.common | {
            "metric": cls.name,
            "split": "retain",
            "unit": cls.unit,
            "n": len(values),
            "direction": "up",
        }
        broken = int((~torch.isfinite(values)).sum())
        if broken:
            reason = f"{broken} of {len(values)} images have no finite value"
            return [Row(value=None, reason=reason, **fields)]
        return [Row.of(mean_interval(values.numpy()), **fields)]


class PSNR(ImageQuality):
    """Peak signal-to-noise ratio of retain images, mean over images, in dB."""

    name = "psnr"
    kind, unit = "psnr/mean", "dB"
    protocols = ("psnr/",)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Negative values: images are clamped to [0, 1], so that MSE is at most 1."""
        return out_of_range(rows, 0.0, math.inf)

    def values(self, restored: Tensor, original: Tensor) -> Tensor:
        """PSNR of each image in dB, ``[N]``."""
        return psnr(restored, original)


class SSIM(ImageQuality):
    """Structural similarity of retain images in uniform windows of 7x7 pixels, mean over images."""

    name = "ssim"
    citation = "Wang et al. 2004, IEEE Transactions on Image Processing 13:600"
    kind, unit = f"ssim/uniform-{WINDOW}", "1"
    protocols = ("ssim/",)

    @classmethod
    def violations(cls, rows: MeasuredRows) -> Iterator[str]:
        """Values outside [-1, 1]."""
        return out_of_range(rows, -1.0, 1.0)

    def skip(self, context: EvalContext, model: Model) -> str | None:
        """Skip images smaller than a window."""
        is_small = min(model.shape[1:]) < WINDOW
        return f"images smaller than {WINDOW} pixels have no SSIM window" if is_small else None

    def values(self, restored: Tensor, original: Tensor) -> Tensor:
        """SSIM of each image, ``[N]``."""
        return ssim(restored, original)


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """PSNR and SSIM."""
    return [PSNR, SSIM]
