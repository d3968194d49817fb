"""Every test is alone: a cache of its own, one thread, no plugin of the user's."""

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
    """Leave nothing behind."""
    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache for this test."""
    place = tmp_path / "cache"
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(place))
    return place


@pytest.fixture
def fresh():
    """A registry that is built anew in the test and again after it."""

    def forget() -> None:
        registry.registry.cache_clear()
        fingerprint.source_of.cache_clear()
        for name in [name for name in sys.modules if name.startswith("stranger")]:
            del sys.modules[name]

    forget()
    yield registry.registry
    forget()


@pytest.fixture
def strangers(tmp_path, monkeypatch, fresh):
    """``strangers(name, source, *entries)`` installs a stranger's distribution; its folder.

    ``entries`` are names of entry points, such as ``methods.mine``.
    """
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))

    def install(name, source, *entries):
        cli_harness.write_distribution(place, name, name.replace("-", "_"), source, *entries)
        fresh.cache_clear()
        return place

    return install


@pytest.fixture
def probe(strangers):
    """The stranger of ``strangers/stranger_probe.py``, installed; the folder that it is in."""
    source = (cli_harness.STRANGERS / "stranger_probe.py").read_text("utf-8")
    return strangers("stranger-probe", source, "stranger.probe")


@pytest.fixture
def fast(monkeypatch, fresh):
    """Without the frontier and without pictures, a cell takes half a second."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", cli_harness.FAST_PLUGINS)
    monkeypatch.setattr(run_folder, "_draw_pictures", cli_harness.draw_nothing)
    fresh.cache_clear()


@pytest.fixture
def bench(capsys, tmp_path, monkeypatch):
    """``bench(*arguments)`` runs the command line here: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        capsys.readouterr()
        code = call([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command
