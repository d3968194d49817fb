"""Recovery curves: how often a model shows D_f after so many steps of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from msgm_bench import Artifact, Evidence, Interval, MsgmBenchError, Row, mean_interval
from msgm_builtin.metrics.judged import Judged
from msgm_builtin.tasks.relearning import SOURCES, Source

COLUMNS = ("source", "restart", "items", "steps")
Key = tuple[Source, int, int]
"""Source, items and steps of a unit."""


@dataclass(frozen=True)
class Units:
    """The models that one artifact is drawn from.

    Attributes:
        columns: Source, restart, items and steps of each, ``int64 [U, 4]``.
    """

    columns: Tensor

    @classmethod
    def of(cls, evidence: Evidence, name: str) -> Units:
        """Those of the artifact ``name``, as ``unit_tensor`` wrote them.

        Raises:
            MsgmBenchError: They are none.
        """
        units = cls(evidence.integers(name, 2))
        shape, sources = units.columns.shape, set(units.columns[:, :1].flatten().tolist())
        if shape[1] != len(COLUMNS) or not sources <= set(range(len(SOURCES))):
            raise MsgmBenchError(
                f"the units of {evidence.protocol} have shape {tuple(shape)}",
                f"{', '.join(COLUMNS)} of each, and sources below {len(SOURCES)}",
            )
        return units

    @property
    def keys(self) -> list[Key]:
        """What differs but for the restart, in order."""
        chosen = self.columns[:, [0, 2, 3]].unique(dim=0).tolist()
        return [(SOURCES[source], items, steps) for source, items, steps in chosen]

    def positions(self, source: Source, items: int = 0, steps: int = 0) -> Tensor:
        """Positions of the units of a key, by restart, ``int64 [R]``.

        Raises:
            MsgmBenchError: There is none.
        """
        key = torch.tensor([SOURCES.index(source), items, steps])
        chosen = (self.columns[:, [0, 2, 3]] == key).all(dim=1).nonzero().flatten()
        if not len(chosen):
            raise MsgmBenchError(f"no unit of {source} with {items} items and {steps} steps")
        return chosen[self.columns[chosen, 1].argsort()]

    def curves(self) -> Iterator[tuple[Source, int]]:
        """Source and number of items of each curve; the most items last."""
        for source in ("forget", "retain"):
            yield from ((source, n) for n in sorted({n for s, n, _ in self.keys if s == source}))

    def steps(self, source: Source, items: int) -> list[int]:
        """The steps of a curve, 0 first: there it begins, with the model as it is."""
        return [0, *sorted(steps for s, n, steps in self.keys if (s, n) == (source, items))]

    def most(self, source: Source) -> int:
        """The most items of a source; 0 if it has no curve."""
        return max((n for s, n in self.curves() if s == source), default=0)

    def course(self, source: Source, items: int) -> list[Tensor]:
        """Positions of the units ``[R]`` at each of ``steps``."""
        start, *later = self.steps(source, items)
        trained = [self.positions(source, items, steps) for steps in later]
        return [self.positions("model", 0, start), *trained]


@dataclass(frozen=True)
class Recovery:
    """Which samples of each unit show D_f.

    Attributes:
        units: The units.
        shows: ``bool [U, draws]``.
    """

    units: Units
    shows: Tensor

    @classmethod
    def of(cls, evidence: Evidence, name: str) -> Recovery:
        """That of the artifact ``name``: samples that are recognised, and of D_f or their class.

        Raises:
            MsgmBenchError: The evidence holds no such samples.
        """
        judged, units = Judged.of(evidence, name), Units.of(evidence, f"{name}_units")
        shows = judged.shows_forgotten(evidence, f"{name}_y")
        count = len(units.columns)
        if not count or len(shows) % count:
            raise MsgmBenchError(f"{len(shows)} samples of {count} units", "as many of each")
        return cls(units, shows.reshape(count, -1))

    def samples(self, *key: Any) -> Tensor:
        """Whether each sample of all restarts shows it, ``bool [R draws]``."""
        return self.shows[self.units.positions(*key)].flatten()

    def base(self) -> Tensor:
        """The rate of the base in each restart ``[R]``."""
        return self.unit_rates(self.units.positions("base"))

    def unit_rates(self, positions: Tensor) -> Tensor:
        """The rate of each unit."""
        return self.shows[positions].double().mean(dim=1)

    def areas(self, source: Source, items: int) -> Tensor:
        """The area under the rates in each restart ``[R]``, from 0 steps to the most.

        Where the rate over all restarts is above the base's, the base's counts: their mean is the
        area under min(r, r_base).
        """
        base = self.base()
        rates = [self.unit_rates(positions) for positions in self.units.course(source, items)]
        bounded = [rate if rate.mean() < base.mean() else base for rate in rates]
        return area(torch.stack(bounded), self.units.steps(source, items))

    def mean_rates(self, source: Source, items: int) -> list[float]:
        """The rate over all restarts at each of ``steps``."""
        course = self.units.course(source, items)
        return [float(self.unit_rates(positions).mean()) for positions in course]


def unit_tensor(artifact: Artifact) -> Tensor:
    """Evidence of the units of an artifact, ``int64 [U, 4]``."""
    return torch.stack([artifact[name].long() for name in COLUMNS], dim=1)


def area(rates: Tensor, steps: list[int]) -> Tensor:
    """Mean of ``rates [S, ...]`` over u = log(1 + step), by the trapezoidal rule.

    A = sum_i (r_i + r_(i+1)) / 2 (u_(i+1) - u_i) / u_S with u_0 = 0.

    Args:
        rates: Rates at each number of steps.
        steps: The numbers of steps, 0 first.
    """
    u = torch.tensor(steps, dtype=torch.float64).log1p()
    whole: Tensor = torch.tensordot(u.diff(), (rates[1:] + rates[:-1]) / 2, dims=1)
    return whole / u[-1]


def ratio_interval(a: Tensor, b: Tensor) -> Interval:
    """mean(a) / mean(b) over restarts, with Student's interval of the linearised ratio.

    With theta the ratio, theta + (a_i - theta b_i) / mean(b) has the mean theta, and to first
    order the ratio's spread.

    Args:
        a: ``[R]``.
        b: ``[R]`` with a positive mean.

    Source: Cochran (1977), Sampling Techniques, section 6.4.
    """
    theta = a.mean() / b.mean()
    return mean_interval((theta + (a - theta * b) / b.mean()).numpy())


def steps_row(
    steps: Tensor, rates: Tensor, threshold: float, n: int, fields: Mapping[str, Any]
) -> Row:
    """The first of ``steps [S]`` whose rate ``[S]`` is at least ``threshold``; null if none is."""
    reached = (rates >= threshold).nonzero().flatten()
    if len(reached):
        return Row(value=float(steps[reached[0]]), n=n, **fields)
    reason = f"not within {int(steps[-1])} steps: {float(rates.max()):.0%} at most"
    return Row(value=None, n=n, reason=reason, **fields)
