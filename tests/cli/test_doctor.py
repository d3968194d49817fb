"""``msgm-bench doctor``: a sound installation, and what it says of each broken part."""

from __future__ import annotations

import pytest

from msgm_bench.cli import doctor
from msgm_bench.cli.tables import console

DATASET = """
from msgm_bench import Dataset, StorageError, hookimpl

class Faulty(Dataset):
    '''A dataset that fails.'''
    name = "faulty"
    default_preset = "quick"

    def load(self):
        '''Fail.'''
        {body}

@hookimpl
def register_datasets():
    return [Faulty]
"""


@pytest.fixture(autouse=True)
def _a_new_console():
    """Each test has its own standard output."""
    console.cache_clear()


@pytest.fixture
def without_machine(monkeypatch):
    """No table of versions, which takes long."""
    monkeypatch.setattr(doctor, "_print_machine", lambda: None)


@pytest.fixture
def commands(third_party):
    """``commands(source, **names)`` installs commands of a module; names are of attributes."""

    def install(source, **names):
        place = third_party("third-party-tools", source)
        lines = [f"{name} = third_party_tools:{attribute}" for name, attribute in names.items()]
        entry = place / "third_party_tools-1.2.dist-info" / "entry_points.txt"
        entry.write_text("\n".join(["[msgm_bench.commands]", *lines, ""]))

    return install


def test_a_sound_installation(cache, bench):
    """Versions, device, cache, plugins, commands and data; all well."""
    code, out, _ = bench("doctor")
    assert code == 0, out
    for word in ("torch", "msgm-bench", "device:", str(cache), "data of digits: ", "all well"):
        assert word in out
    assert "commands of plugins: paper" in out


def test_a_cache_that_cannot_be_written(without_machine, bench, tmp_path, monkeypatch):
    """A cache that cannot be written is an error: exit 1."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "file" / "cache"))
    code, out, _ = bench("doctor")
    assert code == 1
    assert "cache: cannot write" in out
    assert "something is broken" in out


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("raise ValueError('no such column')", 1, "broken: ValueError: no such column"),
        ("raise SystemExit(7)", 1, "broken: SystemExit: 7"),
        ("raise StorageError('no file here')", 0, "not here: no file here"),
    ],
)
def test_a_dataset_that_raises(body, code, message, without_machine, third_party, cache, bench):
    """A dataset's error is its own line: missing data are well, any other error is not."""
    third_party("third-party-data", DATASET.format(body=body), "datasets.faulty")
    exit_code, out, err = bench("doctor")
    assert exit_code == code
    assert f"data of faulty: {message}" in out
    assert "data of digits: " in out
    assert "Traceback" not in out + err


def test_broken_commands(without_machine, commands, cache, bench):
    """Commands that cannot be imported, are no commands or have a built-in name are listed."""
    source = "import click\n@click.command()\ndef hi():\n    print('hi')\nnumber = 3\n"
    commands(source, hi="hi", number="number", lost="lost", run="hi")
    code, out, _ = bench("doctor")
    assert code == 1
    assert "commands of plugins: hi, paper" in out
    reasons = [line for line in out.splitlines() if line.startswith("broken command: ")]
    assert len(reasons) == 3
    assert "'lost' from third-party-tools is broken: AttributeError" in reasons[0]
    assert "third_party_tools:number is int, no click command" in reasons[1]
    assert "'run' from third-party-tools has a built-in one's name" in reasons[2]
