"""Two processes train, draw and end as one does; each of the tests looks at one pair's work."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import cli_harness
import pytest
import sharing
import torch

from msgm_bench import UsageError
from msgm_bench.launch import Launch, launched
from msgm_bench.storage.tensors import load_tensors


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What both processes report, their folder, and what the first one raised at the end."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    both = [
        cli_harness.CONTEXT.Process(target=sharing.run, args=(rank, port, str(folder)))
        for rank in (0, 1)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
    codes = [process.exitcode for process in both]
    results = [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]
    killed = (folder / "killed.txt").read_text("utf-8")
    return SimpleNamespace(results=results, folder=folder, codes=codes, killed=killed)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The trainings of one process."""
    return sharing.trainings(tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("name", [*sharing.METHODS, "any_loss"])
def test_weights_are_those_of_one_process(name, pair, alone):
    """Whatever the loss is: to 1e-6 of the largest weight, equal in both processes, and counted."""
    first, second = (results["trainings"][name] for results in pair.results)
    assert torch.equal(first["weights"], second["weights"])
    scale = float(alone[name]["weights"].abs().max())
    torch.testing.assert_close(first["weights"], alone[name]["weights"], rtol=0, atol=1e-6 * scale)
    assert first["passes"] == second["passes"] == alone[name]["passes"]
    for row, expected in zip(first["log"], alone[name]["log"], strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_dropout_differs_between_processes(pair):
    """Equal items in two shares lose other entries; the generators agree again afterwards."""
    (first, gradient, state), second = (results["calls"]["dropout"] for results in pair.results)
    assert torch.equal(first, second[0])
    assert torch.equal(gradient, second[1])
    assert torch.equal(state, second[2])
    shares = first.chunk(2)
    assert not torch.equal(*(share == 0 for share in shares))
    assert 0.25 < float((first == 0).float().mean()) < 0.75


@pytest.mark.parametrize("name", ["batch_norm", "one item"])
def test_calls_that_cannot_be_shared(name, pair):
    """Batch normalisation and a batch of one item are every process's whole, with its gradient."""
    expected = sharing.shared_calls()[name]
    for results in pair.results:
        for value, whole in zip(results["calls"][name], expected, strict=True):
            assert torch.equal(value, whole)


@pytest.mark.parametrize("name", ["whole", "resumed"])
def test_items_are_shared(name, pair):
    """Each item is computed once, by either process, and lies in its place."""
    own = [set(results[name]) for results in pair.results]
    assert not own[0] & own[1]
    assert min(map(len, own)) >= 8
    assert own[0] | own[1] == set(range(23))
    place = pair.folder / ("whole" if name == "whole" else "")
    items = load_tensors(place / "items.safetensors")["x"]
    assert torch.equal(items, torch.arange(23).float().sqrt())
    assert not list(place.glob("chunk-*"))


@pytest.mark.parametrize("rank", [0, 1])
def test_interruption_of_either_process(rank, pair):
    """SIGTERM ends both after a checkpoint of the first one; resumed, no bit differs."""
    for results in pair.results:
        stopped, whole = results["interrupted"][rank], results["interrupted"][None]
        assert stopped["files"] == ["checkpoint.pt"]
        assert whole["files"] == []
        assert torch.equal(stopped["weights"], whole["weights"])
        assert stopped["log"] == whole["log"]


@pytest.mark.parametrize("rank", [0, 1])
def test_failure_of_one_process(rank, pair):
    """It raises its own error, and the other one the reason; both go on with the next work."""
    failed, other = pair.results[rank]["failed"][rank], pair.results[1 - rank]["failed"][rank]
    assert failed == ("ZeroDivisionError", f"in process {rank}")
    assert other[0] == "MsgmBenchError"
    assert f"process {rank} failed: ZeroDivisionError: in process {rank}" in other[1]


def test_processes_with_different_checkpoints(pair):
    """A cache that is not shared is an error before the first step, in both."""
    for results in pair.results:
        assert "find different checkpoints" in results["checkpoints"]


def test_a_killed_process_ends_the_other(pair):
    """One clear sentence, and no waiting."""
    assert pair.codes == [0, -9]
    assert "another process of this run has ended" in pair.killed
    assert "repeat the command" in pair.killed


def test_launch_reads_what_launchers_set(monkeypatch):
    """RANK and LOCAL_RANK count where WORLD_SIZE is above 1."""
    for variable in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    assert launched() == Launch(0, 1, 0)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched() == Launch(0, 1, 0)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert launched() == Launch(3, 4, 3)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert launched() == Launch(3, 4, 1)


@pytest.mark.parametrize(
    ("variable", "text"), [("WORLD_SIZE", "two"), ("RANK", "2"), ("RANK", "-1"), ("RANK", "")]
)
def test_launch_refuses_other_values(variable, text, monkeypatch):
    """No number, or a rank that is not below the number of processes."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv(variable, text)
    with pytest.raises(UsageError, match=variable):
        launched()
