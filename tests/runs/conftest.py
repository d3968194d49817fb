"""Child processes for the tests of the pipeline."""

from __future__ import annotations

import cli_harness
import pytest


@pytest.fixture
def child(tmp_path, probe):
    """``child(arguments, **environment)`` starts the command in a process with the probe."""
    started = []

    def start(arguments, **env):
        said = tmp_path / f"said-{len(started)}"
        started.append(cli_harness.Child(arguments, env, probe, said))
        return started[-1]

    yield start
    for each in started:
        if each.process.is_alive():
            each.process.kill()
        each.process.join(30)
        each.process.close()
