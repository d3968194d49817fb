"""Rows of two classes that are the sums of the printed rows of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgm_paper.findings.finding import Finding, Number
from msgm_paper.findings.places import values_at
from msgm_paper.tables import PublishedValue

NAME = "sums"
STEP = 10  # counts of 10,000 samples in 0.1 %, the last printed digit


@dataclass(frozen=True)
class JointRow:
    """A published row of several classes with the rows of each.

    Attributes:
        joint: The row of all of them.
        singles: The rows of each.
    """

    joint: PublishedValue
    singles: tuple[PublishedValue, ...]

    @property
    def is_sum(self) -> bool:
        """Whether it equals the sum of the printed rows to the printed digit."""
        return round(sum(entry.value for entry in self.singles), 1) == self.joint.value

    @property
    def numbers(self) -> tuple[object, ...]:
        """What makes it another row than a copy in another table."""
        singles = tuple(entry.value for entry in self.singles)
        return (self.joint.dataset, self.joint.backbone, singles, self.joint.value)


def find() -> Finding:
    """How many joint rows are sums, and how likely that is if each was counted."""
    rows = [*joint_rows()]
    sums, different = sum(row.is_sum for row in rows), {row.numbers for row in rows}
    chance = exact_share() ** len(different)
    return Finding(
        NAME,
        "tables 2, 6 and 7, rows `3 and 7` and `automobile and dog`",
        "UR of both forgotten classes together, in a row of its own.",
        "Sums of the printed rows of one class against the row of both; and the share of rows that "
        "would agree to the printed digit if all three were counted over the same 10,000 samples "
        "and rounded, over all pairs of last digits.",
        (
            Number("joint rows", len(rows), digits=0),
            Number("of them sums to the last digit", sums, digits=0),
            Number("of them no copies of another table", len(different), digits=0),
            Number("agreement expected of rounded counts", 100 * exact_share(), "%", digits=1),
            Number("chance that all of them agree", 100 * chance, "%", digits=2),
        ),
        f"{sums} of {len(rows)} are sums of rounded numbers, where {100 * exact_share():.0f} % "
        "would be by counting: they were added up, and measured nothing. Whoever ranks or averages "
        "over three rows counts two twice.",
    )


def joint_rows() -> Iterator[JointRow]:
    """All published unlearning ratios of several classes."""
    for joint in values_at(metric="ur"):
        if "," in joint.forget:
            where = ("table", "dataset", "backbone", "regime", "method", "forget", "split")
            fields = {name: getattr(joint, name) for name in where}
            singles = (
                values_at(metric=f"ur:{label}", **fields)[0] for label in joint.forget.split(",")
            )
            yield JointRow(joint, tuple(singles))


def exact_share() -> float:
    """Share of pairs of counts whose rounded sum is the sum of the rounded ones.

    Halves are rounded up; the last digits of the two counts are equally likely and independent.
    """
    digits = [(a, b) for a in range(STEP) for b in range(STEP)]
    agreeing = sum(_rounded(a) + _rounded(b) == _rounded(a + b) for a, b in digits)
    return agreeing / len(digits)


def _rounded(count: int) -> int:
    return (count + STEP // 2) // STEP
