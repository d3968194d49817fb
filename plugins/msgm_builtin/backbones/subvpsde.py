"""The sub-variance preserving SDE."""

from __future__ import annotations

from collections.abc import Sequence

from msgm_bench import Backbone, DataStats, Process, SubVariancePreserving, hookimpl
from msgm_builtin.backbones.vpsde import VPSDE


class SubVPSDE(VPSDE):
    """Sub-variance preserving SDE: VP's drift with a smaller diffusion, sigma = 1 - a^2."""

    name = "subvpsde"

    def process(self, stats: DataStats) -> Process:
        """beta linear in t."""
        return SubVariancePreserving(self.options.beta_min, self.options.beta_max)


@hookimpl
def register_backbones() -> Sequence[type[Backbone]]:
    """The sub-variance preserving SDE."""
    return [SubVPSDE]
