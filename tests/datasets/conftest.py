"""Every test here has a data folder and a cache of its own, and no network."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from msgm_bench.experiment.loaded_data import load
from msgm_builtin.datasets import files


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Neither the user's data nor Debian's, and nothing beyond this machine."""
    real = urllib.request.urlopen

    def near(url, *rest, **named):
        if not str(url).startswith(("file:", "http://127.0.0.1")):
            raise urllib.error.URLError("no network in tests")
        return real(url, *rest, **named)

    monkeypatch.delenv("MSGM_BENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(urllib.request, "urlopen", near)
    load.cache_clear()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder that ``MSGM_BENCH_DATA`` names."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("MSGM_BENCH_DATA", str(folder))
    return folder
