"""Stages behind a result: keys, cost, and their folders in the cache of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgm_bench.api import Result
from msgm_bench.cache.cache import default_root
from msgm_bench.cache.entry import read_record
from msgm_bench.explanation.step import facts, mapping, number, short_hash

_KEY = re.compile("[0-9a-f]{64}")  # nothing else becomes a part of a path


@dataclass(frozen=True)
class StageFacts:
    """A stage of a run, as its result and this machine's cache know it.

    Attributes:
        name: Its name in the result.
        key: SHA-256 of its code, options, data, seed and the keys of the stages before it.
        seconds: Seconds that it took, or None.
        passes: Passes through networks of a training, or None.
        folder: Its folder in the cache, or None where it is not there.
        inputs: What determined it, from the cache; empty where it is not there.
    """

    name: str
    key: str
    seconds: float | None = None
    passes: float | None = None
    folder: Path | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cost(self) -> str:
        """Passes and seconds, as far as they are known."""
        parts = [] if self.passes is None else [f"{self.passes:,.0f} passes"]
        parts += [] if self.seconds is None else [f"{self.seconds:,.1f} s"]
        return " in ".join(parts)

    @property
    def place(self) -> str:
        """The short key, and where the stage lies."""
        where = "not in this cache" if self.folder is None else str(self.folder)
        return f"{short_hash(self.key)}, {where}"


def stages_of(result: Result, root: Path | None = None) -> dict[str, StageFacts]:
    """The stages of a result by name; ``root`` is the cache, this user's by default.

    Stages whose key is none are left out. Nothing is made, leased or verified in the cache.
    """
    provenance = result.provenance
    seconds, passes = (mapping(provenance.get(name)) for name in ("seconds", "passes"))
    stages = {}
    for name, key in provenance.get("stages", {}).items():
        if _KEY.fullmatch(key):
            folder = (root or default_root()) / "done" / key
            record = read_record(folder) if folder.is_dir() else None
            stages[name] = StageFacts(
                name,
                key,
                number(seconds.get(name)),
                number(passes.get(name)),
                None if record is None else folder,
                {} if record is None else record.inputs,
            )
    return stages


def stage_facts(stages: Mapping[str, StageFacts], *names: str) -> tuple[tuple[str, str], ...]:
    """Cost and place of each of the stages ``names`` that there are; several with their names."""
    known = [stages[name] for name in names if name in stages]
    if len(known) == 1:
        return facts(took=known[0].cost, stage=known[0].place)
    return tuple(
        ("stage", f"{stage.name}: {', '.join(filter(None, (stage.cost, stage.place)))}")
        for stage in known
    )
