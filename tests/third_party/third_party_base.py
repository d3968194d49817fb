"""A third-party metric that compares samples with those of the base model."""

from __future__ import annotations

from msgm_bench import Metric, MetricProtocol, Row, hookimpl


class Shift(Metric):
    """Largest distance between a sample and the base's of the same noise."""

    name = "shift"
    tasks = ("generation",)
    needs_base = True

    def protocol(self, context, task):
        """The task's options."""
        return MetricProtocol(name="shift", settings=task.protocol(context))

    def measure(self, context, task, artifact):
        """One row."""
        gap = (artifact["x"] - context.base_artifact["x"]).abs().max()
        return [
            Row(
                task=task.name,
                metric="shift",
                split="samples",
                protocol=self.protocol(context, task).id,
                value=float(gap),
                unit="1",
                n=len(artifact["x"]),
                direction="down",
            )
        ]


@hookimpl
def register_metrics() -> list[type[Metric]]:
    """Shift."""
    return [Shift]
