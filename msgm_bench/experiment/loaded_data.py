"""A dataset in memory, read once a process."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from msgm_bench.api import Data, Dataset, DataStats
from msgm_bench.cache.fingerprint import data_fingerprint
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.registry import registry


@dataclass(frozen=True)
class Loaded:
    """A dataset in memory."""

    data: Data
    info: DataStats
    fingerprint: str


def data_key(spec: RunSpec) -> tuple[str, str, tuple[Path, ...]]:
    """What ``load`` knows the data by: name, options as JSON, places of their files."""
    dataset = cast(Dataset, registry().create("datasets", spec.dataset, spec.dataset_params))
    options = json.dumps(spec.dataset_params, sort_keys=True)
    return spec.dataset, options, tuple(dataset.places())


@functools.lru_cache(maxsize=4)
def load(dataset: str, options: str, places: tuple[Path, ...]) -> Loaded:
    """A dataset, once a process and once for each of the ``places`` that hold its files."""
    data = registry().create("datasets", dataset, json.loads(options)).load()
    return Loaded(data, DataStats.of(data), data_fingerprint(data))
