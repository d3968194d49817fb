"""Gradient ascent on D_f, bounded from above, beside training on D_g."""

from collections.abc import Sequence

from msgm_bench import Batches, LossMethod, Method, Model, Options, dsm_loss, hookimpl
from pydantic import Field
from torch import Tensor


class BoundedAscentOptions(Options):
    """Weight and ceiling of the ascent."""

    weight: float = Field(0.1, gt=0, description="weight of the ascent")
    ceiling: float = Field(2.0, gt=0, description="loss on D_f at which the ascent stops")


class BoundedAscent(LossMethod[BoundedAscentOptions]):
    """Descends the loss on D_g and climbs the loss on D_f while that is below a ceiling."""

    name = "bounded_ascent"
    citation = "the paper and its equation"
    regimes = ("finetune", "retrain")
    needs = frozenset({"retain", "forget"})

    def loss(self, model: Model, batches: Batches, step: int) -> Tensor:
        """L_g - weight min(L_f, ceiling)."""
        ascent = dsm_loss(model, batches.forget).clamp(max=self.options.ceiling)
        return dsm_loss(model, batches.retain) - self.options.weight * ascent


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """One method."""
    return [BoundedAscent]
