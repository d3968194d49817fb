"""Jobs on Slurm: submitit against commands that do what Slurm's do, and against Slurm itself."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import operator
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import fake_slurm
import pytest

from msgm_bench import MsgmBenchError, OptionText, Resources, UsageError
from msgm_bench.testing import check_executor
from msgm_builtin.executors import slurm as slurm_executor
from msgm_builtin.executors.slurm import Slurm

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None or sys.platform == "win32",
    reason="submitit is not installed",
)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A Slurm of one process a job; the folder with what happens in it."""
    place = tmp_path / "slurm"
    place.mkdir()
    for name in ("FAKE_SLURM", "PATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    fake_slurm.install(place)
    monkeypatch.setattr(slurm_executor, "MISSING_SECONDS", 1.0)
    monkeypatch.setattr(slurm_executor._Queue, "poll_seconds", 0.2)
    return place


@contextlib.contextmanager
def opened(tmp_path, **options):
    """A pool of jobs."""
    folder = tmp_path / "pool"
    folder.mkdir(exist_ok=True)
    pool = Slurm.create(options).pool(Resources(1, False, folder))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def test_jobs_are_an_array_and_each_has_its_outcome(cluster, tmp_path):
    """Values and exceptions come back; a job that dies leaves the others alone."""
    with opened(tmp_path) as pool:
        futures = [
            pool.submit(math.sqrt, 4.0),
            pool.submit(os._exit, 3),
            pool.submit(math.sqrt, -1.0),
            pool.submit(operator.add, "a", "b"),
        ]
        assert futures[0].result() == 2.0
        assert futures[3].result() == "ab"
        assert isinstance(futures[2].exception(), ValueError)
        with pytest.raises(
            MsgmBenchError, match=r"Slurm job 1_1 ended without a result \(FAILED\)"
        ):
            futures[1].result()
        assert pool.submit(operator.add, 1, 2).result() == 3
    assert (cluster / "sizes").read_text("utf-8").split("\n") == ["3", "", ""]


def test_a_full_queue(cluster, tmp_path):
    """A refused array goes in halves; a job that is refused beside none of its own fails."""
    (cluster / "refuse").write_text("1", encoding="utf-8")
    with opened(tmp_path) as pool:
        futures = [pool.submit(operator.add, number, 1) for number in range(3)]
        assert [future.result() for future in futures] == [1, 2, 3]
        (cluster / "refuse").write_text("0", encoding="utf-8")
        error = pool.submit(operator.add, 1, 2).exception()
    assert str(error).startswith("Slurm refuses the job: Batch job submission failed: Job violates")


def work_until_warned(path):
    """At first work on until a signal comes, as training does; the second time be done."""
    place = Path(path)
    if place.exists():
        return place.read_text("utf-8")
    try:
        place.with_name("pid").write_text(str(os.getpid()), "utf-8")
        while True:
            time.sleep(0.05)
    except KeyboardInterrupt:
        place.write_text("resumed", "utf-8")
        raise


def test_a_job_at_its_time_limit_resumes(cluster, tmp_path):
    """Slurm's warning becomes an interrupt, after which the job is queued again."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with opened(tmp_path) as pool:
        future = pool.submit(work_until_warned, str(tmp_path / "checkpoint"))
        pid = tmp_path / "pid"
        while not (pid.exists() and pid.read_text("utf-8")):
            assert not future.done(), future.exception()
            time.sleep(0.1)
        subprocess.run(["kill", "-USR2", pid.read_text("utf-8")], check=True)
        assert future.result() == "resumed"
    assert (cluster / "requeued").read_text("utf-8").split() == ["1"]


def test_an_interrupt_cancels_jobs(cluster, tmp_path):
    """What runs is cancelled by its number, and nothing is waited for."""
    with opened(tmp_path) as pool:
        future = pool.submit(time.sleep, 600)
        while not list((cluster / "jobs").iterdir()):
            time.sleep(0.1)
        time.sleep(0.5)
    assert future.cancelled()
    assert (cluster / "cancelled").read_text("utf-8").split() == ["1"]


def test_no_scheduler(cluster, tmp_path, monkeypatch):
    """One that does not answer, and a machine of no cluster."""
    (cluster / "dead").touch()
    with pytest.raises(MsgmBenchError, match="does not answer: slurm_load_jobs error: Unable"):
        Slurm.create().pool(Resources(1, False, tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="needs sbatch, squeue, srun, not found"):
        Slurm.create().pool(Resources(1, False, tmp_path))


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    """With what installs it."""
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"needs submitit.*\n.*pip install 'msgm-bench\[slurm\]'"):
        Slurm.create().pool(Resources(1, False, tmp_path))


def test_options_are_those_of_sbatch(tmp_path):
    """Partition, account, limits and further options; threads are the CPUs of a job."""
    options = {
        "partition": "gpu", "account": "lab", "minutes": 30, "gpus": 1, "memory": 1.5,
        "setup": OptionText("module load cuda"), "sbatch": OptionText("{constraint: a100}"),
    }  # fmt: skip
    parameters = Slurm.create(options).parameters(Resources(4, True, tmp_path))
    assert parameters["partition"] == "gpu"
    assert parameters["account"] == "lab"
    assert (parameters["time"], parameters["gpus_per_node"]) == (30, 1)
    assert (parameters["mem"], parameters["cpus_per_task"]) == ("1536MB", 4)
    assert parameters["setup"] == [
        "export OMP_NUM_THREADS=4", "export MKL_NUM_THREADS=4", "module load cuda",
    ]  # fmt: skip
    assert parameters["additional_parameters"] == {"requeue": True, "constraint": "a100"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("slurmctld") is None, reason="Slurm is not installed")
def test_slurm_itself(tmp_path):
    """The conformance checks on the cluster of this machine, if it answers."""
    if subprocess.run(["sinfo"], check=False, capture_output=True).returncode:
        pytest.skip("Slurm does not answer here")
    check_executor(Slurm, {"minutes": 5, "parallel": 2, "folder": str(tmp_path / "pool")})
