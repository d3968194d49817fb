"""Distance of a model from the best trade-off of NLLs that any density can reach.

For every density q and every lambda in [0, 1/r], r = sup p_f/p_g,
E_g[-log q] - lambda E_f[-log q] = (1 - lambda) E_m[-log q] >= (1 - lambda) H(m_lambda), with
m_lambda = (p_g - lambda p_f) / (1 - lambda) a density. So NLL_g is at least
sup_lambda lambda NLL_f + (1 - lambda) H(m_lambda) (docs/mathematics.md, 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msgm_bench import (
    Artifact,
    Density,
    EvalContext,
    Evidence,
    Interval,
    Metric,
    MetricProtocol,
    Model,
    ModelContext,
    Row,
    Task,
    bits_per_dim,
    hookimpl,
    mean_interval,
)
from msgm_builtin.tasks.held_out_items import artifact_sizes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Frontier:
    """Lines NLL_g = lambda NLL_f + (1 - lambda) H(m_lambda), in nats.

    Attributes:
        lambdas: Slopes ``[L]`` from 0 to 1/r.
        entropies: H(m_lambda) ``[L]``.
    """

    lambdas: Floats
    entropies: Floats

    @classmethod
    def of(
        cls, density: Density, retain: Sequence[int], forget: Sequence[int], half_width: float
    ) -> Frontier:
        """The frontier by quadrature over the square [-half_width, half_width]^2."""
        axis = torch.linspace(-half_width, half_width, 801, dtype=torch.float64)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
        p_g = density.log_prob(grid, retain).exp().numpy()
        p_f = density.log_prob(grid, forget).exp().numpy()
        area = float(axis[1] - axis[0]) ** 2  # of a grid point
        ratio = float(np.max(p_f / np.maximum(p_g, np.finfo(np.float64).tiny)))
        lambdas = np.linspace(0.0, 1.0 / ratio, 41)
        entropies = [_entropy((p_g - x * p_f) / (1 - x), area) for x in lambdas]
        return cls(lambdas, np.array(entropies))

    def lowest_retain(self, nll_forget: float) -> tuple[float, float]:
        """(lowest possible NLL_g, slope lambda there) for a given NLL_f, nats."""
        lines = self.lambdas * nll_forget + (1 - self.lambdas) * self.entropies
        best = int(np.argmax(lines))
        return float(lines[best]), float(self.lambdas[best])


def _entropy(m: Floats, area: float) -> float:
    """-integral m log m in nats, of densities ``m`` on grid points of this area."""
    positive = m > 0
    return float(-(m[positive] * np.log(m[positive])).sum() * area)


class FrontierGap(Metric):
    """Distance of the retain NLL above the least that its forget NLL allows, in bits/dim.

    0 is the best possible trade-off, whatever the method; the interval combines the standard
    errors of both means, gap = NLL_g - lambda NLL_f - (1 - lambda) H(m_lambda).
    """

    name = "frontier_gap"
    citation = "derivation in docs/mathematics.md, 5"
    tasks = ("likelihood",)
    protocols = ("frontier/",)

    def skip(self, context: EvalContext, model: Model) -> str | None:
        """Skip data without an exact density in the plane, and class-conditional models."""
        if context.data.density is None or model.shape != (2,):
            return "the dataset has no exact density in the plane"
        if model.conditioning is not None:
            return "the frontier is one of unconditional densities"
        return None

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The settings of the likelihood, and the data."""
        settings = task.protocol(context) | {"data": context.data.protocol}
        return MetricProtocol(name="frontier/quadrature", version=1, settings=settings)

    def measure(self, context: ModelContext, task: Task, artifact: Artifact) -> list[Row]:
        """One row, null where an integration failed."""
        return self.recompute(self.gather(context, task, artifact))

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """NLL of each item in nats, D, and the lines of the frontier."""
        nats = artifact["nats"].double().cpu()
        count, _ = artifact_sizes(context, task)
        density = context.data.density
        assert density is not None
        retain_classes = [c for c in range(len(context.data.classes)) if c not in context.targets]
        half_width = float(context.data.test.x.abs().max()) + 4.0
        frontier = Frontier.of(density, retain_classes, context.targets, half_width)
        return {
            "retain_nats": nats[:count],
            "forget_nats": nats[count:],
            "dim": torch.tensor(context.model.dim),
            "lambdas": torch.from_numpy(frontier.lambdas),
            "entropies": torch.from_numpy(frontier.entropies),
        }

    @classmethod
    def recompute(cls, evidence: Evidence) -> list[Row]:
        """The row of ``measure`` from the NLL of each item."""
        parts = [evidence.numbers(f"{split}_nats").numpy() for split in ("retain", "forget")]
        nats = np.concatenate(parts)
        fields: dict[str, Any] = evidence.common | {
            "metric": cls.name,
            "split": "retain",
            "unit": "bits/dim",
            "n": len(nats),
            "direction": "down",
        }
        failed = int(np.isinf(nats).sum())
        if failed:
            return [Row(value=None, reason=f"{failed} integrations failed", **fields)]
        frontier = Frontier(
            evidence.numbers("lambdas").numpy(), evidence.numbers("entropies").numpy()
        )
        retain, forget = (mean_interval(part) for part in parts)
        lowest, slope = frontier.lowest_retain(forget.value)
        spread = retain.high - retain.value
        if slope > 0:
            spread = math.hypot(spread, slope * (forget.high - forget.value))
        gap = retain.value - lowest
        bits = bits_per_dim(torch.tensor(1.0, dtype=torch.float64), evidence.count("dim"))
        return [Row.of(Interval(gap, gap - spread, gap + spread), scale=float(bits), **fields)]


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """The frontier."""
    return [FrontierGap]
