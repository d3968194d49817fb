"""``new`` writes distributions that work, for every kind, and nothing half."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import msgm_bench
from msgm_bench.cli import scaffold
from msgm_bench.cli.kinds import KINDS
from msgm_bench.quarantine import NAME
from msgm_bench.registry import BASES
from msgm_bench.testing.kits import KITS, check_all

ALL = (*KINDS, "command")


def load(folder: Path, module: str):
    """The module in ``folder``, imported from its file."""
    spec = importlib.util.spec_from_file_location(module, folder / f"{module}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def test_every_kind_has_a_template_and_a_kit():
    """The kinds that users type are those of the registry, of the kit and of the templates."""
    plurals = {f"{kind}s" for kind in KINDS}
    assert plurals == set(BASES) == set(KITS)
    assert all(scaffold.render(kind, "x") for kind in ALL)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_conforms(kind, bench, tmp_path, monkeypatch):
    """The plugin of each kind registers under its name and fails none of its checks."""
    code, out, err = bench("new", kind, f"my-{kind}.2", "--dir", tmp_path)
    assert code == 0, err
    assert f"msgm-bench check {kind} my-{kind}.2" in out
    module = load(tmp_path / f"msgm-bench-my-{kind}-2", f"msgm_bench_my_{kind}_2")
    (cls,) = getattr(module, f"register_{kind}s")()
    assert cls.name == f"my-{kind}.2"
    outcomes = list(check_all(f"{kind}s", cls))
    assert [o for o in outcomes if o.status == "failed"] == []
    assert sum(o.status == "passed" for o in outcomes) > 3


def test_files_pass_ruff_and_name_their_entry_point(tmp_path):
    """Lint and format by the distribution's own settings; the entry point is the module's."""
    for kind in ALL:
        folder = scaffold.write(kind, f"my_{kind}", tmp_path)
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
        group = "msgm_bench.commands" if kind == "command" else "msgm_bench"
        (entry,) = project["entry-points"][group]
        assert entry == (f"my_{kind}" if kind == "command" else f"{kind}s.my_{kind}")
        assert project["name"] == folder.name == f"msgm-bench-my-{kind}"
    for arguments in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", str(tmp_path)]
        output = subprocess.run(command, capture_output=True, text=True, check=False)
        assert output.returncode == 0, output.stdout + output.stderr


def test_a_command_counts_results(tmp_path):
    """The command's own test passes: there is no kit for commands."""
    folder = scaffold.write("command", "tally", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    output = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stdout + output.stderr


@given(st.sampled_from(ALL), st.from_regex(NAME, fullmatch=True))
@settings(max_examples=60)
def test_any_name_gives_valid_python(kind, name):
    """Whatever a plugin may be called: modules compile, and no class hides an imported one."""
    files = scaffold.render(kind, name)
    for file, text in files.items():
        if file.endswith(".py"):
            compile(text, file, "exec")
            assert file.removesuffix(".py").isidentifier()
    tomllib.loads(files["pyproject.toml"])
    assert scaffold.class_name(kind, name).isidentifier()
    assert scaffold.class_name(kind, name) not in dir(msgm_bench)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("methd", "x"), "unknown kind 'methd' (did you mean 'method'?)"),
        (("method", "Bad Name"), "the name 'Bad Name'"),
        (("method", "../x"), "the name '../x'"),
        (("method", "obt"), "the method 'obt' is there already, from msgm-bench"),
        (("command", "run"), "'run' is a command of msgm-bench"),
    ],
)
def test_bad_requests_write_nothing(arguments, sentence, bench, tmp_path):
    """The error says what is wrong, the exit code is 2, and the folder stays empty."""
    place = tmp_path / "new"
    code, _, err = bench("new", *arguments, "--dir", place)
    assert code == 2
    assert sentence in err
    assert not place.exists()


def test_the_plural_is_taken_and_a_folder_is_not_replaced(bench, tmp_path):
    """``methods`` is ``method``; a second ``new`` leaves what the first one wrote."""
    assert bench("new", "methods", "mine", "--dir", tmp_path)[0] == 0
    module = tmp_path / "msgm-bench-mine" / "msgm_bench_mine.py"
    module.write_text("changed", encoding="utf-8")
    code, _, err = bench("new", "metric", "mine", "--dir", tmp_path)
    assert code == 2
    assert "is there already" in err
    assert module.read_text("utf-8") == "changed"


def test_a_full_disk_leaves_nothing(bench, tmp_path, monkeypatch):
    """Where a file cannot be written, no folder is left, and the exit code is 1."""

    def full(self, *arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    code, _, err = bench("new", "method", "mine", "--dir", tmp_path / "new")
    assert code == 1
    assert "space" in err
    assert list((tmp_path / "new").iterdir()) == []
