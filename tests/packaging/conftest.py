"""Both archives, built once, and an environment that holds the wheel alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def finished(*command, **options):
    """The output of a command that must end well."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """The sdist, and the wheel that was built from it."""
    pytest.importorskip("build", reason="needs the extra dev")
    pytest.importorskip("hatchling", reason="needs the extra dev")
    out = tmp_path_factory.mktemp("dist")
    finished(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT)
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session")
def installed(archives, tmp_path_factory):
    """``installed(program, *arguments)`` runs in an environment with the wheel, far from here.

    The environment sees the packages of this one behind its own; ours is not editable there,
    because .pth files are read in an environment's own folder only.
    """
    place = tmp_path_factory.mktemp("environment")
    finished(sys.executable, "-m", "venv", "--without-pip", place / "venv")
    python = place / "venv" / "bin" / "python"
    site = finished(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    paths = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (Path(site) / "first.pth").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    finished(*pip, "--no-deps", "--no-index", "--ignore-installed", archives[1])
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env["MSGM_BENCH_CACHE"] = str(place / "cache")

    def run(program, *arguments):
        return finished(python.parent / program, *arguments, cwd=place, env=env)

    return run
