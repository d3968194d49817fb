"""What importing the package does to the process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SPIN, WAIT = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"


@pytest.mark.parametrize(
    ("user", "spin"), [({}, "10000"), ({SPIN: "7"}, "7"), ({WAIT: "passive"}, "None")]
)
def test_idle_threads_do_not_spin_unless_the_user_says_so(user, spin):
    """The spin count is in the environment before torch is loaded; the user's own setting wins."""
    script = f"import os, sys, msgm_bench; print(os.environ.get('{SPIN}'), 'torch' in sys.modules)"
    clean = {name: value for name, value in os.environ.items() if name not in (SPIN, WAIT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=clean | user, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [spin, "False"]


def test_commands_import_what_they_use():
    """Neither registry nor estimates wait for scikit-learn, torchdiffeq or pandas."""
    script = (
        "import sys; from msgm_bench.registry import registry; registry().create('datasets', "
        "'digits'); import msgm_bench.cli.estimate, msgm_bench.estimate.run_estimate; "
        "print({'sklearn.datasets', 'torchdiffeq', 'pandas'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
