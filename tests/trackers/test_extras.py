"""Trackers whose libraries are not installed."""

from __future__ import annotations

import sys

import pytest
from cli_harness import tiny


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_extra(name, fast, cache, bench, tmp_path, monkeypatch):
    """One sentence and the command that installs it, before anything is trained."""
    monkeypatch.setitem(sys.modules, name, None)
    for dry in ((), ("--dry-run",)):
        code, _, err = bench(*tiny("--track", name, *dry, out=tmp_path / "runs"))
        assert code == 2
        assert f"the tracker '{name}' needs {name}, which is not installed here" in err
        assert f"pip install 'msgm-bench[{name}]'" in err
        assert not (tmp_path / "runs").exists()
    assert not cache.exists()
