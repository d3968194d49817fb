"""Code behind a submission against the code that is installed here."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator

from msgm_bench.api import Plugin, Result
from msgm_bench.boards.comparability import CORE, code
from msgm_bench.cache.fingerprint import plugin_source, source_of
from msgm_bench.errors import RefusedError
from msgm_bench.registry import KINDS, registry
from msgm_bench.report.provenance import CORE as CORE_PACKAGES
from msgm_bench.storage import single_line

_NAME = re.compile(r"[a-z]+/[a-z0-9][a-z0-9_.-]*")
EXTERNAL = "external"  # regime of a result that trained nothing


def check_code(result: Result, metrics: Iterable[str]) -> list[str]:
    """Compare the code of each plugin with the installed one; notes on what cannot be compared.

    Args:
        result: The result.
        metrics: Names of the metrics of its evidence.

    Raises:
        RefusedError: A plugin has other code under the same name, or one that took part is not
            among the digests.
    """
    digests, notes = code(result), list[str]()
    missing = [name for name in _needed(result, metrics) if name not in digests]
    if missing:
        raise RefusedError(
            f"nothing says which code of {missing[0]} made it", "provenance.code of every plugin"
        )
    if not any(name.startswith("judges/") for name in digests):
        raise RefusedError("nothing says which code of its judge made it", "provenance.code")
    for name, digest in digests.items():
        if not _NAME.fullmatch(name):
            raise RefusedError(f"{single_line(name)[:80]!r} is no plugin", "KIND/NAME")
        cls = installed(*name.split("/"))
        if cls is None:
            notes.append(f"{name} is not installed here: its code cannot be compared")
        elif _source(cls) != digest:  # type: ignore[arg-type]  # classes have a hash
            version = result.provenance.get("versions", {})
            made = version.get("msgm-bench") if isinstance(version, dict) else None
            raise RefusedError(
                f"{name} is other code than the {name} that is installed here",
                hint=f"it was made by msgm-bench {single_line(made)[:40]}: check it with that "
                "version, or run its command again with this one",
            )
    if result.provenance.get("code", {}).get(CORE) != _core():
        notes.append("it was made by another version of the core")
    return notes


def _needed(result: Result, metrics: Iterable[str]) -> Iterator[str]:
    """Plugins that took part, by ``kind/name``."""
    spec = result.spec
    yield f"datasets/{spec.dataset}"
    yield f"backbones/{spec.backbone}"
    if spec.regime != EXTERNAL:
        yield f"methods/{spec.method}"
    tasks = {row.task for row in result.metrics}
    yield from sorted(f"tasks/{name}" for name in tasks)
    options = (spec.settings.get("tasks", {}).get(name, {}) for name in tasks)
    samplers = {values["sampler"] for values in options if isinstance(values.get("sampler"), str)}
    yield from sorted(f"samplers/{name}" for name in samplers)
    yield from sorted({f"metrics/{name}" for name in metrics})


def installed(kind: str, name: str) -> type[Plugin] | None:
    """The one plugin of this name that is installed, or None."""
    if kind not in KINDS or name not in registry().names(kind):
        return None
    return registry().entry(kind, name).cls


@functools.cache
def _source(cls: type[Plugin]) -> str:
    return plugin_source(cls)


def _core() -> str:
    return source_of(*(f"msgm_bench.{package}" for package in CORE_PACKAGES))
