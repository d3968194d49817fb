"""A third-party plugin with hostile texts, copied and never imported from here."""

from __future__ import annotations

import torch
from pydantic import Field

from msgm_bench import (
    Data,
    Dataset,
    Examples,
    Judge,
    LossMethod,
    Metric,
    MetricProtocol,
    Options,
    Prediction,
    Row,
    hookimpl,
)

CLASSES = (
    "[bold]dog[/bold] N/A [/unknown]",
    "../../../escape",
    "cat\x1b[31m\x1b]0;title\x07\u202ered",
    "two\nlines\r\tand | a `pipe` <script>",
    "$\\frac{1$ and \\alpha_{",
    "\x00nul",
    "emoji \U0001f408 " + "x" * 300,
)
RED = "\x1b[31mred\x1b[0m \x9b1m [bold]x[/] \u202e \x07"


class HarmOptions(Options):
    """A text."""

    label: str = Field(RED, description=f"a text {RED}")


class Harm(Dataset[HarmOptions]):
    __doc__ = f"Clouds in the plane {RED}."
    name = "harm"
    citation = f"Nobody {RED}"
    default_preset = "quick"
    presets = {
        "quick": {
            "training": {"steps": 4, "batch_size": 16},
            "backbone": {"network": "mlp", "width": 16, "depth": 1},
            "judge": {"name": "mean"},
            "tasks": {"likelihood": {"divergence": "exact"}},
        }
    }

    def load(self) -> Data:
        """Draw."""
        count = len(CLASSES)
        y = torch.arange(20 * count) % count
        x = torch.randn(len(y), 2, generator=torch.Generator().manual_seed(0)) + 4.0 * y[:, None]
        half = len(y) // 2
        return Data(
            Examples(x[:half], y[:half]),
            Examples(x[half:], y[half:]),
            classes=CLASSES,
            protocol="harm@1",
        )


class Fails(LossMethod):
    __doc__ = f"Raises an error {RED}."
    name = "fails"
    regimes = ("retrain",)
    needs = frozenset({"retain"})

    def loss(self, model, batches, step):
        """No loss."""
        raise ValueError(f"no loss {RED}\nand a second line")


class Mean(Judge):
    __doc__ = f"The class with the nearest mean {RED}."
    name = "mean"

    def fit(self, data, seed, device):
        """Means of the classes along the first axis."""
        self.report = {"accuracy": 1.0}

    def predict(self, x):
        """The nearest of 0, 4, 8, ..."""
        classes = (x[:, 0] / 4).round().long().clamp(0, len(CLASSES) - 1)
        return Prediction(classes, torch.ones(len(x), dtype=torch.bool))


class Odd(Metric):
    __doc__ = f"Values that are not finite {RED}."
    name = "odd"
    tasks = ("generation",)

    def protocol(self, context, task):
        """The sampler."""
        return MetricProtocol(name="odd", settings=task.protocol(context) | {"label": RED})

    def measure(self, context, task, artifact):
        """Three rows without a value, and one without an interval."""
        common = {"task": task.name, "unit": f"1 {RED}", "n": len(artifact["x"])}
        common |= {"protocol": self.protocol(context, task).id, "metric": "odd"}
        values = {
            "nan": {"value": float("nan")},
            "inf": {"value": float("inf"), "reason": f"it exploded {RED}"},
            "half": {"value": -float("inf"), "low": -float("inf"), "high": 1.0},
            "open": {"value": 1.0, "low": -float("inf"), "high": float("inf")},
        }
        return [Row(split=split, **common, **row) for split, row in values.items()]


@hookimpl
def register_datasets():
    """Harm."""
    return [Harm]


@hookimpl
def register_methods():
    """Fails."""
    return [Fails]


@hookimpl
def register_metrics():
    """Odd."""
    return [Odd]


@hookimpl
def register_judges():
    """Mean."""
    return [Mean]
