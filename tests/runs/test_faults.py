"""What goes wrong: the right exit code, a reason, and nothing lost."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from cli_harness import only, results, tiny

from msgm_bench import RunSpec, run
from msgm_bench.api.model import Model
from msgm_bench.errors import DivergenceError, StorageError
from msgm_bench.registry import registry
from msgm_bench.report import provenance

pytestmark = pytest.mark.usefixtures("fast", "probe", "cache")
OPTIONS = {
    "dataset": "gaussians",
    "forget": ("middle",),
    "backbone": "vesde",
    "steps": 20,
    "samples": 32,
    "dataset_params": {"train_size": 500, "test_size": 500},
    "backbone_params": {"width": 16, "depth": 1},
    "task_params": {"likelihood": {"rtol": 1e-2, "atol": 1e-2}},
}


# A run that fails -------------------------------------------------------------------------


def test_nan_loss(bench, tmp_path):
    """A method whose loss is NaN fails with its reason and its log; the others go on."""
    out = tmp_path / "runs"
    methods = ("explosive", "steady", "obt")
    code, stdout, err = bench(*tiny("-p", "explosive.at=9", method=methods, out=out))
    assert code == 1
    found = results(out)
    assert {method: r["status"] for (method, _), r in found.items()} == {
        "explosive": "failed",
        "steady": "ok",
        "obt": "ok",
    }
    failed = found["explosive", 0]
    assert "diverged at step 10" in failed["reason"]
    assert failed["metrics"] == []
    assert failed["reason"].splitlines()[0] in err
    assert "failed: explosive" in stdout
    (log,) = out.glob("*explosive*/train.jsonl")
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert rows[-2]["loss"] is not None
    assert rows[-1]["loss"] is None, "JSON has no NaN"


def test_nan_loss_in_python(tmp_path):
    """``run`` raises what the command line reports, and a second call fails alike."""
    spec = RunSpec(method="explosive", **OPTIONS)
    for _ in range(2):
        with pytest.raises(DivergenceError, match="diverged at step 6: loss"):
            run(spec, tmp_path / "runs")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("stop", "this leads nowhere"),
        ("crash", "ZeroDivisionError: a plugin's mistake"),
        (
            "trespass",
            "method 'picky' reads the split 'forget'\nallowed: it declares retain\n"
            'needs = frozenset({"forget", "retain"})',
        ),
    ],
)
def test_a_plugin_that_fails(fault, reason, bench, tmp_path):
    """Whatever a method raises, its own run fails with that reason."""
    out = tmp_path / "runs"
    code, _, _ = bench(*tiny("-p", f"picky.fault={fault}", method=("picky", "obt"), out=out))
    assert code == 1
    assert results(out)["picky", 0]["status"] == "failed"
    assert results(out)["picky", 0]["reason"] == reason
    assert results(out)["obt", 0]["status"] == "ok"


def test_an_incompatible_pair_is_skipped(bench, tmp_path):
    """``skip`` is an outcome with a reason, not a failure, and trains nothing."""
    out = tmp_path / "runs"
    code, stdout, _ = bench(*tiny(method=("picky", "obt"), out=out))
    assert code == 0
    skipped = results(out)["picky", 0]
    assert (skipped["status"], skipped["reason"]) == ("skipped", "it does not like this model")
    assert skipped["metrics"] == []
    assert "it does not like this model" in stdout


def test_nothing_but_skipped_cells_is_a_refusal(bench, tmp_path):
    """Who asks for one run that cannot be has asked for something wrong."""
    code, stdout, _ = bench(*tiny(method=("picky",), out=tmp_path / "runs"))
    assert (code, "it does not like this model" in stdout) == (2, True)


def test_a_failed_cell_is_tried_again(bench, tmp_path, monkeypatch):
    """When the cause is gone, the same command replaces the failed result by a good one."""
    out = tmp_path / "runs"
    judge = registry().entry("judges", "bayes").cls
    with monkeypatch.context() as patch:
        patch.setattr(judge, "fit", lambda *arguments: 1 / 0)
        assert bench(*tiny(out=out))[0] == 1
    assert only(out)["status"] == "failed"
    assert bench(*tiny(out=out))[0] == 0
    assert only(out)["status"] == "ok"
    assert len(list(out.iterdir())) == 1


# Disks and folders -------------------------------------------------------------------------


def full_disk(monkeypatch, part):
    """From now on there is no room for files whose names contain ``part``."""
    replace = os.replace

    def refuse(source, target, **options):
        if part in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target, **options)

    monkeypatch.setattr(os, "replace", refuse)


@pytest.mark.parametrize(
    "part", ["weights.safetensors", "artifact.safetensors", "rows.json", "stage.json", "model.json"]
)
def test_full_disk(part, bench, tmp_path, monkeypatch, cache):
    """Wherever the disk is full: exit 1, what to do, earlier results kept; then it goes on."""
    out = tmp_path / "runs"
    assert bench(*tiny(method="steady", out=out))[0] == 0
    (before,) = out.rglob("result.json")
    content = before.read_bytes()
    with monkeypatch.context() as patch:
        full_disk(patch, part)
        code, _, err = bench(*tiny(method=("steady", "obt"), out=out))
    assert code == 1
    assert "the disk is full: make room" in err
    assert before.read_bytes() == content
    litter = [path for path in tmp_path.rglob(".*") if path.name != ".writable"]
    assert not litter, "no half-written files"
    assert bench(*tiny(method=("steady", "obt"), out=out))[0] == 0
    assert {result["status"] for result in results(out).values()} == {"ok"}


def test_full_disk_under_the_results(bench, tmp_path, monkeypatch):
    """Where not even the failed result fits, the command says so and ends with 1."""
    out = tmp_path / "runs"
    with monkeypatch.context() as patch:
        full_disk(patch, "runs")
        code, _, err = bench(*tiny(out=out))
    assert code == 1
    assert "No space left on device" in err
    assert not list(out.rglob("result.json"))
    assert bench(*tiny(out=out))[0] == 0


def test_full_disk_at_a_checkpoint(bench, tmp_path, monkeypatch, cache):
    """torch's own words for a full disk become a StorageError; the last checkpoint stays."""
    monkeypatch.setattr("msgm_bench.training.trainer.CHECKPOINT_SECONDS", -1)
    out, save, calls = tmp_path / "runs", torch.save, []

    def refuse(state, path):
        calls.append(path)
        if len(calls) > 5:
            raise RuntimeError("[enforce fail at inline_container.cc:783] . unexpected pos 64 vs 0")
        save(state, path)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", refuse)
        code, _, err = bench(*tiny(out=out))
    assert code == 1
    assert "is the disk full?" in err
    assert len(list(cache.glob("partial/*/checkpoint.pt"))) == 1
    monkeypatch.setenv("PROBE_LOG", str(tmp_path / "log"))
    assert bench(*tiny(out=out))[0] == 0
    assert '"step_ended", "train obt", 6]' in (tmp_path / "log").read_text("utf-8").splitlines()[3]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("room", [0, 2_000, 20_000, 60_000])
def test_a_disk_that_is_really_full(room, small_disk, bench, tmp_path, monkeypatch):
    """Wherever a real disk runs full, exit 1 says so; with room, the same command succeeds."""
    out = tmp_path / "runs"
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(small_disk / "cache"))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
    code, _, err = bench(*tiny(out=out))
    assert code == 1
    assert "cannot write" in err
    assert "unexpected error" not in err
    ballast.unlink()
    code, _, err = bench(*tiny(out=out))
    assert code == 0, err
    assert only(out)["status"] == "ok"


@pytest.mark.parametrize("where", ["out", "cache"])
def test_a_folder_under_a_file(where, bench, tmp_path, monkeypatch):
    """A folder that cannot be made: exit 1 before anything is trained."""
    (tmp_path / "file").write_text("")
    out = tmp_path / "runs"
    if where == "out":
        out = tmp_path / "file" / "runs"
    else:
        monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "file" / "cache"))
    code, _, err = bench(*tiny(out=out))
    assert code == 1
    assert f"cannot write {tmp_path / 'file'}" in err
    assert "Traceback" not in err
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("where", ["runs", "cache"])
def test_a_folder_without_permission(where, bench, tmp_path, monkeypatch):
    """No permission: exit 1, and which option or variable would help."""
    touch = Path.touch

    def refuse(self, *arguments, **options):
        if where in self.parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        touch(self, *arguments, **options)

    monkeypatch.setattr(Path, "touch", refuse)
    code, _, err = bench(*tiny(out=tmp_path / "runs"))
    assert code == 1
    assert "Permission denied" in err
    assert "choose another with --out or MSGM_BENCH_CACHE" in err


def test_storage_errors_in_python(tmp_path, monkeypatch):
    """``run`` raises StorageError."""
    full_disk(monkeypatch, "weights")
    with pytest.raises(StorageError, match="No space left"):
        run(RunSpec(method="obt", **OPTIONS), tmp_path / "runs")


# Values that are not there -----------------------------------------------------------------


def explode(monkeypatch, beyond):
    """Where there is hardly any noise, models answer NaN to items right of ``beyond``."""

    def eps_fn(self):
        def eps(x_t, t):
            wrong = (x_t[:, :1] > beyond) & (t[:, None] < self.process.t_min + 1e-3)
            return torch.where(wrong, torch.nan, self.eps(x_t, t))

        return eps

    monkeypatch.setattr(Model, "eps_fn", property(eps_fn))


@pytest.mark.parametrize(("beyond", "median"), [(3.0, True), (-1.5, False)])
def test_failed_integrations(beyond, median, bench, tmp_path, monkeypatch):
    """The mean is null with its reason, the median counts the failed as infinite."""
    explode(monkeypatch, beyond)
    code, stdout, err = bench(*tiny(out=tmp_path / "runs"))
    assert code == 0, err
    rows = {
        (row["metric"], row["split"]): row
        for row in only(tmp_path / "runs")["metrics"]
        if row["task"] == "likelihood"
    }
    failed = rows["nll_failed", "retain"]["value"]
    assert 0 < failed < 100
    count = round(failed * 32 / 100)
    assert rows["nll", "retain"]["value"] is None
    assert rows["nll", "retain"]["reason"] == f"{count} of 32 integrations failed"
    assert rows["nll_nats", "retain"]["value"] is None
    assert rows["nll_finite_mean", "retain"]["value"] is not None
    assert rows["nll_finite_mean", "retain"]["n"] == 32 - count
    assert (rows["nll_median", "retain"]["value"] is not None) == median == (failed < 50)
    assert rows["nll_median", "retain"]["reason"] == (None if median else "the value is inf")
    assert "–" in stdout or "-" in stdout
    report = next((tmp_path / "runs").rglob("report.md")).read_text("utf-8")
    assert f"nll on retain: {count} of 32 integrations failed" in report


def test_everything_fails(bench, tmp_path, monkeypatch):
    """A model that never answers: no crash, nulls, and samples that nobody recognises."""
    explode(monkeypatch, -torch.inf)
    assert bench(*tiny(out=tmp_path / "runs"))[0] == 0
    result = only(tmp_path / "runs")
    values = {(row["metric"], row["split"]): row["value"] for row in result["metrics"]}
    assert values["nll_failed", "retain"] == values["nll_failed", "forget"] == 100
    assert values["nll", "forget"] is None
    assert ("nll_finite_mean", "retain") not in values
    assert values["unrecognisable", "samples"] == 100
    assert values["ur", "samples"] == 0


def test_nan_samples_are_drawn(bench, tmp_path, monkeypatch):
    """The pictures of a run whose samples are NaN do not fail it."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "cache"))
    explode(monkeypatch, 0.0)
    code, _, err = bench(*tiny(out=tmp_path / "runs"))
    assert code == 0, err
    drawn = {path.name for path in (tmp_path / "runs").rglob("*.png")}
    assert drawn == {"loss.png", "generation.png", "score.png"}


# Commands that can be repeated -------------------------------------------------------------


def test_the_command_in_provenance_repeats_the_cell(bench, tmp_path, monkeypatch):
    """With every kind of value: numbers, nothing, lists, seeds and the runtime."""
    arguments = tiny(
        *("-p", "hinge=null", "-p", "use_cosine=true", "-p", "alpha=0.6"),
        *("-b", "attention=[4, 8]", "--train-seed", "3", "--regime", "finetune"),
        *("--device", "cpu", "--precision", "tf32"),
        out=tmp_path / "runs",
    )
    assert bench(*arguments)[0] == 0
    told = shlex.split(only(tmp_path / "runs")["provenance"]["command"])
    assert told[0] == "msgm-bench"
    assert bench(*told[1:], "--out", tmp_path / "runs")[0] == 0
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_outside_a_checkout(monkeypatch):
    """Without git there is no commit, and no error."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert provenance.git_commit() is None
