"""The examples are what ``new`` writes: each installs, passes its checks, runs, and goes again."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_harness import only

from msgm_bench.cli.scaffold import distribution, render

EXAMPLES = Path(__file__).parents[1] / "examples"
KINDS = {"bounded_ascent": "method", "saturation": "metric"}
named = pytest.mark.parametrize("name", KINDS)
RUN = (
    *("run", "--dataset", "digits", "--forget", "3", "--backbone", "vpsde", "--steps", "2"),
    *(
        "-b",
        "channels=[8,8]",
        "-b",
        "layers=1",
        "-b",
        "attention=[]",
        "-j",
        "steps=2",
        "--samples",
        "8",
    ),
    *("-t", "generation.nfe=2"),
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that pip installed both examples into, offline."""
    place = tmp_path_factory.mktemp("examples")
    unwanted = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    sources = [
        shutil.copytree(EXAMPLES / distribution(name), place / name, ignore=unwanted)
        for name in KINDS
    ]
    target = place / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    output = subprocess.run(
        [*pip, *offline, *map(str, sources)], capture_output=True, text=True, check=False
    )
    assert output.returncode == 0, output.stdout + output.stderr
    return target


@pytest.fixture
def examples(installed, monkeypatch, new_registry):
    """Both, known to this process; after the test they are gone."""
    original = dict(sys.modules)
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setattr("msgm_bench.registry.installed", _with_examples(installed))
    new_registry.cache_clear()
    yield installed
    for module in sys.modules.keys() - original.keys():
        if module.startswith("msgm_bench_"):
            del sys.modules[module]


def _with_examples(installed):
    """Entry points of msgm-bench and of what is in ``installed``."""
    from cli_harness import known_distributions

    def entry_points():
        importlib.invalidate_caches()
        found = importlib.metadata.distributions(path=[str(installed)])
        added = [e for d in found for e in d.entry_points if e.group == "msgm_bench"]
        return [*known_distributions(), *added]

    return entry_points


@named
def test_they_are_what_new_writes(name):
    """Each file of an example is that of the templates, letter by letter."""
    folder = EXAMPLES / distribution(name)
    for file, text in render(KINDS[name], name).items():
        assert (folder / file).read_text("utf-8") == text, file


@named
def test_they_pass_their_checks(name, examples, bench):
    """Installed, ``check`` knows each of them and fails nothing."""
    code, out, err = bench("check", KINDS[name], name, "--json")
    assert code == 0, out + err
    outcome = json.loads(out)
    assert outcome["from"].startswith(f"{distribution(name)} 0.1.0")
    assert {check["status"] for check in outcome["checks"]} <= {"passed", "skipped"}
    assert any(check["status"] == "passed" for check in outcome["checks"][3:])


def test_they_run_together(examples, monkeypatch, new_registry, cache, bench, tmp_path):
    """The method trains under its own distribution's name, and the metric has its row."""
    names = "datasets.digits,backbones.*,samplers.*,methods.*,tasks.generation,judges.classifier"
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", f"{names},metrics.saturation")
    new_registry.cache_clear()
    options = ("--method", "bounded_ascent", "-p", "weight=0.2", "--regime", "retrain")
    code, _, err = bench(*RUN, *options, "--out", tmp_path / "runs")
    assert code == 0, err
    result = only(tmp_path / "runs")
    assert result["status"] == "ok"
    assert result["spec"]["params"] == {"weight": 0.2, "ceiling": 2.0}
    owner = result["provenance"]["plugins"]["methods/bounded_ascent"]
    assert owner.startswith("msgm-bench-bounded-ascent 0.1.0")
    (row,) = [row for row in result["metrics"] if row["metric"] == "saturation"]
    assert 0 <= row["value"] <= 100
    assert row["n"] == 8


@named
def test_without_them_their_names_are_unknown(name, new_registry, bench):
    """What is uninstalled is no longer there, and says so."""
    code, _, err = bench("check", KINDS[name], name)
    assert code == 2
    assert f"unknown {KINDS[name]} '{name}'" in err


def test_their_own_tests_pass(installed):
    """With pytest, each from a folder of its own."""
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    tests = [
        str(EXAMPLES / distribution(name) / f"test_{distribution(name).replace('-', '_')}.py")
        for name in KINDS
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    output = subprocess.run(
        [*command, "--rootdir", str(installed)],
        cwd=installed,
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stdout + output.stderr
    assert "2 passed" in output.stdout
