"""A dataset in memory, read once a process."""

from __future__ import annotations

import functools
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from msgm_bench.api import Data, Dataset, DataStats
from msgm_bench.cache.fingerprint import data_fingerprint
from msgm_bench.errors import StorageError
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.registry import registry

log = logging.getLogger("msgm_bench.data")


@dataclass(frozen=True)
class LoadedData:
    """A dataset in memory.

    Attributes:
        data: The dataset.
        stats: What a backbone may know of it.
        fingerprint: SHA-256 of its content.
    """

    data: Data
    stats: DataStats
    fingerprint: str


def data_key(spec: RunSpec) -> tuple[str, str, tuple[Path, ...]]:
    """Arguments of ``load``: the dataset's name, its options as JSON, places of its files."""
    dataset = cast(Dataset, registry().create("datasets", spec.dataset, spec.dataset_params))
    options = json.dumps(spec.dataset_params, sort_keys=True)
    return spec.dataset, options, tuple(dataset.places())


def missing_files(dataset: Dataset) -> list[str]:
    """Published files of the dataset that are not on this machine."""
    located = dataset.located()
    files = (file.name for source in dataset.sources() for file in source.files)
    return [name for name in files if name not in located]


def require_files(spec: RunSpec) -> None:
    """Refuse data that would have to be downloaded first.

    Raises:
        StorageError: Files of the dataset are not on this machine.
    """
    dataset = cast(Dataset, registry().create("datasets", spec.dataset, spec.dataset_params))
    if missing := missing_files(dataset):
        raise StorageError(
            f"dataset {spec.dataset!r}: a dry run downloads nothing, and these files are not on "
            f"this machine: {', '.join(missing)}",
            "datasets whose files are on this machine",
            f"`msgm-bench data fetch {spec.dataset}`, or --data-dir DIR; `msgm-bench info` "
            "estimates a run without the data",
        )


@functools.lru_cache(maxsize=4)
def load(dataset: str, options: str, places: tuple[Path, ...]) -> LoadedData:
    """A dataset, once a process and once for each of the ``places`` that hold its files."""
    data = registry().create("datasets", dataset, json.loads(options)).load()
    return LoadedData(data, DataStats.of(data), data_fingerprint(data))


@functools.lru_cache(maxsize=4)
def log_remarks(dataset: str, options: str, places: tuple[Path, ...]) -> None:
    """Log the remarks on the files of ``load``, once a process."""
    for remark in load(dataset, options, places).data.remarks:
        log.info("%s: %s", dataset, remark)
