"""What a cache key contains: the parts that the stages' ``inputs`` are made of.

Options, seeds, the bytes of the data, the code of the plugins and of the core's packages that a
stage runs, torch, device type, precision and number of threads; never the executor, the host or
a path. Each stage's own ``inputs`` add what it alone depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgm_bench.api import Embedder, Metric, Plugin, Task
from msgm_bench.cache.fingerprint import plugin_source, source_of
from msgm_bench.experiment.loaded_data import LoadedData
from msgm_bench.registry import kind_of, registry
from msgm_bench.training import Runtime


def common_inputs(loaded: LoadedData, runtime: Runtime, *packages: str) -> dict[str, Any]:
    """What every stage depends on: the data, where it runs, and the core's ``packages``."""
    return {
        "data": loaded.fingerprint,
        "runtime": runtime.determinants(),
        "core": source_of(*(f"msgm_bench.{package}" for package in packages)),
    }


def plugin_identity(plugin: Plugin) -> dict[str, Any]:
    """Name, options and code of a plugin."""
    return {
        "name": plugin.name,
        "options": plugin.options.model_dump(mode="json"),
        "source": plugin_source(type(plugin)),
    }


def task_identity(task: Task) -> dict[str, Any]:
    """Identity of a task and of the plugins that it draws with."""
    used = [plugin_identity(plugin) for plugin in _plugins(task.uses())]
    return plugin_identity(task) | {"uses": used}


def metric_identity(metric: Metric) -> dict[str, Any]:
    """Identity of a metric, of the plugins that it uses, and of their weights."""
    used = []
    for plugin in _plugins(metric.uses()):
        weights = plugin.checksum() if isinstance(plugin, Embedder) else ""
        used.append(plugin_identity(plugin) | {"weights": weights})
    return plugin_identity(metric) | {"uses": used}


def _plugins(uses: Mapping[str, tuple[str, Mapping[str, Any]]]) -> list[Plugin]:
    """The plugins that another one uses, made with their options."""
    return [registry().create(kind_of(role), *choice) for role, choice in sorted(uses.items())]
