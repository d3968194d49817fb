"""Runs on a Ray cluster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from msgm_bench import Executor, MsgmBenchError, OptionError, Options, Resources, hookimpl
from msgm_builtin.extra import require

Future = concurrent.futures.Future[Any]
CONNECTION_SECONDS = 20.0
GRACE = 60.0  # seconds for the step at hand, when the command is interrupted


class RayOptions(Options):
    """The cluster, and what each job asks of it."""

    address: str = Field(
        "local", min_length=1, description="local: a cluster on this machine, for this command; "
        "auto: the one that runs here; or an address",
    )  # fmt: skip
    retries: int = Field(
        2, ge=0, le=1000, description="times that a job is tried again after its worker died"
    )
    cpus: float | None = Field(None, gt=0, description="CPUs of a job; by default its threads")
    gpus: float | None = Field(
        None, ge=0, description="GPUs of a job, such as 0.5; by default 1 where there are some"
    )


class Ray(Executor[RayOptions]):
    """Runs as tasks of a Ray cluster; a task whose worker or node dies is tried again and resumes.

    Run folders and cache lie where all nodes see them under the same path.
    """

    name = "ray"
    citation = "Moritz et al. 2018, https://arxiv.org/abs/1712.05889"

    def pool(self, resources: Resources) -> concurrent.futures.Executor:
        """Tasks of the cluster.

        Raises:
            UsageError: Ray is not installed, or no node has so many CPUs or GPUs.
            MsgmBenchError: There is no cluster at the address.
        """
        ray = require("ray", "executor", self.name)
        threads = str(resources.threads)
        variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        variables |= {k: v for k, v in os.environ.items() if k.startswith("MSGM_BENCH_")}
        _reach(self.options.address)
        try:
            ray.init(
                address=self.options.address,
                runtime_env={"env_vars": variables},
                log_to_driver=False,
                logging_level=logging.WARNING,
                **({"include_dashboard": False} if self.options.address == "local" else {}),
            )
        except Exception as error:
            raise MsgmBenchError(
                f"no Ray cluster at {self.options.address!r}: {str(error).splitlines()[0]}",
                hint="`ray start --head` starts one; local needs none",
            ) from error
        try:
            return _Tasks(ray, self._request(ray.nodes(), resources), self.options.retries)
        except BaseException:
            ray.shutdown()
            raise

    def _request(
        self, nodes: Sequence[Mapping[str, Any]], resources: Resources
    ) -> dict[str, float]:
        """CPUs and GPUs of a job.

        Raises:
            OptionError: No node has so many, so that jobs would wait for ever.
        """
        alive = [node["Resources"] for node in nodes if node["Alive"]]
        most = {
            kind: max((n.get(kind, 0.0) for n in alive), default=0.0) for kind in ("CPU", "GPU")
        }
        gpus = self.options.gpus
        if gpus is None:
            gpus = float(resources.gpu and most["GPU"] >= 1)
        cpus = self.options.cpus or float(resources.threads)
        for kind, wanted in (("CPU", cpus), ("GPU", gpus)):
            if wanted > most[kind]:
                raise OptionError(
                    f"{wanted:g} {kind}s for a job of the executor 'ray'",
                    f"at most {most[kind]:g}, as many as a node of the cluster has",
                    f"-x ray.{kind.lower()}s",
                )
        return {"num_cpus": cpus, "num_gpus": gpus}


class _Tasks(concurrent.futures.Executor):
    """Futures of Ray's tasks.

    Args:
        ray: The module, connected to a cluster.
        request: CPUs and GPUs of a task.
        retries: Times that a task is tried again after its worker died.
    """

    def __init__(self, ray: Any, request: Mapping[str, float], retries: int) -> None:
        self.ray = ray
        self.task = ray.remote(_do).options(max_retries=retries, **request)
        self.references: dict[Future, Any] = {}

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future:
        """A task that does the job."""
        future = Future()
        reference = self.task.remote(os.getcwd(), function, arguments, options)
        self.references[future] = reference
        reference.future().add_done_callback(lambda done: self._settle(future, done))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster once the tasks have ended; with ``cancel_futures`` cancel them.

        Ray's cancellation is a KeyboardInterrupt in the task, at which training stores a
        checkpoint.
        """
        if cancel_futures:
            for reference in self.references.values():
                self.ray.cancel(reference, force=False)
        if wait:
            concurrent.futures.wait(self.references, GRACE if cancel_futures else None)
            for future in self.references:
                future.cancel()  # its task goes with the connection
        self.ray.shutdown()

    def _settle(self, future: Future, done: Future) -> None:
        """Give a job's future the outcome of its task."""
        if future.cancelled():
            return
        error = done.exception()
        if error is not None:
            future.set_exception(_task_error(error))
            return
        outcome, raised = done.result()
        if raised is not None:
            future.set_exception(raised)
        else:
            future.set_result(outcome)


def _reach(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself tries for many minutes.

    Raises:
        MsgmBenchError: There is nothing at ``HOST:PORT``.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal() and "/" not in host):
        return
    try:
        socket.create_connection((host, int(port)), CONNECTION_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise MsgmBenchError(
            f"no Ray cluster at {address!r}: {error}", hint="`ray start --head` starts one"
        ) from error


def _do(
    folder: str, function: Callable[..., Any], arguments: Sequence[Any], options: Mapping[str, Any]
) -> tuple[Any, BaseException | None]:
    """A job in a worker: what it returns, and the exception that it ends with."""
    with _working_folder(folder):
        try:
            return function(*arguments, **options), None
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outcome of the job
            return None, error


@contextlib.contextmanager
def _working_folder(folder: str) -> Iterator[None]:
    """The command's folder, where the node has it: paths of trackers are relative to it."""
    with contextlib.ExitStack() as stack:
        if os.path.isdir(folder):
            stack.enter_context(contextlib.chdir(folder))
        yield


def _task_error(error: BaseException) -> Exception:
    """Why Ray has no outcome of a task, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = type(error).__name__
    if "RayTaskError" in name or not lines:  # the job could not be loaded in the worker
        return MsgmBenchError(f"a Ray worker cannot do the job: {lines[-1] if lines else name}")
    return MsgmBenchError(
        f"a Ray worker was lost ({name}): {lines[0]}", hint="repeat the command to continue"
    )


@hookimpl
def register_executors() -> Sequence[type[Executor]]:
    """Ray."""
    return [Ray]
