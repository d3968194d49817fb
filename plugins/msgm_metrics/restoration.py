"""What inpainting and reconstruction share: held-out images in, images of the same things out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench import Artifact, CountOptions, Examples, MetricProtocol, Model, Subject, Task
from msgm_metrics.held_out import drawn_sizes, items, sizes
from msgm_metrics.tracks import unconditional_only

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

    def total(self, subject: Subject) -> int:
        """Images of both splits, retain first."""
        return sum(sizes(subject, self.options.count))

    def originals(self, subject: Subject, start: int, count: int) -> Tensor:
        """Images ``start .. start+count-1`` in model space, each grey level at its bin's centre."""
        chosen = items(subject, self.options.count)[start : start + count]
        return subject.model.codec.encode(chosen.x)

    def given(self, subject: Subject, original: Tensor) -> Tensor | None:
        """What the model is shown of [0, 1] images, for pictures."""
        return None

    def preview(self, subject: Subject, artifact: Artifact) -> dict[str, Tensor]:
        """Rows of a picture: original, what is given of it, restored; of both splits."""
        rows = {}
        for pair in pairs(subject, self, artifact):
            original, restored = pair.original[:SHOWN], pair.restored[:SHOWN]
            rows[f"{pair.split}: original"] = original
            given = self.given(subject, original)
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


def pairs(subject: Subject, task: Task, artifact: Artifact) -> Iterator[Pair]:
    """The artifact's images beside the originals, of D_g and of D_f."""
    x = subject.model.codec.decode(artifact["x"].to(subject.device))
    retain, forget = drawn_sizes(subject, task)
    parts = (("retain", subject.retain, 0, retain), ("forget", subject.forget, retain, forget))
    for split, examples, start, count in parts:
        few: Examples = examples[:count]
        yield Pair(split, x[start : start + count], subject.visible(few), few.y)


def retained(subject: Subject, task: Task, artifact: Artifact) -> Pair:
    """The pair of D_g."""
    return next(pairs(subject, task, artifact))


def protocol_of(
    name: str, subject: Subject, task: Task, version: int = 1, **settings: object
) -> MetricProtocol:
    """A metric's protocol on one of its tasks; the task is part of the name of a restoration's."""
    full = name
    if isinstance(task, Restoration):
        full, version = f"{name}/{task.label}", version + task.version - 1
    common = {task.name: task.protocol(subject), "data": subject.data.protocol}
    return MetricProtocol(name=full, version=version, settings=common | settings)
