"""The core knows no task and no metric by name."""

from __future__ import annotations

import ast
from pathlib import Path

from msgm_bench.registry import registry

CORE = Path(__file__).parents[1] / "msgm_bench"


def texts(path):
    """Strings of a module with their lines, without docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    prose = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
            yield node.lineno, node.value


def test_no_task_and_no_metric_is_named_in_the_core():
    """No string is the name of a task, a metric or a row, and none starts a protocol's name."""
    metrics = [entry.cls for entry in registry().entries("metrics")]
    names = {entry.cls.name for kind in ("tasks", "metrics") for entry in registry().entries(kind)}
    names |= {column.metric for metric in metrics for column in metric.columns}
    protocols = tuple(start for metric in metrics for start in metric.protocols)
    assert len(names) > 12
    assert len(protocols) > 6
    named = [
        f"{path.relative_to(CORE)}:{line}: {text!r}"
        for path in sorted(CORE.rglob("*.py"))
        for line, text in texts(path)
        if text.partition(":")[0] in names or text.startswith(protocols)
    ]
    assert named == []
