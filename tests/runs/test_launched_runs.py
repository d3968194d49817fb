"""One run in two processes, as a launcher starts them: its values, its end, what it refuses."""

from __future__ import annotations

import logging
import signal
import socket
from types import SimpleNamespace

import pytest
from cli_harness import only, tiny

from msgm_bench import UsageError
from msgm_bench.cache.stage import Stage
from msgm_bench.experiment import shared_stages
from msgm_bench.experiment.training_stages import Train
from msgm_builtin.executors.local import Local


def silent(*progress):
    """A callback of progress that does nothing."""


@pytest.fixture
def pair(child):
    """``pair(arguments, **environment)``: both processes of a run, the first one first."""

    def start(arguments, **env):
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            port = str(place.getsockname()[1])
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} | env
        return [child(arguments, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in (0, 1)]

    return start


@pytest.mark.usefixtures("fast", "cache")
def test_two_processes_make_one_run(pair, bench, tmp_path):
    """Values of one process, printed once; when the first one is killed, the second one ends."""
    chunks = ("-t", "generation.batch_size=20")
    assert bench(*tiny(*chunks, out=tmp_path / "alone"))[0] == 0
    arguments = tiny(*chunks, out=tmp_path / "pair")
    killed = pair(arguments, PROBE_KILL="SIGKILL|train obt|13", PROBE_CHECKPOINT="-1")
    assert [process.code() for process in killed] == [-signal.SIGKILL, 1]
    text = killed[1].output.read_text("utf-8")
    assert "another process of this run has ended" in text
    both = pair(arguments)
    assert [process.code() for process in both] == [0, 0]
    assert both[1].output.read_text("utf-8") == ""
    alone, together = only(tmp_path / "alone"), only(tmp_path / "pair")
    assert together["provenance"]["hardware"]["processes"] == 2
    assert together["provenance"]["passes"] == alone["provenance"]["passes"]
    for row, expected in zip(together["metrics"], alone["metrics"], strict=True):
        assert row["metric"] == expected["metric"]
        assert row["value"] == pytest.approx(expected["value"], rel=1e-5, abs=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("fast", "cache")
def test_the_first_process_draws_along_the_training(pair, tmp_path):
    """Samples of a training that both share; the other process waits for the next step."""
    arguments = tiny("--record-samples", "2", method="standard", out=tmp_path / "pair")
    both = pair(arguments)
    assert [process.code() for process in both] == [0, 0]
    assert len([*tmp_path.glob("pair/*/recording/*.png")]) == 3


class Closed(Stage):
    """A stage that no process can share."""

    name, inputs = "closed", {}
    reason_not_to_share = "it has no batches"

    def run(self, work, needs, report):
        """One file."""
        (work / "file").write_text("content", encoding="utf-8")


def test_a_stage_that_cannot_be_shared_states_why(tmp_path, monkeypatch, caplog):
    """The first process runs it alone, and nobody has to follow."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with caplog.at_level(logging.WARNING, "msgm_bench"):
        shared_stages._run_together(None, Closed(), tmp_path, {}, silent)
    assert (tmp_path / "file").exists()
    assert "closed: one of 2 processes: it has no batches" in caplog.text


def test_a_closed_form_is_not_shared():
    """It has preparation steps alone; any other method is shared on its device."""
    for closed_form, device in ((True, None), (False, "cpu")):
        method = SimpleNamespace(name="uce", closed_form=closed_form)
        runtime = SimpleNamespace(device=SimpleNamespace(type="cpu"))
        stage = SimpleNamespace(training=SimpleNamespace(method=method), runtime=runtime)
        assert Train.shared_on.fget(stage) == device
        assert (
            Train.reason_not_to_share.fget(stage).startswith("uce is a closed form") == closed_form
        )


def test_an_executor_is_refused(monkeypatch):
    """It would start processes beside those of the launcher."""
    executor = Local.create({"workers": 2})
    monkeypatch.setenv("WORLD_SIZE", "1")
    shared_stages.refuse(executor)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="--executor local in 2 processes"):
        shared_stages.refuse(executor)


def test_a_launch_that_is_none(bench, tmp_path, monkeypatch):
    """A rank beyond the number of processes is an error of one line before any training."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "7")
    code, out, err = bench(*tiny(out=tmp_path))
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: RANK=7 of WORLD_SIZE=2 processes",
        "allowed: 0 to 1, as torchrun and accelerate launch set it",
    ]
