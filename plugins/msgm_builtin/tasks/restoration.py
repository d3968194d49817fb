"""Restoration of held-out images, the common part of inpainting and reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench import Artifact, CountOptions, MetricProtocol, Model, ModelContext, Task
from msgm_builtin.tasks.held_out_items import artifact_sizes, items, split_sizes
from msgm_builtin.tasks.skip_reasons import skip_other_tracks

PREVIEW_IMAGES = 10  # of each split in a picture


CountOptionsT = TypeVar("CountOptionsT", bound=CountOptions, default=CountOptions, covariant=True)


class Restoration(Task[CountOptionsT]):
    """A task whose artifact holds ``x``, one restored image for each held-out one."""

    def skip(self, model: Model) -> str | None:
        """Skip points, and models of other tracks."""
        if len(model.shape) != 3:
            return f"{self.name} is for images"
        return skip_other_tracks(self.name, model, "unconditional")

    @property
    def label(self) -> str:
        """The task's part of the names of protocols."""
        return self.name

    @property
    def version(self) -> int:
        """Version of the protocol under this label; a metric's own version counts from there."""
        return 1

    def total(self, context: ModelContext) -> int:
        """Number of images of both splits."""
        return sum(split_sizes(context, self.options.count))

    def originals(self, context: ModelContext, start: int, count: int) -> Tensor:
        """Images ``start .. start+count-1`` in model space, each grey level at its bin's centre."""
        batch = items(context, self.options.count)[start : start + count]
        return context.model.codec.encode(batch.x)

    def model_input(self, context: ModelContext, original: Tensor) -> Tensor | None:
        """The part of [0, 1] images that the model sees, for previews; None where it is all."""
        return None

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """Rows of original, input and restored images, of both splits."""
        rows = {}
        for pair in image_pairs(context, self, artifact):
            original = pair.original[:PREVIEW_IMAGES]
            rows[f"{pair.split}: original"] = original
            model_input = self.model_input(context, original)
            if model_input is not None:
                rows[f"{pair.split}: input"] = model_input
            rows[f"{pair.split}: restored"] = pair.restored[:PREVIEW_IMAGES]
        return rows


@dataclass(frozen=True)
class ImagePairs:
    """Restored and original [0, 1] images of one split, on the model's device.

    Attributes:
        split: ``retain`` or ``forget``.
        restored: ``[N, C, H, W]``; NaN where the sampler failed.
        original: ``[N, C, H, W]``.
        y: True labels ``[N]``, or attributes ``[N, A]``.
    """

    split: str
    restored: Tensor
    original: Tensor
    y: Tensor


def image_pairs(context: ModelContext, task: Task, artifact: Artifact) -> Iterator[ImagePairs]:
    """The artifact's images and their originals, first of D_g, then of D_f."""
    x = context.model.codec.decode(artifact["x"].to(context.device))
    retain, forget = artifact_sizes(context, task)
    parts = (("retain", context.retain, 0, retain), ("forget", context.forget, retain, forget))
    for split, examples, start, count in parts:
        originals = examples[:count]
        restored = x[start : start + count]
        yield ImagePairs(split, restored, context.visible(originals), originals.y)


def retain_pairs(context: ModelContext, task: Task, artifact: Artifact) -> ImagePairs:
    """Restored and original images of D_g."""
    return next(image_pairs(context, task, artifact))


def task_protocol(
    name: str, context: ModelContext, task: Task, version: int = 1, **settings: object
) -> MetricProtocol:
    """A metric's protocol on one of its tasks; that of a restoration has the task in its name."""
    full = name
    if isinstance(task, Restoration):
        full, version = f"{name}/{task.label}", version + task.version - 1
    common = {task.name: task.protocol(context), "data": context.data.protocol}
    return MetricProtocol(name=full, version=version, settings=common | settings)
