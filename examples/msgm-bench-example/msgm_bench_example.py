"""Gradient ascent on the forgotten data, bounded by truncation."""

from pydantic import Field

from msgm_bench import Config, LossMethod, hookimpl, noise_matching


class Negative(LossMethod):
    """Descends the loss on D_g and climbs the loss on D_f while that is below a ceiling."""

    name = "negative"
    citation = "a sentence on where it comes from"
    regimes = ("finetune", "retrain")
    needs = frozenset({"retain", "forget"})

    class Config(Config):
        """Options."""

        weight: float = Field(0.1, gt=0, description="weight of the ascent")
        ceiling: float = Field(2.0, gt=0, description="loss on D_f at which it stops")

    def loss(self, model, retain, forget, step):
        """L_g - weight min(L_f, ceiling)."""
        ascent = noise_matching(model, forget).clamp(max=self.config.ceiling)
        return noise_matching(model, retain) - self.config.weight * ascent


@hookimpl
def register_methods():
    """One method."""
    return [Negative]
