"""Tasks on Ray: options and errors everywhere, a cluster of this machine by ``make slow``."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import types

import pytest
from cli_harness import results, tiny

from msgm_bench import MsgmBenchError, OptionError, Resources, UsageError
from msgm_bench.testing import check_executor
from msgm_builtin.executors.ray import Ray

with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed"
)
NODE = {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0}}


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    """With what installs it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"needs ray.*\n.*pip install 'msgm-bench\[ray\]'"):
        Ray.create().pool(Resources(1, False, tmp_path))


@pytest.mark.parametrize(
    ("options", "gpu", "request_"),
    [
        ({}, False, (2, 0)),
        ({}, True, (2, 1)),
        ({"gpus": 0.5, "cpus": 1}, True, (1, 0.5)),
    ],
)
def test_the_request_of_a_job(options, gpu, request_, tmp_path):
    """Its threads are its CPUs, and it has a GPU where the cluster has some."""
    resources = Resources(2, gpu, tmp_path)
    request = Ray.create(options)._request([NODE], resources)
    assert (request["num_cpus"], request["num_gpus"]) == request_
    assert Ray.create(options)._request([NODE | {"Alive": False}, NODE], resources) == request


@pytest.mark.parametrize(("options", "kind"), [({"cpus": 5}, "CPU"), ({"gpus": 3}, "GPU")])
def test_no_node_has_so_many(options, kind, tmp_path):
    """Refused before training: such a job would wait for ever."""
    with pytest.raises(OptionError, match=rf"{kind}s for a job of the executor 'ray'"):
        Ray.create(options)._request([NODE], Resources(1, True, tmp_path))


def test_no_cluster_at_an_address(tmp_path, monkeypatch):
    """Said at once, as the reason of the runs that would be sent."""
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    with pytest.raises(MsgmBenchError, match=r"no Ray cluster at '127\.0\.0\.1:1'.*refused"):
        Ray.create({"address": "127.0.0.1:1"}).pool(Resources(1, False, tmp_path))


def die_at_first(path):
    """End the worker in the first attempt."""
    if not os.path.exists(path):
        open(path, "w").close()
        os._exit(3)
    return "resumed"


def work_on():
    """Do step after step, until an interrupt comes."""
    while True:
        time.sleep(0.05)


@pytest.fixture
def patience(monkeypatch):
    """Time for a cluster to start on a busy machine."""
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")


@with_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_conforms(patience):
    """Outcomes, exceptions, a worker that dies, Ctrl-C, on a cluster of this machine."""
    check_executor(Ray, {"retries": 0})


@with_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_of_this_machine(patience, fast, cache, bench, tmp_path):
    """A second attempt, an interrupt, and a grid."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    pool = Ray.create({"retries": 1}).pool(Resources(1, False, tmp_path))
    assert pool.submit(die_at_first, str(tmp_path / "mark")).result() == "resumed"
    future = pool.submit(work_on)
    time.sleep(2)
    pool.shutdown(cancel_futures=True)
    assert isinstance(future.exception(), KeyboardInterrupt)
    code, _, err = bench(
        *tiny("--executor", "ray", method=("obt", "unseen"), out=tmp_path / "runs")
    )
    assert code == 0, err
    assert {result["status"] for result in results(tmp_path / "runs").values()} == {"ok"}
