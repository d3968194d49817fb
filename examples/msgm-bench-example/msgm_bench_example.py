"""Gradient ascent on the forgotten data, bounded by truncation."""

from pydantic import Field

from msgm_bench import LossMethod, Options, dsm_loss, hookimpl


class NegativeOptions(Options):
    """Weight and ceiling."""

    weight: float = Field(0.1, gt=0, description="weight of the ascent")
    ceiling: float = Field(2.0, gt=0, description="loss on D_f at which it stops")


class Negative(LossMethod[NegativeOptions]):
    """Descends the loss on D_g and climbs the loss on D_f while that is below a ceiling."""

    name = "negative"
    citation = "a sentence on where it comes from"
    regimes = ("finetune", "retrain")
    needs = frozenset({"retain", "forget"})

    def loss(self, model, batches, step):
        """L_g - weight min(L_f, ceiling)."""
        ascent = dsm_loss(model, batches.forget).clamp(max=self.options.ceiling)
        return dsm_loss(model, batches.retain) - self.options.weight * ascent


@hookimpl
def register_methods():
    """One method."""
    return [Negative]
