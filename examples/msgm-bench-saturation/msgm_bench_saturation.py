"""How many pixels of the samples are black or white."""

from collections.abc import Sequence

from msgm_bench import (
    Artifact,
    EvalContext,
    Metric,
    MetricColumn,
    MetricProtocol,
    Model,
    ModelContext,
    Options,
    Row,
    Task,
    hookimpl,
    mean_interval,
)
from pydantic import Field


class SaturationOptions(Options):
    """What counts as saturated."""

    margin: float = Field(1 / 255, ge=0, lt=0.5, description="distance from 0 and from 1")


class Saturation(Metric[SaturationOptions]):
    """Share of saturated pixels, within ``margin`` of 0 or 1: mean over samples, in per cent."""

    name = "saturation"
    citation = "the paper and its equation"
    tasks = ("generation",)
    columns = (MetricColumn(metric=name, label="saturated", direction="down"),)

    def skip(self, context: EvalContext, model: Model) -> str | None:
        """Points have no pixels."""
        return "points have no pixels" if context.data.levels is None else None

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """All that a value depends on."""
        settings = {"margin": self.options.margin, "task": task.protocol(context)}
        return MetricProtocol(name="saturation/pixels", settings=settings)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """One row: 100 mean_i #{pixels x_i <= margin or x_i >= 1 - margin} / D."""
        x, margin = context.model.codec.decode(artifact["x"]), self.options.margin
        saturated = ((x <= margin) | (x >= 1 - margin)).double().flatten(1).mean(dim=1)
        row = Row.of(
            mean_interval(saturated.cpu().numpy()),
            scale=100,
            task=task.name,
            metric=self.name,
            split="samples",
            protocol=self.protocol(context, task).id,
            unit="%",
            n=len(x),
            direction="down",
        )
        return [row]


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """One metric."""
    return [Saturation]
