"""Isolation of tests (a cache of their own, one thread, no plugin of the user) and fixtures."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile

_CACHE = tempfile.mkdtemp(prefix="msgm-bench-tests-")
os.environ["MSGM_BENCH_CACHE"] = _CACHE
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("MSGM_BENCH_PLUGINS", None)

import cli_harness  # noqa: E402
import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from msgm_bench import registry  # noqa: E402
from msgm_bench.cache import fingerprint  # noqa: E402
from msgm_bench.cli.main import call  # noqa: E402
from msgm_bench.report import run_folder  # noqa: E402

torch.set_num_threads(1)
# no property has a time limit: machines are slow when they are busy; CI tries the same examples
hypothesis.settings.register_profile("bench", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("bench")
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell starts us with &
registry.installed = cli_harness.known_distributions


def pytest_unconfigure() -> None:
    """Delete the cache of the session."""
    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache for this test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def new_registry():
    """The registry, built anew in the test and again after it."""

    def clear() -> None:
        registry.registry.cache_clear()
        fingerprint.source_of.cache_clear()
        for name in [name for name in sys.modules if name.startswith("third_party")]:
            del sys.modules[name]

    clear()
    yield registry.registry
    clear()


@pytest.fixture
def third_party(tmp_path, monkeypatch, new_registry):
    """``third_party(name, source, *entries)`` installs a distribution; its folder.

    ``entries`` are names of entry points, such as ``methods.mine``.
    """
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))

    def install(name, source, *entries):
        cli_harness.write_distribution(place, name, name.replace("-", "_"), source, *entries)
        new_registry.cache_clear()
        return place

    return install


@pytest.fixture
def probe(third_party):
    """The plugin of ``third_party/third_party_probe.py``, installed; its folder."""
    source = (cli_harness.THIRD_PARTY / "third_party_probe.py").read_text("utf-8")
    return third_party("third-party-probe", source, "third_party.probe")


@pytest.fixture
def fast(monkeypatch, new_registry):
    """Without the frontier and without pictures, a run takes half a second."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", cli_harness.FAST_PLUGINS)
    monkeypatch.setattr(run_folder, "_draw_pictures", cli_harness.draw_nothing)
    new_registry.cache_clear()


@pytest.fixture
def bench(capsys, tmp_path, monkeypatch):
    """``bench(*arguments)`` runs the command line here: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        capsys.readouterr()
        code = call([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    return command
