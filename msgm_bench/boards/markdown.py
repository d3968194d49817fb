"""Numbers, notes and untrusted text as markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from msgm_bench.errors import clean
from msgm_bench.evaluation.statistics import seeds_interval
from msgm_bench.storage.markdown import (
    DASH,
    MAX_LETTERS,
    escape_line_start,
    escape_markdown,
    one_line,
)

STAMP = "⚠"
HUGE = 1e6  # beyond it a power of ten says more than decimals
ARROWS = {"down": "↓", "up": "↑"}


@dataclass
class Footnotes:
    """Numbered notes; one text has one number."""

    texts: list[str] = field(default_factory=list)

    def mark(self, *texts: str) -> str:
        """The superscript that refers to ``texts``, or nothing."""
        numbers = []
        for text in texts:
            if text not in self.texts:
                self.texts.append(text)
            numbers.append(self.texts.index(text) + 1)
        return f"<sup>{','.join(map(str, numbers))}</sup>" if numbers else ""


def code(text: object) -> str:
    """A name in code type, inside a table too."""
    line = one_line(text).replace("`", "'").replace("|", "\\|")
    return f"`{line or ' '}`"


def prose(text: object) -> str:
    """Words in which only code between backticks is markdown."""
    parts = one_line(text, limit=20 * MAX_LETTERS).split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner
        parts[-2:] = ["`".join(parts[-2:])]
    spans = [code(part) if i % 2 else _inner(part) for i, part in enumerate(parts)]
    return escape_line_start("".join(spans))


def _inner(part: str) -> str:
    """``markdown_text`` that keeps the spaces at both ends."""
    head, tail = (" " if end.isspace() else "" for end in (part[:1], part[-1:]))
    return f"{head}{escape_markdown(part.strip())}{tail}" if part.strip() else head


def tag_text(text: object) -> str:
    """Words inside an HTML element."""
    return html.escape(one_line(text))


def fenced(lines: Iterable[str], language: str) -> str:
    """A block of code that none of its lines can end; controls are spelled out."""
    body = "\n".join(clean(line).replace("\t", "    ") for line in lines)
    longest = max((len(run) for run in re.findall("`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{body}\n{fence}"


def number(value: float, digits: int) -> str:
    """``value`` with ``digits`` decimals and no negative zero, or as a power of ten if huge."""
    if abs(value) >= HUGE:
        return f"{value:.1e}"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def estimate(chosen: pd.DataFrame, digits: int) -> tuple[str, list[str]]:
    """What the rows of one method and quantity come to, and what must be said of it.

    Several seeds: ``mean ± half-width`` of Student's 95 % interval over seeds. One seed: the
    value with the interval of its own result. A dash where any seed has no value, since a mean
    over the seeds that went well would flatter. A value that any seed's result stamps is marked.
    """
    text, notes = _estimate(chosen, digits)
    stamps = [] if text == DASH else sorted(set(chosen["stamp"]) - {""})
    return (f"{text} {STAMP}" if stamps else text), [*notes, *stamps]


def _estimate(chosen: pd.DataFrame, digits: int) -> tuple[str, list[str]]:
    notes = remarks(chosen)
    values = chosen["value"]
    if chosen.empty:
        return DASH, notes
    if values.isna().any():
        rest = ", ".join(number(value, digits) for value in values.dropna())
        first = chosen.iloc[0]
        others = f"{first['method']}, {first['key']}: the other seeds have {rest}"
        return DASH, [*notes, others] if rest else notes
    if len(chosen) > 1:
        interval = seeds_interval(values.to_numpy())
        return f"{number(interval.value, digits)} ± {number(interval.half_width, digits)}", notes
    row = chosen.iloc[0]
    value = number(float(row["value"]), digits)
    if pd.isna(row["low"]) or pd.isna(row["high"]):
        return value, notes
    low, high = number(float(row["low"]), digits), number(float(row["high"]), digits)
    return f"{value} [{low}, {high}]", notes


def remarks(chosen: pd.DataFrame) -> list[str]:
    """Reasons and remarks of the rows, those of several seeds together.

    What befell a whole result names no quantity, so that it reads the same in each column.
    """
    if not chosen["reason"].astype(bool).any():
        return []
    seeds: dict[tuple[str, str], list[int]] = {}
    for row in chosen[chosen["reason"] != ""].to_dict("records"):
        about = f"{row['method']}, {row['key']}" if row["protocol"] else str(row["method"])
        seeds.setdefault((about, str(row["reason"])), []).append(int(row["seed"]))
    return [
        f"{about}, seed{'s' if len(some) > 1 else ''} {', '.join(map(str, some))}: {reason}"
        for (about, reason), some in seeds.items()
    ]
