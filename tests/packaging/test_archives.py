"""What is released is what is in the repository, and works without it."""

from __future__ import annotations

import configparser
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from cli_harness import tiny

import msgm_bench

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGES = sorted(["msgm_bench", *(x.parent.name for x in ROOT.glob("plugins/*/__init__.py"))])
pytestmark = pytest.mark.slow

EVERY_ENTRY_POINT = """
import importlib.metadata, msgm_bench, pathlib, sys
home = pathlib.Path(sys.prefix).resolve()
assert home in pathlib.Path(msgm_bench.__file__).resolve().parents, msgm_bench.__file__
points = importlib.metadata.distribution("msgm-bench").entry_points
for point in points:
    point.load()
    module = sys.modules[point.value.partition(":")[0]]
    assert home in pathlib.Path(module.__file__).resolve().parents, module.__file__
print(len(points))
"""


def repository_files():
    """Paths of all files that git knows or would take, or a skip where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs the git repository")
    return {line for line in done.stdout.splitlines() if (ROOT / line).is_file()}


def test_sdist_is_the_repository(archives):
    """The sdist holds files of the repository alone, and what building and testing need."""
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - repository_files() == {"PKG-INFO"}
    needed = {"LICENSE", "README.md", "CITATION.cff", "Makefile", "pyproject.toml"}
    assert needed <= names
    assert {"tests/conftest.py", "docs/figures/forgetting.png"} <= names


def test_wheel_is_the_packages(archives):
    """The wheel holds every file of every package, and nothing else but its metadata."""
    with zipfile.ZipFile(archives[1]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {path.removeprefix("plugins/") for path in repository_files()}
    assert names == {path for path in sources if path.partition("/")[0] in PACKAGES}
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_wheel_metadata(archives):
    """Licence, entry points, README and the one version stand in the wheel's metadata."""
    info = f"msgm_bench-{msgm_bench.__version__}.dist-info"
    with zipfile.ZipFile(archives[1]) as archive:
        licence = archive.read(f"{info}/licenses/LICENSE").decode()
        entries = configparser.ConfigParser(delimiters=["="])
        entries.optionxform = str
        entries.read_string(archive.read(f"{info}/entry_points.txt").decode())
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    assert licence == (ROOT / "LICENSE").read_text("utf-8")
    assert metadata["Version"] == msgm_bench.__version__
    assert metadata["License-Expression"] == PROJECT["license"]
    assert metadata.get_payload() == (ROOT / "README.md").read_text("utf-8")
    groups = {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
    assert {group: dict(entries[group]) for group in entries.sections()} == groups


def test_twine_accepts_both(archives):
    """The index would take both archives and render the README."""
    pytest.importorskip("twine", reason="needs the extra dev")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, archives)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_wheel_outside_the_repository(installed, tmp_path):
    """Every entry point loads from the environment, and a run ends with a result."""
    count = len(PROJECT["scripts"]) + sum(map(len, PROJECT["entry-points"].values()))
    assert int(installed("python", "-c", EVERY_ENTRY_POINT)) == count
    assert "all well" in installed("msgm-bench", "doctor")
    installed("msgm-bench", *tiny(out=tmp_path / "runs"))
    assert len([*(tmp_path / "runs").rglob("result.json")]) == 1
