"""Whole runs on the device, one of them killed and resumed."""

from __future__ import annotations

import signal
import time

import pytest
from cli_harness import Child, only, tiny

from msgm_bench.experiment.stored_result import RESULT

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("fast", "probe")]
TOLERANCE = 1e-3  # relative, of every value of a resumed run
CHUNKS = ("-t", "generation.batch_size=8", "-t", "likelihood.batch_size=16")


def values(out):
    """Values of a run by task, metric and split."""
    rows = only(out)["metrics"]
    return {
        (r["task"], r["metric"], r["split"]): r["value"] for r in rows if r["value"] is not None
    }


def test_a_run_states_its_device(runtime, bench, cache, tmp_path):
    """Its kind and its name stand in the result."""
    code, _, errors = bench(*tiny("--device", str(runtime.device)))
    assert code == 0, errors
    hardware = only(tmp_path / "runs")["provenance"]["hardware"]
    assert hardware["device"] == runtime.device.type
    assert hardware["name"] == runtime.hardware()["name"]
    assert hardware["peak_memory_mib"] > 0


@pytest.mark.parametrize("where", ["train obt|13", "draw generation|16", "draw likelihood|32"])
def test_killed_runs_end_with_the_same_values(where, runtime, bench, cache, tmp_path, monkeypatch):
    """SIGKILL in training, in sampling and in the likelihood: values to the stated tolerance."""
    arguments, out = (*CHUNKS, "--device", str(runtime.device)), tmp_path / "runs"
    env = {"STRANGER_KILL": f"SIGKILL|{where}", "STRANGER_CHECKPOINT": "-1"}
    log = tmp_path / "killed.log"
    killed = Child(tiny(*arguments, out=out), env, tmp_path / "site", log)
    assert killed.code() == -signal.SIGKILL, log.read_text("utf-8")
    assert not list(out.rglob(RESULT))
    assert bench(*tiny(*arguments, out=out))[0] == 0
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "other-cache"))
    assert bench(*tiny(*arguments, out=tmp_path / "whole"))[0] == 0
    assert values(out) == pytest.approx(values(tmp_path / "whole"), rel=TOLERANCE, abs=TOLERANCE)


def test_likelihood_ends_whatever_training_was(runtime, bench, cache, tmp_path):
    """A U-Net trained in bf16: its adaptive likelihood ends, because it is computed in fp32."""
    started = time.monotonic()
    code, _, errors = bench(
        *("run", "--dataset", "digits", "--forget", "3", "--backbone", "vpsde"),
        *("-b", "network=unet", "-b", "channels=[8,16]", "--method", "unseen", "--steps", "20"),
        *("--samples", "16", "-t", "likelihood.repeats=1", "-j", "steps=20"),
        *("--precision", "bf16", "--device", str(runtime.device), "--out", "runs"),
    )
    assert code == 0, errors
    assert time.monotonic() - started < 100
    found = values(tmp_path / "runs")
    assert {split for task, _, split in found if task == "likelihood"} == {"retain", "forget"}
