"""Plugins: discovery through entry points, their origin, and quarantine of broken ones."""

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
from typing import Any, cast

import pluggy

from msgm_bench import api, hookspecs
from msgm_bench.api import Plugin, check_presets
from msgm_bench.errors import PluginError, UnknownNameError, clean, did_you_mean
from msgm_bench.quarantine import quarantined, with_owner

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
MAX_CLASSES = 1_000  # of one hook: a generator may be infinite
Wrapper = Callable[[Callable[..., Any], str], Callable[..., Any]]


@dataclass(frozen=True)
class Provenance:
    """Origin of a plugin: entry point, distribution and module."""

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
    """An entry point that cannot be used, with the reason."""

    provenance: Provenance
    reason: str


class Registry:
    """All plugins of this process.

    Args:
        entry_points: Entry points to load; by default the installed ones.
        restrict: Patterns of the names of entry points to load (``methods.*``).
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
        """Import one entry point; a failure is recorded in ``broken`` and not raised."""
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
            self.listen(module, f"plugin {provenance.entry_point} of {provenance}")
            self._check_hooks(module)
            entries = list(self._collect(module, provenance))
        except BaseException:
            if self.manager.is_registered(module):
                self.manager.unregister(module)
            raise
        for entry in entries:
            self._entries[entry.kind][entry.cls.name].append(entry)
        self._provenance[provenance.entry_point] = provenance

    def listen(self, plugin: object, owner: str, wrap: Wrapper = with_owner) -> None:
        """Call the life-cycle hooks of a module or tracker from now on.

        Args:
            plugin: Has functions or methods under ``@hookimpl``.
            owner: Its name in the errors of its hooks.
            wrap: Makes what is called from a hook and its name.
        """
        self.manager.register(plugin)
        for caller in self.manager.get_hookcallers(plugin) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin:
                    wrapped = wrap(implementation.function, f"{owner}, {caller.name}")
                    cast(Any, implementation).function = wrapped  # final to type checkers

    def _check_hooks(self, module: ModuleType) -> None:
        """Refuse unknown hooks, which pluggy never calls."""
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
            UnknownNameError: No class has the name; suggests near names and broken plugins.
            PluginError: Two plugins register the name.
        """
        entries = self._entries[kind].get(name, [])
        if not entries:
            hint = "".join(
                f"\n{b.provenance.entry_point} is broken and not loaded: {b.reason}"
                for b in self.broken
                if b.provenance.entry_point.startswith(kind)
            )
            one = kind.removesuffix("s")
            hint = hint.strip() or f"`msgm-bench list {one}` says what each is"
            raise UnknownNameError(one, name, self.names(kind), hint)
        if len(entries) > 1:
            owners = " and ".join(str(entry.provenance) for entry in entries)
            raise PluginError(
                f"two plugins register the {kind.removesuffix('s')} {name!r}: {owners}",
                hint=f"uninstall one of them, or leave one out with {RESTRICT}",
            )
        return entries[0]

    def create(self, kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
        """An instance of a registered class with validated options."""
        return self.entry(kind, name).cls.create(options)


def kind_of(role: str) -> str:
    """The kind of a key of ``uses()``: ``KIND``, or ``KIND:ROLE`` where there are several."""
    return role.partition(":")[0]


def _returned(kind: str, value: Any) -> list[Any]:
    """The classes that a hook returned, as a list.

    Raises:
        PluginError: ``value`` is not iterable, or too long.
    """
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise PluginError(f"register_{kind} returned {_repr(value)}", "a list of classes")
    classes = list(itertools.islice(value, MAX_CLASSES + 1))
    if len(classes) > MAX_CLASSES:
        raise PluginError(f"register_{kind} returned more than {MAX_CLASSES} classes")
    return classes


def _check_class(kind: str, cls: Any) -> None:
    """Refuse an object that is no usable class of this kind.

    Raises:
        PluginError: It is no subclass, abstract, or contradicts itself.
    """
    base = BASES[kind]
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise PluginError(
            f"register_{kind} returned {_repr(cls)}", f"subclasses of {base.__name__}"
        )
    if inspect.isabstract(cls):
        lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise PluginError(f"register_{kind} returned {cls.__name__}, which lacks {lacking}")
    cls.validate()
    cls.summary()


def _repr(value: Any) -> str:
    return clean(repr(value)[:100])


_SPEC = f"{hookspecs.PROJECT}_spec"
_IMPL = f"{hookspecs.PROJECT}_impl"


def installed() -> list[importlib.metadata.EntryPoint]:
    """Installed entry points without repetition, those of msgm-bench first."""
    unique = {(e.name, e.value): e for e in importlib.metadata.entry_points(group=GROUP)}
    return sorted(unique.values(), key=lambda e: (provenance_of(e).distribution != "msgm-bench", e))


def provenance_of(entry_point: importlib.metadata.EntryPoint) -> Provenance:
    """Name, distribution and module of an entry point."""
    dist = entry_point.dist
    name, version = ("unknown", "unknown") if dist is None else (dist.name, dist.version)
    return Provenance(
        *(clean(str(v)) for v in (entry_point.name, name, version, entry_point.value))
    )


@functools.cache
def registry() -> Registry:
    """The registry of this process, restricted by the variable ``MSGM_BENCH_PLUGINS``."""
    patterns = [part.strip() for part in os.environ.get(RESTRICT, "*").split(",")]
    return Registry(restrict=[part for part in patterns if part] or ["*"])
