"""Options of trials: quasi-random points of a search space.

Trial 0 has the options of the preset. Trial n > 0 has the point n - 1 of a scrambled Halton
sequence of as many dimensions as the space has options, whose seed is the method's name; each
coordinate is a share of the choices of its option (Halton 1960; Owen 2017, arXiv:1706.02808).
More trials are the same ones and further ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scipy.stats import qmc

from msgm_bench.api import Choices
from msgm_bench.diffusion import derive_seed


def draw_options(
    method: str, space: Mapping[str, Choices], defaults: Mapping[str, Any], trials: int
) -> list[dict[str, Any]]:
    """The options of each trial of a method.

    Args:
        method: Its name.
        space: Its search space, with an option at least.
        defaults: The preset's value of each option of the space.
        trials: Number of trials, 1 or more.
    """
    drawn = [{key: defaults[key] for key in space}]
    if trials > 1:
        sequence = qmc.Halton(len(space), rng=derive_seed("tuning", method))
        for point in sequence.random(trials - 1).tolist():
            shares = zip(space.items(), point, strict=True)
            drawn.append({key: choices.at(u, defaults[key]) for (key, choices), u in shares})
    return drawn
