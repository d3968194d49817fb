"""Without the extra ``[text]`` all plugins load, and using one of prompts is one clear error."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.modules |= dict.fromkeys(("transformers", "tokenizers", "peft"))  # importing them fails
from msgm_bench.cli.main import call
sys.exit(call(sys.argv[1:]))
"""
SCENES = ("run", "--dataset", "scenes", "--forget", "circle", "--method", "unseen", "--dry-run")


@pytest.fixture
def bare(cache):
    """Run a command in a process without transformers, tokenizers and peft."""

    def call(*words):
        command = [sys.executable, "-c", PROGRAM, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return call


def test_every_plugin_is_listed(bare):
    """Those of prompts, too, and none is quarantined."""
    done = bare("list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    names = {e["name"] for entries in json.loads(done.stdout).values() for e in entries}
    assert {"t2i", "stable_diffusion", "scenes", "uce", "ca", "prompt_attack", "asr"} <= names


def test_other_tracks_run(bare):
    """A run without prompts is planned as ever, on scenes, too."""
    done = bare(*SCENES, "--backbone", "vesde")
    assert done.returncode == 0, done.stderr
    assert "train unseen" in done.stdout


def test_a_run_of_prompts_names_the_extra(bare):
    """Before anything is trained, in one line with the command that installs it."""
    done = bare(*SCENES, "--backbone", "t2i", "--text")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.count("pip install 'msgm-bench[text]'") == 1
