"""Mutated files through the commands that read them.

python -m pytest tests/fuzz                             # 200 mutations
MSGM_BENCH_FUZZ=2000 python -m pytest tests/fuzz        # as many as one likes
MSGM_BENCH_FUZZ=2000 MSGM_BENCH_FUZZ_SEED=7 ...         # other ones
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from random import Random

import data_surfaces
import model_surfaces
import pytest
import result_surfaces
import surface as surfaces
from mutations import replace_file, spoil
from surface import Surface
from watch import watched

from msgm_bench.cli.main import call

SURFACES = [*result_surfaces.SURFACES, *model_surfaces.SURFACES, *data_surfaces.SURFACES]
COUNT = int(os.environ.get("MSGM_BENCH_FUZZ", "200"))
SEED = int(os.environ.get("MSGM_BENCH_FUZZ_SEED", "0"))
SHARE = -(-COUNT // len(SURFACES))
UNEXPECTED = ("Traceback", "error: unexpected")
CODES = {0, 1, 2}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder for what is made once."""
    surfaces.PLACE[:] = [tmp_path_factory.mktemp("sound")]


def restore(surface: Surface, folder: Path) -> Path:
    """A sound copy of the surface's files; the file to spoil."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copytree(surfaces.once(surface.build), folder, dirs_exist_ok=True, symlinks=True)
    (path,) = folder.glob(surface.file)
    return path


def problems(surface: Surface, folder: Path, capsys) -> list[str]:
    """What each command did that it may not."""
    notes = []
    for command in surface.commands(folder):
        code = None
        with watched(folder, Path(os.environ["MSGM_BENCH_CACHE"])) as watch:
            code = call(command)
        out, err = capsys.readouterr()
        notes += watch.events
        if code not in CODES and not watch.events:
            notes.append(f"exit code {code}")
        notes += [line for line in (out + err).splitlines() if any(w in line for w in UNEXPECTED)]
        if "\x1b" in out + err:
            notes.append("a terminal escape in the output")
        if code and not (out + err).strip():
            notes.append(f"exit code {code} without a word")
    return notes


@pytest.mark.parametrize("surface", SURFACES, ids=lambda s: s.name)
def test_sound_files_are_read(surface, tmp_path, monkeypatch, capsys):
    """Unspoiled, each set of files is accepted: else the mutations below would show nothing."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "work"
    restore(surface, folder)
    last = surface.commands(folder)[-1]  # `data check` compares checksums, which ours are not
    assert call(last) == surface.sound, capsys.readouterr()


@pytest.mark.parametrize("surface", SURFACES, ids=lambda s: s.name)
def test_spoiled_files_do_no_harm(surface, tmp_path, monkeypatch, capsys):
    """No traceback, no hang over 10 s, no gibibyte, no program started, nothing elsewhere."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "work"
    failures = {}
    for number in range(SHARE):
        random = Random(f"{SEED} {surface.name} {number}")
        path = restore(surface, folder)
        if random.random() < 0.08:
            what = replace_file(path, random)
        else:
            path.write_bytes(spoil(path.read_bytes(), surface.kind, random))
            what = "spoiled"
        notes = problems(surface, folder, capsys)
        if notes:
            failures[f"{number} ({what})"] = notes
    assert not failures, json.dumps(failures, indent=1)
