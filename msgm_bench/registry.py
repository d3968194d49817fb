"""Finds plugins, remembers where each name comes from, and quarantines what is broken."""

from __future__ import annotations

import fnmatch
import functools
import importlib.metadata
import inspect
import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pluggy

from msgm_bench import api, hookspecs
from msgm_bench.api import Plugin, check_presets
from msgm_bench.errors import PluginError, UnknownNameError, clean, did_you_mean
from msgm_bench.quarantine import quarantined

GROUP = "msgm_bench"
RESTRICT = "MSGM_BENCH_PLUGINS"
BASES: Mapping[str, type[Plugin]] = {
    "datasets": api.Dataset,
    "backbones": api.Backbone,
    "methods": api.Method,
    "tasks": api.Task,
    "metrics": api.Metric,
    "judges": api.Judge,
    "embedders": api.Embedder,
    "samplers": api.Sampler,
    "executors": api.Executor,
    "trackers": api.Tracker,
}
KINDS = tuple(BASES)
MOST_CLASSES = 1_000  # of one hook: a generator may have no end


@dataclass(frozen=True)
class Provenance:
    """Where a name comes from."""

    entry_point: str
    distribution: str
    version: str
    module: str

    def __str__(self) -> str:
        """``distribution version (module)``."""
        return f"{self.distribution} {self.version} ({self.module})"


@dataclass(frozen=True)
class Entry:
    """A registered class."""

    kind: str
    cls: type[Plugin]
    provenance: Provenance


@dataclass(frozen=True)
class Broken:
    """An entry point that could not be used, and why."""

    provenance: Provenance
    reason: str


class Registry:
    """All plugins of this process.

    Args:
        entry_points: What to load; the installed ones by default.
        restrict: Patterns of entry-point names (``methods.*``) to which loading is limited.
    """

    def __init__(
        self,
        entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
        restrict: Iterable[str] = ("*",),
    ) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.broken: list[Broken] = []
        self._provenance: dict[str, Provenance] = {}
        self._entries: dict[str, dict[str, list[Entry]]] = {
            kind: defaultdict(list) for kind in KINDS
        }
        patterns = tuple(restrict)
        for entry_point in installed() if entry_points is None else entry_points:
            if any(fnmatch.fnmatch(entry_point.name, pattern) for pattern in patterns):
                self._load(entry_point)

    def _load(self, entry_point: importlib.metadata.EntryPoint) -> None:
        """Import one entry point; anything that goes wrong in it is recorded, not raised."""
        provenance = provenance_of(entry_point)
        try:
            with quarantined():
                self.register(entry_point.load(), provenance)
        except PluginError as error:
            self.broken.append(Broken(provenance, error.what))

    def register(self, module: ModuleType, provenance: Provenance) -> None:
        """Add one plugin module.

        Raises:
            PluginError: It implements a hook that does not exist, or returns no classes.
        """
        if self.manager.is_registered(module):
            return  # a second entry point of the same module
        try:
            self.manager.register(module, f"{provenance.distribution}/{provenance.entry_point}")
            self._check_hooks(module)
            entries = list(self._collect(module, provenance))
        except BaseException:
            if self.manager.is_registered(module):
                self.manager.unregister(module)
            raise
        for entry in entries:
            self._entries[entry.kind][entry.cls.name].append(entry)
        self._provenance[provenance.entry_point] = provenance

    def _check_hooks(self, module: ModuleType) -> None:
        """Refuse misspelt hooks, which pluggy would never call."""
        try:
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            known = [name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), _SPEC)]
            wrong = [name for name in vars(module) if hasattr(getattr(module, name), _IMPL)]
            wrong = [name for name in wrong if name not in known]
            near = "".join(did_you_mean(name, known) for name in wrong)
            raise PluginError(f"unknown hook {', '.join(wrong)}{near}", ", ".join(known)) from error

    def _collect(self, module: ModuleType, provenance: Provenance) -> Iterator[Entry]:
        for kind in KINDS:
            implementation: Callable[[], Any] | None = getattr(module, f"register_{kind}", None)
            if implementation is None or not hasattr(implementation, _IMPL):
                continue
            names = set[str]()
            for cls in _returned(kind, implementation()):
                _check_class(kind, cls)
                check_presets(cls)
                if cls.name in names:
                    raise PluginError(f"register_{kind} returned two classes named {cls.name!r}")
                names.add(cls.name)
                yield Entry(kind, cls, provenance)

    def names(self, kind: str) -> list[str]:
        """Registered names of one kind, sorted."""
        return sorted(self._entries[kind])

    def entries(self, kind: str) -> list[Entry]:
        """Every registration of one kind, sorted by name, clashes included."""
        return [entry for name in self.names(kind) for entry in self._entries[kind][name]]

    def entry(self, kind: str, name: str) -> Entry:
        """The one class registered under ``name``.

        Raises:
            UnknownNameError: Nothing is; suggests near names and broken plugins.
            PluginError: Two plugins claim the name.
        """
        found = self._entries[kind].get(name, [])
        if not found:
            hint = "".join(
                f"\n{b.provenance.entry_point} is broken and was left out: {b.reason}"
                for b in self.broken
                if b.provenance.entry_point.startswith(kind)
            )
            raise UnknownNameError(kind.removesuffix("s"), name, self.names(kind), hint.strip())
        if len(found) > 1:
            owners = " and ".join(str(entry.provenance) for entry in found)
            raise PluginError(
                f"two plugins register the {kind.removesuffix('s')} {name!r}: {owners}",
                hint=f"uninstall one of them, or leave one out with {RESTRICT}",
            )
        return found[0]

    def create(self, kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
        """An instance of a registered class with validated options."""
        return self.entry(kind, name).cls.create(options)


def _returned(kind: str, value: Any) -> list[Any]:
    """What a hook returned, as a list.

    Raises:
        PluginError: It is none, or has no end.
    """
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise PluginError(f"register_{kind} returned {_shown(value)}", "a list of classes")
    classes = list(itertools.islice(value, MOST_CLASSES + 1))
    if len(classes) > MOST_CLASSES:
        raise PluginError(f"register_{kind} returned more than {MOST_CLASSES} classes")
    return classes


def _check_class(kind: str, cls: Any) -> None:
    """Refuse what is no usable class of this kind.

    Raises:
        PluginError: Saying what is wrong, and what is allowed.
    """
    base = BASES[kind]
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise PluginError(
            f"register_{kind} returned {_shown(cls)}", f"subclasses of {base.__name__}"
        )
    if inspect.isabstract(cls):
        lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise PluginError(f"register_{kind} returned {cls.__name__}, which lacks {lacking}")
    cls.validate()
    cls.summary()


def _shown(value: Any) -> str:
    return clean(repr(value)[:100])


_SPEC = f"{hookspecs.PROJECT}_spec"
_IMPL = f"{hookspecs.PROJECT}_impl"


def installed() -> list[importlib.metadata.EntryPoint]:
    """Installed entry points, the ruler's own first, each once."""
    found = {(e.name, e.value): e for e in importlib.metadata.entry_points(group=GROUP)}
    return sorted(found.values(), key=lambda e: (provenance_of(e).distribution != "msgm-bench", e))


def provenance_of(entry_point: importlib.metadata.EntryPoint) -> Provenance:
    """Name, distribution and module of an entry point."""
    dist = entry_point.dist
    name, version = ("unknown", "unknown") if dist is None else (dist.name, dist.version)
    return Provenance(
        *(clean(str(v)) for v in (entry_point.name, name, version, entry_point.value))
    )


@functools.cache
def registry() -> Registry:
    """The registry of this process, restricted by ``MSGM_BENCH_PLUGINS`` where it is set."""
    patterns = [part.strip() for part in os.environ.get(RESTRICT, "*").split(",")]
    return Registry(restrict=[part for part in patterns if part] or ["*"])
