"""Runs on a Slurm cluster."""

from __future__ import annotations

import concurrent.futures
import getpass
import logging
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from msgm_bench import Executor, MsgmBenchError, Options, Resources, UsageError, hookimpl
from msgm_builtin.executors.submitted_jobs import ResumableJob, Scheduler, SubmittedJobs
from msgm_builtin.extra import require

log = logging.getLogger(__name__)

MISSING_SECONDS = 20.0  # for files to travel, once a job has left the queue
COMMAND_SECONDS = 120


class SlurmOptions(Options):
    """What each job asks of the cluster."""

    partition: str | None = Field(None, description="partition; by default the cluster's own")
    account: str | None = Field(None, description="account that is charged")
    qos: str | None = Field(None, description="quality of service")
    minutes: int = Field(240, ge=5, description="time limit of a job, after which it resumes")
    resumes: int = Field(20, ge=0, description="times that a job resumes after its time limit")
    cpus: int | None = Field(None, ge=1, description="CPUs of a job; by default its threads")
    gpus: int = Field(0, ge=0, description="GPUs of a job")
    memory: float | None = Field(None, gt=0, description="memory of a job, GB")
    parallel: int = Field(256, ge=1, description="jobs of an array that run at once")
    setup: tuple[str, ...] = Field((), description="shell lines before a job, such as module load")
    sbatch: dict[str, Any] = Field({}, description="further options of sbatch, by name")
    folder: str = Field("", description="keeps scripts and logs; by default they go at the end")

    @field_validator("setup", mode="before")
    @classmethod
    def _lines(cls, value: Any) -> Any:
        """A text is one line."""
        return [value] if isinstance(value, str) else value


class Slurm(Executor[SlurmOptions]):
    """Runs as jobs of a Slurm cluster, submitted in arrays.

    A job that reaches its time limit or is preempted stores a checkpoint, is queued again and
    resumes. Run folders and cache lie where the nodes see them under the same path.
    """

    name = "slurm"
    citation = "submitit, https://github.com/facebookincubator/submitit"

    def pool(self, resources: Resources) -> concurrent.futures.Executor:
        """Jobs of the cluster.

        Raises:
            UsageError: submitit is not installed, or this is no machine of a cluster.
            MsgmBenchError: The scheduler does not answer.
        """
        submitit = require("submitit", "executor", self.name)
        if absent := [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]:
            raise UsageError(
                f"the executor 'slurm' needs {', '.join(absent)}, not found on this machine",
                hint="start the command on a login node of a Slurm cluster",
            )
        _command("squeue", "--noheader", f"--user={getpass.getuser()}")
        folder = Path(self.options.folder or resources.folder).expanduser().absolute()
        executor = submitit.SlurmExecutor(folder, max_num_timeout=self.options.resumes)
        executor.update_parameters(**self.parameters(resources))
        return SubmittedJobs(_Queue(executor))

    def parameters(self, resources: Resources) -> dict[str, Any]:
        """submitit's names for the options."""
        options = self.options
        threads = [
            f"export {v}={resources.threads}" for v in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        ]
        optional = {
            "partition": options.partition,
            "account": options.account,
            "qos": options.qos,
            "mem": None if options.memory is None else f"{round(options.memory * 1024)}MB",
            "gpus_per_node": options.gpus or None,
        }
        return {name: value for name, value in optional.items() if value is not None} | {
            "job_name": "msgm-bench",
            "time": options.minutes,
            "cpus_per_task": options.cpus or resources.threads,
            "array_parallelism": options.parallel,
            "setup": [*threads, *options.setup],
            "additional_parameters": {"requeue": True, **options.sbatch},
        }


class _Queue(Scheduler):
    """Slurm's queue, which need not keep accounts.

    Args:
        executor: submitit's executor.
    """

    poll_seconds = 2.0

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self.missing: dict[str, float] = {}  # when a job was first not in the queue

    def submit(self, jobs: Sequence[ResumableJob]) -> Sequence[Any]:
        """An array.

        Raises:
            MsgmBenchError: sbatch refuses it.
        """
        try:
            submitted: Sequence[Any] = self.executor.submit_array(jobs)
        except Exception as error:
            lines = [line for line in str(error).splitlines() if "sbatch: error:" in line]
            reason = lines[-1].partition("sbatch: error:")[2] if lines else str(error)
            raise MsgmBenchError(f"Slurm refuses the job: {' '.join(reason.split())}") from error
        return submitted

    def ended(self, jobs: Sequence[Any]) -> Mapping[str, str]:
        """Jobs that have left the queue for some seconds, with state and last words."""
        if not jobs:
            return {}
        try:
            user = f"--user={getpass.getuser()}"
            listed = _command("squeue", "--noheader", "--array", user, "--format=%i").split()
        except MsgmBenchError as error:
            log.warning("%s; jobs go on", error.what)
            return {}
        now = time.monotonic()
        absent = {job.job_id: job for job in jobs if job.job_id not in listed}
        self.missing = {number: self.missing.get(number, now) for number in absent}
        gone = [number for number, since in self.missing.items() if now - since > MISSING_SECONDS]
        return {number: _last_words(absent[number]) for number in gone}


def _last_words(job: Any) -> str:
    """State and last error line of a job without a result."""
    try:
        record = _command("scontrol", "show", "job", str(job.job_id), "-o")
    except MsgmBenchError:
        record = ""
    state = re.search(r"JobState=(\S+)", record)
    lines = [line for line in (job.stderr() or "").splitlines() if line.strip()]
    words = f": {lines[-1].strip()}" if lines else ""
    return (
        f"Slurm job {job.job_id} ended without a result{f' ({state[1]})' if state else ''}{words}"
    )


def _command(*words: str) -> str:
    """Output of one of Slurm's commands.

    Raises:
        MsgmBenchError: It fails, or does not answer.
    """
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True
        )
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split()) or f"exit code {error.returncode}"
        raise MsgmBenchError(f"Slurm does not answer: {reason}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MsgmBenchError(f"Slurm does not answer: {error}") from error
    return done.stdout


@hookimpl
def register_executors() -> Sequence[type[Executor]]:
    """Slurm."""
    return [Slurm]
