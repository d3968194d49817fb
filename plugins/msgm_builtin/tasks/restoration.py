"""What inpainting and reconstruction share: held-out images in, images of the same things out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench import Artifact, CountOptions, Examples, MetricProtocol, Model, ModelContext, Task
from msgm_builtin.tasks.held_out_items import drawn_sizes, items, sizes
from msgm_builtin.tasks.tracks import unconditional_only

SHOWN = 10  # images of each split in a picture


CountOptionsT = TypeVar("CountOptionsT", bound=CountOptions, default=CountOptions, covariant=True)


class Restoration(Task[CountOptionsT]):
    """A task whose artifact holds ``x``, one restored image for each held-out one."""

    def skip(self, model: Model) -> str | None:
        """It is for images, and for the unconditional track."""
        if len(model.shape) != 3:
            return f"{self.name} is for images"
        return unconditional_only(self.name, model)

    @property
    def label(self) -> str:
        """What distinguishes its protocol from those of other tasks."""
        return self.name

    @property
    def version(self) -> int:
        """Of its protocol under this label; a metric's own version counts from there."""
        return 1

    def total(self, context: ModelContext) -> int:
        """Images of both splits, retain first."""
        return sum(sizes(context, self.options.count))

    def originals(self, context: ModelContext, start: int, count: int) -> Tensor:
        """Images ``start .. start+count-1`` in model space, each grey level at its bin's centre."""
        chosen = items(context, self.options.count)[start : start + count]
        return context.model.codec.encode(chosen.x)

    def given(self, context: ModelContext, original: Tensor) -> Tensor | None:
        """What the model is shown of [0, 1] images, for pictures."""
        return None

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """Rows of a picture: original, what is given of it, restored; of both splits."""
        rows = {}
        for pair in pairs(context, self, artifact):
            original, restored = pair.original[:SHOWN], pair.restored[:SHOWN]
            rows[f"{pair.split}: original"] = original
            given = self.given(context, original)
            if given is not None:
                rows[f"{pair.split}: given"] = given
            rows[f"{pair.split}: restored"] = restored
        return rows


@dataclass(frozen=True)
class Pair:
    """Restored and original [0, 1] images of one split, on the subject's device.

    Attributes:
        split: ``retain`` or ``forget``.
        restored: ``[N, C, H, W]``; NaN where the sampler failed.
        original: ``[N, C, H, W]``.
        y: True labels.
    """

    split: str
    restored: Tensor
    original: Tensor
    y: Tensor


def pairs(context: ModelContext, task: Task, artifact: Artifact) -> Iterator[Pair]:
    """The artifact's images beside the originals, of D_g and of D_f."""
    x = context.model.codec.decode(artifact["x"].to(context.device))
    retain, forget = drawn_sizes(context, task)
    parts = (("retain", context.retain, 0, retain), ("forget", context.forget, retain, forget))
    for split, examples, start, count in parts:
        few: Examples = examples[:count]
        yield Pair(split, x[start : start + count], context.visible(few), few.y)


def retained(context: ModelContext, task: Task, artifact: Artifact) -> Pair:
    """The pair of D_g."""
    return next(pairs(context, task, artifact))


def protocol_of(
    name: str, context: ModelContext, task: Task, version: int = 1, **settings: object
) -> MetricProtocol:
    """A metric's protocol on one of its tasks; the task is part of the name of a restoration's."""
    full = name
    if isinstance(task, Restoration):
        full, version = f"{name}/{task.label}", version + task.version - 1
    common = {task.name: task.protocol(context), "data": context.data.protocol}
    return MetricProtocol(name=full, version=version, settings=common | settings)
