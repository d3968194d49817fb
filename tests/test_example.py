"""The example is a package: it installs, runs, and passes its own test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_harness import only, tiny

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "msgm-bench-example"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that pip installed the example into, offline, beside its own test."""
    place = tmp_path_factory.mktemp("example")
    copy = shutil.copytree(
        EXAMPLE,
        place / "source",
        ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"),
    )
    target = place / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    told = subprocess.run([*pip, *offline, str(copy)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    return target


def test_it_is_listed_and_runs(installed, monkeypatch, new_registry, fast, cache, bench, tmp_path):
    """By name, with its options, under its own distribution's name and version."""
    monkeypatch.syspath_prepend(str(installed))
    new_registry.cache_clear()
    code, out, err = bench("list", "methods")
    assert code == 0
    assert "negative" in out
    assert "broken" not in err
    options = ("-p", "negative.weight=0.2", "--regime", "retrain")
    code, _, err = bench(*tiny(*options, method="negative", out=tmp_path / "runs"))
    assert code == 0, err
    result = only(tmp_path / "runs")
    assert result["status"] == "ok"
    assert result["spec"]["params"] == {"weight": 0.2, "ceiling": 2.0}
    owner = result["provenance"]["plugins"]["methods/negative"]
    assert owner.startswith("msgm-bench-example 0.1 (msgm_bench_example)")


def test_its_own_test_passes(installed):
    """With pytest, from the folder that it is developed in."""
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."]
    told = subprocess.run(
        [*command, "test_msgm_bench_example.py"],
        cwd=installed.parent / "source",
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "1 passed" in told.stdout
