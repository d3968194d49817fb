"""What macOS and Windows lack is not needed to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_harness import tiny

from msgm_bench.storage import readers
from msgm_bench.training import runtime

ROOT = Path(__file__).parents[2]
POSIX_ONLY = ("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline")

# our modules find none of those, and other libraries do: which they import is their own business
BLOCKED = f"""
import builtins, importlib, os, sys

LACKING = {POSIX_ONLY!r}
OURS = ("msgm_", "importlib")  # importlib: our own importlib.import_module(...)
real_import, real_module = builtins.__import__, importlib.import_module

def checked(name):
    if name.partition(".")[0] in LACKING:
        raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

def import_(name, globals=None, *arguments, **options):
    if str((globals or {{}}).get("__name__", "")).startswith(OURS):
        checked(name)
    return real_import(name, globals, *arguments, **options)

def import_module(name, package=None):
    checked(name)
    return real_module(name, package)

builtins.__import__, importlib.import_module = import_, import_module
"""
EVERY_MODULE = """
import pathlib
del os.O_CLOEXEC, os.O_NONBLOCK
for folder in map(pathlib.Path, sys.argv[1:]):
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if "{{" not in path.read_text("utf-8"):
            importlib.import_module(name)
print("all imported")
"""
ONE_RUN = """
import types
memory = types.SimpleNamespace(peak_wset=5 * 2**20)
process = types.SimpleNamespace(memory_info=lambda: memory)
sys.modules["psutil"] = types.SimpleNamespace(Process=lambda: process)
from msgm_bench.cli.main import call
sys.exit(call(sys.argv[1:]))
"""


def python(source, *arguments, cwd=ROOT):
    """The finished process of ``source``, with the modules blocked."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + source, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_every_module_imports_without_posix():
    """No module of ours needs what Windows lacks in order to be imported."""
    packages = sorted(path.parent for path in (ROOT / "plugins").glob("*/__init__.py"))
    done = python(EVERY_MODULE, ROOT / "msgm_bench", *packages)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all imported\n")


@pytest.mark.slow
def test_a_run_without_posix(tmp_path):
    """A run without them ends well, and its memory is what psutil says."""
    done = python(ONE_RUN, *tiny(method="standard", out=tmp_path / "runs"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = (tmp_path / "runs").rglob("result.json")
    assert '"peak_memory_mib": 5' in result.read_text("utf-8")


def test_peak_memory_in_bytes():
    """The largest resident set is that of /proc where there is one, and at least 50 MiB."""
    peak = runtime.peak_resident_bytes()
    assert peak > 50 * 2**20
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (x for x in status.read_text("utf-8").splitlines() if x.startswith("VmHWM"))
        assert peak == pytest.approx(int(line.split()[1]) * 1024, rel=0.05)


def test_peak_memory_on_windows(monkeypatch):
    """Without ``resource`` it is psutil's peak working set."""
    memory = SimpleNamespace(peak_wset=123_456_789)
    process = SimpleNamespace(memory_info=lambda: memory)
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(Process=lambda: process))
    assert runtime.peak_resident_bytes() == 123_456_789


def test_files_are_read_as_bytes(tmp_path):
    """Line ends of a file arrive as they are stored, on Windows too."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\r\nb\x1ac\n")
    assert readers.read_bytes(path) == b"a\r\nb\x1ac\n"
    for flag in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY"):
        wanted = getattr(os, flag, 0)
        assert readers.READ_FLAGS & wanted == wanted
