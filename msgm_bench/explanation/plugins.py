"""What is known here of the plugins that made a result: code, source, the class of a metric."""

from __future__ import annotations

import functools
import inspect

from msgm_bench.api import Metric, Plugin, Result, Row
from msgm_bench.boards.plausibility import metrics
from msgm_bench.cache.fingerprint import plugin_source
from msgm_bench.explanation.step import short_hash
from msgm_bench.submissions.code import installed


def code_text(result: Result, kind: str, name: str) -> str:
    """Digest of a plugin's code in a result, and whether that code is installed here."""
    recorded = result.provenance.get("code", {}).get(f"{kind}/{name}")
    if recorded is None:
        return ""
    cls = installed(kind, name)
    if cls is None:
        state = "which is not installed here"
    else:
        is_same = _source(cls) == recorded  # type: ignore[arg-type]  # classes have a hash
        state = "as installed here" if is_same else "other than installed here"
    return f"{short_hash(recorded)}, {state}"


def citation(kind: str, name: str) -> str:
    """Paper or source of a plugin; empty where it is not installed."""
    cls = installed(kind, name)
    return "" if cls is None else cls.citation


def metric_class(row: Row) -> type[Metric] | None:
    """The installed metric whose protocol a row has: that of the longest name, or None."""
    owners = [
        (max(len(prefix) for prefix in cls.protocols if row.protocol.startswith(prefix)), cls)
        for cls in metrics()
        if row.protocol.startswith(cls.protocols or ("\0",)) and row.task in cls.tasks
    ]
    return max(owners, key=lambda owner: owner[0])[1] if owners else None


def paragraphs(cls: type[Plugin]) -> list[str]:
    """Summary and further paragraphs of a docstring, without its sections, a line each."""
    blocks = (inspect.getdoc(cls) or "").split("\n\n")
    return [" ".join(b.split()) for b in blocks if not b.startswith(("Attributes:", "Args:"))]


@functools.cache
def _source(cls: type[Plugin]) -> str:
    return plugin_source(cls)
