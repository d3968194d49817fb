r"""Variance of a value by the seeds of training, unlearning and sampling, from crossed runs.

Each of a training, b unlearning and c sampling seeds is run with each other one. With T, U and
their interaction TU for the models, S for what a sampling seed does to all models alike, and e
for the rest, which the items make,

.. math:: x_{tus} = \mu + T_t + U_u + (TU)_{tu} + S_s + e_{tus}

with independent random effects. The mean squares of the analysis of variance have the expectations

.. math::
    E\,MS_T &= \sigma_e^2 + c\,\sigma_{TU}^2 + bc\,\sigma_T^2, \\
    E\,MS_U &= \sigma_e^2 + c\,\sigma_{TU}^2 + ac\,\sigma_U^2, \\
    E\,MS_{TU} &= \sigma_e^2 + c\,\sigma_{TU}^2, \\
    E\,MS_S &= \sigma_e^2 + ab\,\sigma_S^2, \quad E\,MS_e = \sigma_e^2,

solved for the variances (method of moments). An estimate may be negative: the variance is then
too small to be seen, and counts as 0. What has one seed is not estimated, and adds nothing.

Source: Searle, Casella, McCulloch (1992), Variance Components, sections 4.3 to 4.6.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msgm_bench.api.result import Result
from msgm_bench.boards.board import Quantity
from msgm_bench.boards.collect import tidy
from msgm_bench.boards.comparison import identity, labels, shared_run
from msgm_bench.boards.protocols import check_same
from msgm_bench.boards.separation import item_variance
from msgm_bench.errors import UsageError

ROUNDING = 1e-12  # of the largest mean square: what float64 leaves of a zero
Cell = tuple[int, int, int]
FACTORS = ("train", "unlearn", "sample")
"""Names of the seeds in a result, in the order of the array's dimensions."""


@dataclass(frozen=True)
class Component:
    """A part of the variance.

    Attributes:
        name: What varies.
        df: Degrees of freedom behind the estimate.
        estimate: The variance as the moments have it, which may be negative.
    """

    name: str
    df: int
    estimate: float

    @property
    def variance(self) -> float:
        """The estimate, 0 where it is negative."""
        return max(0.0, self.estimate)


@dataclass(frozen=True)
class Decomposition:
    """The variance of a value of one method.

    Attributes:
        method: Its name, with the options that differ where it was run with several.
        unit: Unit of the value.
        mean: Mean over all runs.
        levels: Number of seeds of each kind, as in ``FACTORS``.
        components: The parts that the seeds allow, without those of one seed.
        items: Variance by the items of a result, from its interval; NaN where it has none.
    """

    method: str
    unit: str
    mean: float
    levels: Mapping[str, int]
    components: tuple[Component, ...]
    items: float

    @property
    def total(self) -> float:
        """Variance of a run whose seeds are all new."""
        return math.fsum(component.variance for component in self.components)


def decompose(x: NDArray[np.float64]) -> tuple[Component, ...]:
    """The parts of the variance of ``x[t, u, s]``; none where nothing varies.

    Args:
        x: One value a training, unlearning and sampling seed, shape ``[a, b, c]``.
    """
    a, b, c = x.shape
    mean, models, samplings = x.mean(), x.mean(2, keepdims=True), x.mean((0, 1), keepdims=True)
    trainings, unlearnings = x.mean((1, 2), keepdims=True), x.mean((0, 2), keepdims=True)
    effects = {
        "training": (trainings - mean, a - 1),
        "unlearning": (unlearnings - mean, b - 1),
        "training x unlearning": (models - trainings - unlearnings + mean, (a - 1) * (b - 1)),
        "sampling": (samplings - mean, c - 1),
        "items": (x - models - samplings + mean, (a * b - 1) * (c - 1)),
    }
    squares = {
        name: float((np.broadcast_to(effect, x.shape) ** 2).sum()) / df
        for name, (effect, df) in effects.items()
        if df
    }
    rest = squares.get("items", 0.0)
    joint = squares.get("training x unlearning", rest)
    terms = {
        "training": (joint, b * c),
        "unlearning": (joint, a * c),
        "training x unlearning": (rest, c),
        "sampling": (rest, a * b),
        "items": (0.0, 1),
    }
    rounding = ROUNDING * max(squares.values(), default=0.0)
    differences = {name: square - terms[name][0] for name, square in squares.items()}
    return tuple(
        Component(
            name,
            effects[name][1],
            difference / terms[name][1] if abs(difference) > rounding else 0.0,
        )
        for name, difference in differences.items()
    )


def decompositions(results: Sequence[Result], key: Quantity) -> list[Decomposition]:
    """One for each method and its options, in the order of the results.

    Args:
        results: Runs with crossed seeds; repeats of the same result count once.
        key: What is decomposed.

    Raises:
        UsageError: Results are of several tasks, a value or a run is missing, or nothing varies.
        ProtocolMixError: They were measured in different ways.
    """
    unique = list({identity(result): result for result in results}.values())
    if len({shared_run(result.spec) for result in unique}) > 1:
        raise UsageError(
            "the results are of several tasks",
            "one dataset, forget set, backbone and preset",
            "name the runs of one of them",
        )
    check_same(unique, [key])
    groups: dict[str, list[Result]] = {}
    for result, label in zip(unique, labels(unique), strict=True):
        groups.setdefault(label, []).append(result)
    return [_decomposition(label, members, key) for label, members in groups.items()]


def _decomposition(label: str, results: Sequence[Result], key: Quantity) -> Decomposition:
    values = _values(label, results, key)
    levels = [sorted({cell[axis] for cell in values}) for axis in range(len(FACTORS))]
    trainings, unlearnings, samplings = levels
    cells = list(itertools.product(trainings, unlearnings, samplings))
    _check_crossed(label, values, cells)
    if len(cells) == 1:
        raise UsageError(
            f"{label} has one run: nothing varies",
            "several seeds of training, unlearning or sampling",
            "repeat the run with other --train-seed, --unlearn-seed and --sample-seed",
        )
    shape = [len(level) for level in levels]
    x = np.array([values[cell] for cell in cells], dtype=np.float64).reshape(shape)
    frame = tidy(results, [key], [label] * len(results))
    return Decomposition(
        label,
        str(frame["unit"].iloc[0]),
        float(x.mean()),
        dict(zip(FACTORS, shape, strict=True)),
        decompose(x),
        item_variance(frame, label, key),
    )


def _values(label: str, results: Sequence[Result], key: Quantity) -> dict[Cell, float]:
    """The value of each combination of seeds.

    Raises:
        UsageError: A run has none, or two runs of the same seeds differ.
    """
    values: dict[Cell, float] = {}
    for result in results:
        seeds = {name: result.spec.seeds.get(name, result.spec.seed) for name in FACTORS}
        cell, row = (seeds["train"], seeds["unlearn"], seeds["sample"]), key.row(result)
        if row is None or row.value is None:
            why = (row and row.reason) or result.reason or "not measured"
            raise UsageError(f"{label}, {_seeds(cell)}, has no {key}: {why}", "a value of each run")
        if cell in values:
            raise UsageError(
                f"two different results of {label}, {_seeds(cell)}",
                "one result for the same options and seeds",
                "leave one of the two out",
            )
        values[cell] = row.value
    return values


def _check_crossed(label: str, values: Mapping[Cell, float], cells: Sequence[Cell]) -> None:
    """Make sure that each combination of seeds was run.

    Raises:
        UsageError: One was not.
    """
    missing = [cell for cell in cells if cell not in values]
    if missing:
        train, unlearn, sample = missing[0]
        raise UsageError(
            f"{label} lacks {len(missing)} of {len(cells)} runs, such as {_seeds(missing[0])}",
            "each training seed with each unlearning and each sampling seed",
            f"add it: --train-seed {train} --unlearn-seed {unlearn} --sample-seed {sample}",
        )


def _seeds(cell: Cell) -> str:
    return "seeds " + ", ".join(f"{name} {n}" for name, n in zip(FACTORS, cell, strict=True))
