"""What is computed once, shared, verified and computed again."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest
from cli_harness import only, results, tiny
from hypothesis import example, given
from hypothesis import strategies as st

from msgm_bench import hookimpl
from msgm_bench.cache import cache as caching
from msgm_bench.cache.cache import Cache
from msgm_bench.cache.stage import Stage
from msgm_bench.errors import StorageError
from msgm_bench.registry import registry

pytestmark = pytest.mark.usefixtures("fast", "probe")


def told(log):
    """``stage: cached`` of every stage that the probe heard end, in order."""
    events = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    return [(event[1], event[2]) for event in events if event[0] == "stage_ended"]


def stages(cache, name):
    """Finished stages of this name."""
    records = {path: json.loads((path / "stage.json").read_text()) for path in cache.glob("done/*")}
    return [path for path, record in records.items() if record["name"] == name]


def test_same_seed_twice(bench, tmp_path, monkeypatch):
    """Two fresh caches and one seed: equal rows; another seed: other rows."""
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / f"cache-{name}"))
        assert bench(*tiny("--seed", seed, out=tmp_path / name))[0] == 0
        found.append(only(tmp_path / name)["metrics"])
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize(
    ("option", "same"),
    [
        ("--train-seed", {"train standard": False, "train obt": False}),
        ("--unlearn-seed", {"train standard": True, "train obt": False}),
        ("--sample-seed", {"train standard": True, "train obt": True, "draw generation": False}),
    ],
)
def test_each_seed_has_its_stages(option, same, cache, bench, tmp_path, monkeypatch):
    """A seed that is overridden redoes what depends on it and nothing before."""
    arguments = tiny("--regime", "finetune", out=tmp_path / "runs")
    assert bench(*arguments)[0] == 0
    monkeypatch.setenv("PROBE_LOG", str(tmp_path / "log"))
    assert bench(*arguments, option, 5)[0] == 0
    found = dict(told(tmp_path / "log"))
    assert {name: found[name] for name in same} == same


def test_repeating_resumes_in_the_same_folder(cache, bench, tmp_path, monkeypatch):
    """The same command finds its folder and leaves result.json as it is."""
    out = tmp_path / "runs"
    assert bench(*tiny(out=out))[0] == 0
    (path,) = out.rglob("result.json")
    before = path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()
    monkeypatch.setenv("PROBE_LOG", str(tmp_path / "log"))
    assert bench(*tiny(out=out))[0] == 0
    assert (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()) == before
    assert len(list(out.iterdir())) == 1
    assert all(cached for _, cached in told(tmp_path / "log"))


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe\x00", b"[]", None])
def test_a_lost_result_is_written_again(damage, cache, bench, tmp_path):
    """A result.json that is damaged or gone comes back from the cache, with the same rows."""
    out = tmp_path / "runs"
    assert bench(*tiny(out=out))[0] == 0
    before = only(out)
    (path,) = out.rglob("result.json")
    path.unlink() if damage is None else path.write_bytes(damage)
    assert bench(*tiny(out=out))[0] == 0
    after = only(out)
    assert (after["spec"], after["metrics"]) == (before["spec"], before["metrics"])
    assert after["provenance"]["stages"] == before["provenance"]["stages"]


def test_one_result_a_cell_written_last(cache, bench, tmp_path, monkeypatch):
    """Two methods that share a base: two results, each the newest file of its folder."""
    out = tmp_path / "runs"
    monkeypatch.setenv("PROBE_LOG", str(tmp_path / "log"))
    arguments = tiny("--regime", "finetune", method=("obt", "finetune"), out=out)
    assert bench(*arguments)[0] == 0
    assert set(results(out)) == {("obt", 0), ("finetune", 0)}
    for path in out.rglob("result.json"):
        files = [file for file in path.parent.rglob("*") if file.is_file()]
        assert max(files, key=lambda file: file.stat().st_mtime_ns) == path
        assert not [file for file in files if file.name.startswith(".")]
    assert len(list(tmp_path.rglob("result.json"))) == 2, "bases and judges have none"
    found = told(tmp_path / "log")
    assert found.count(("train standard", False)) == 1
    assert found.count(("train standard", True)) == 1
    assert found.count(("fit judge bayes", False)) == 1
    assert len(stages(cache, "train standard")) == 1


def test_base_is_the_standard_model(cache, bench, tmp_path, monkeypatch):
    """The base of the finetune regime and the row ``standard`` are one trained model."""
    monkeypatch.setenv("PROBE_LOG", str(tmp_path / "log"))
    assert bench(*tiny(method="standard", out=tmp_path / "runs"))[0] == 0
    assert bench(*tiny("--regime", "finetune", out=tmp_path / "runs"))[0] == 0
    assert told(tmp_path / "log").count(("train standard", False)) == 1
    assert len(stages(cache, "train standard")) == 1


def test_baselines_keep_their_regime(cache, bench, tmp_path):
    """``standard`` joins a finetune grid as the reference that it is."""
    out = tmp_path / "runs"
    methods = ("standard", "finetune")
    assert bench(*tiny("--regime", "finetune", method=methods, out=out))[0] == 0
    regimes = {method: result["spec"]["regime"] for (method, _), result in results(out).items()}
    assert regimes == {"standard": "retrain", "finetune": "finetune"}


def test_forget_sets_give_different_models(cache, bench, tmp_path):
    """Another D_f: another unlearned model, but the same standard model."""
    arguments = tiny(method=("obt", "standard"), out=tmp_path / "runs")
    assert bench(*arguments)[0] == 0
    assert bench(*arguments, "--forget", "left")[0] == 0
    unlearned = stages(cache, "train obt")
    weights = {(path / "weights.safetensors").read_bytes() for path in unlearned}
    assert len(unlearned) == len(weights) == 2
    assert len(stages(cache, "train standard")) == 1


@pytest.mark.parametrize(
    ("option", "retrained"),
    [
        (("-p", "alpha=0.5"), True),
        (("-b", "width=24"), True),
        (("--steps", "21"), True),
        (("-d", "train_size=501"), True),
        (("-t", "generation.nfe=10"), False),
        (("--samples", "31"), False),
    ],
)
def test_what_a_model_depends_on(option, retrained, cache, bench, tmp_path):
    """Options of method, backbone, data and budget retrain; those of tasks do not."""
    assert bench(*tiny(out=tmp_path / "runs"))[0] == 0
    assert bench(*tiny(*option, out=tmp_path / "runs"))[0] == 0
    assert len(stages(cache, "train obt")) == 1 + retrained
    assert len(list(tmp_path.rglob("result.json"))) == 2


def largest(entry):
    """The largest file of an entry but its record."""
    files = (path for path in entry.iterdir() if path.name != "stage.json")
    return max(files, key=lambda path: path.stat().st_size)


def truncate(entry):
    """Half of the largest file."""
    path = largest(entry)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(entry):
    """One byte in the middle of the largest file."""
    path = largest(entry)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose(entry):
    """A file."""
    largest(entry).unlink()


def garble(entry):
    """The record, which is no JSON any more."""
    (entry / "stage.json").write_text("{")


def empty(entry):
    """The record, which names nothing."""
    (entry / "stage.json").write_text("{}")


def retype(entry):
    """The record, which is a list."""
    (entry / "stage.json").write_text("[]")


@pytest.mark.parametrize("damage", [truncate, flip, lose, garble, empty, retype])
def test_damaged_entries_are_computed_again(damage, cache, bench, tmp_path, caplog):
    """Whatever happened to the files of the cache, the rows are the same."""
    out = tmp_path / "runs"
    assert bench(*tiny(out=out))[0] == 0
    before = only(out)["metrics"]
    for entry in cache.glob("done/*"):
        damage(entry)
    (path,) = out.rglob("result.json")
    path.unlink()
    code, _, err = bench(*tiny(out=out))
    assert code == 0, err
    assert only(out)["metrics"] == before
    assert "is damaged: it is computed again" in caplog.text


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
def test_damaged_checkpoints_start_again(keep, cache, bench, tmp_path, monkeypatch, caplog):
    """A checkpoint that is cut short leads to the result that it would have led to."""
    out = tmp_path / "runs"
    monkeypatch.setenv("PROBE_KILL", "SIGINT|train obt|7")
    assert bench(*tiny(out=out))[0] == 130
    (path,) = cache.glob("partial/*/checkpoint.pt")
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    monkeypatch.delenv("PROBE_KILL")
    assert bench(*tiny(out=out))[0] == 0
    assert "checkpoint.pt is damaged" in caplog.text
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "other"))
    assert bench(*tiny(out=tmp_path / "other-runs"))[0] == 0
    assert only(out)["metrics"] == only(tmp_path / "other-runs")["metrics"]


def test_flipped_bits_in_a_checkpoint_are_seen(cache, bench, tmp_path, monkeypatch, caplog):
    """A byte of a weight that changed on the disk does not enter the result."""
    out = tmp_path / "runs"
    monkeypatch.setenv("PROBE_KILL", "SIGINT|train obt|7")
    assert bench(*tiny(out=out))[0] == 130
    (path,) = cache.glob("partial/*/checkpoint.pt")
    content = bytearray(path.read_bytes())
    for position in range(len(content) // 4, 3 * len(content) // 4, 997):
        content[position] ^= 4
    path.write_bytes(content)
    monkeypatch.delenv("PROBE_KILL")
    assert bench(*tiny(out=out))[0] == 0
    assert "checkpoint.pt is damaged" in caplog.text


# The cache by itself ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FunctionStage(Stage):
    """A stage that calls a function."""

    title: str
    values: dict = field(default_factory=dict)
    function: Callable = print
    before: dict = field(default_factory=dict)

    @property
    def name(self):
        """The title."""
        return self.title

    @cached_property
    def inputs(self):
        """The values."""
        return self.values

    @property
    def needs(self):
        """The stages before."""
        return self.before

    def run(self, work, needs, report):
        """Call it."""
        self.function(work, needs, report)


def counting(calls, fail=None):
    """A stage that writes one file and counts how often."""

    def write(work, needs, report):
        calls.append(work)
        (work / "file").write_text("content")
        if fail is not None:
            raise fail

    return FunctionStage("count", {"a": 1}, write)


def silent(*arguments):
    """Hears of progress."""


def test_only_success_is_cached(tmp_path):
    """A stage that fails is computed again; its folder keeps what it had."""
    calls, cache = [], Cache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.compute(counting(calls, ZeroDivisionError()), {}, silent)
    assert cache.find(counting(calls).key) is None
    assert (cache.partial(counting(calls).key) / "file").read_text() == "content"
    entry = cache.compute(counting(calls), {}, silent)
    assert cache.compute(counting(calls), {}, silent).path == entry.path
    assert len(calls) == 2


def test_a_kill_before_the_rename(tmp_path, monkeypatch):
    """The last moment before publication is safe, too; litter of the dead is not published."""
    calls, cache = [], Cache(tmp_path)

    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(caching.Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            cache.compute(counting(calls), {}, silent)
    (cache.partial(counting(calls).key) / ".file-x7d.tmp").write_text("half a file")
    entry = cache.compute(counting(calls), {}, silent)
    assert set(entry.record.files) == {"file"}
    assert sorted(path.name for path in entry.path.iterdir()) == ["file", "stage.json"]


def test_looking_deletes_nothing(tmp_path):
    """Only who holds the lock removes a damaged entry: another may just have replaced it."""
    cache = Cache(tmp_path)
    entry = cache.compute(counting([]), {}, silent)
    (entry.path / "file").write_text("changed")
    assert Cache(tmp_path).find(counting([]).key) is None
    assert entry.path.exists()
    again = Cache(tmp_path).compute(counting([]), {}, silent)
    assert (again.path / "file").read_text() == "content"


def test_keys_follow_needs():
    """A stage's key changes with the inputs of what it needs, and not with how it is made."""
    first, second = (FunctionStage("first", {"a": a}) for a in (1, 2))
    keys = {need: FunctionStage("x", before={"n": need}).key for need in (first, second)}
    assert keys[first] != keys[second]
    assert FunctionStage("x", function=silent, before={"n": first}).key == keys[first]
    assert FunctionStage("y").key != FunctionStage("x").key


def test_collect_leaves_what_is_locked(tmp_path):
    """``cache gc`` deletes everything old but what somebody computes."""
    cache, done = Cache(tmp_path), []

    def produce(work, needs, report):
        (work / "file").write_text("content")
        done.append(Cache(tmp_path).collect())
        assert (work / "file").exists()

    cache.compute(FunctionStage("busy", {}, produce), {}, silent)
    assert done == [(0, 0)]
    count, size = cache.collect()
    assert count == 1
    assert size > 0
    assert cache.entries() == []


def test_leased_entries_are_spared(tmp_path):
    """What a process has looked up stays until it lets go; then ``cache gc`` deletes it."""
    cache, stage = Cache(tmp_path), counting([])
    cache.compute(stage, {}, silent)
    assert Cache(tmp_path).collect() == (0, 0)
    cache.release()
    other = Cache(tmp_path)
    assert other.find(stage.key) is not None
    assert Cache(tmp_path).collect() == (0, 0)
    del other
    assert Cache(tmp_path).collect()[0] == 1
    assert cache.find(stage.key) is None


class Collector:
    """Empties the cache whenever a hook is called."""

    deleted = 0

    def collect(self):
        """``cache gc --all`` of another process."""
        self.deleted += Cache().collect()[0]

    @hookimpl
    def stage_started(self, stage):
        """Before a stage."""
        self.collect()

    @hookimpl
    def step_ended(self, stage):
        """Within a stage."""
        self.collect()

    @hookimpl
    def stage_ended(self, stage):
        """After a stage, also if it was cached."""
        self.collect()


@pytest.mark.parametrize("warm", [False, True])
def test_a_cell_while_somebody_empties_the_cache(warm, cache, bench, tmp_path):
    """``cache gc --all`` at every moment of a run takes nothing that the run needs."""
    arguments = tiny("--regime", "finetune", out=tmp_path / "runs")
    assert bench(*arguments)[0] == 0
    before = only(tmp_path / "runs")["metrics"]
    if not warm:
        Cache().collect()
    shutil.rmtree(tmp_path / "runs")
    collector, manager = Collector(), registry().manager
    manager.register(collector)
    try:
        code, _, err = bench(*arguments)
    finally:
        manager.unregister(collector)
    assert code == 0, err
    assert only(tmp_path / "runs")["metrics"] == before
    assert collector.deleted == 0
    assert Cache().collect()[0] == 6


def refuse_writing(monkeypatch, cache):
    """As on a read-only file system: nothing under the cache can be made."""
    touch, mkdir, opened = Path.touch, Path.mkdir, os.open

    def guarded(function):
        def guard(self, *arguments, **options):
            if Path(self).is_relative_to(cache):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return function(self, *arguments, **options)

        return guard

    def open_(path, flags, *arguments, **options):
        if flags & (os.O_WRONLY | os.O_RDWR) and Path(path).is_relative_to(cache):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *arguments, **options)

    monkeypatch.setattr(Path, "touch", guarded(touch))
    monkeypatch.setattr(Path, "mkdir", guarded(mkdir))
    monkeypatch.setattr(os, "open", open_)


def test_a_read_only_cache_that_holds_everything(cache, bench, tmp_path, monkeypatch):
    """It serves: the rows of the run that filled it."""
    assert bench(*tiny(out=tmp_path / "a"))[0] == 0
    refuse_writing(monkeypatch, cache)
    code, _, err = bench(*tiny(out=tmp_path / "b"))
    assert code == 0, err
    assert only(tmp_path / "b")["metrics"] == only(tmp_path / "a")["metrics"]
    code, out, _ = bench("doctor")
    assert (code, "read-only" in out) == (0, True)
    code, _, err = bench("cache", "gc", "--all")
    assert (code, "cannot write" in err) == (1, True)


def test_a_read_only_cache_that_lacks_something(cache, bench, tmp_path, monkeypatch):
    """The run says what is missing before it computes anything."""
    assert bench(*tiny(out=tmp_path / "a"))[0] == 0
    (rows,) = stages(cache, "measure")
    shutil.rmtree(rows)
    refuse_writing(monkeypatch, cache)
    code, out, err = bench(*tiny(out=tmp_path / "b"))
    assert code == 1
    assert "is read-only and lacks measure" in " ".join(out.split())
    assert "choose another with MSGM_BENCH_CACHE" in " ".join(out.split())
    assert "train obt" not in err


def pipe(path):
    """A named pipe, at which a reader would wait for ever."""
    os.mkfifo(path)


def link(path):
    """A symbolic link that leads out of the cache."""
    outside = path.parents[2] / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "file").write_text("content")
    path.symlink_to(outside / "file")


@pytest.mark.parametrize("put", [pipe, link, lambda path: path.symlink_to(path), Path.mkdir])
@pytest.mark.parametrize("where", ["entry", "file", "record", "partial", "chunk"])
def test_what_is_no_file(put, where, tmp_path, monkeypatch):
    """Pipes, links and folders where files should be: computed again, nothing outside touched."""
    monkeypatch.chdir(tmp_path)
    cache, calls, stage = Cache(tmp_path / "cache"), [], counting([])
    done, work = cache.root / "done" / stage.key, cache.partial(stage.key)
    if where in ("entry", "file", "record"):
        cache.compute(stage, {}, silent)
        cache.release()
    if where == "entry":
        shutil.rmtree(done)
    elif where == "chunk":
        work.mkdir()
    places = {"entry": done, "file": done / "file", "record": done / "stage.json"}
    place = (places | {"partial": work, "chunk": work / "chunk"})[where]
    place.unlink(missing_ok=True)
    put(place)
    again = Cache(tmp_path / "cache")
    again.entries()
    entry = again.compute(counting(calls), {}, silent)
    assert len(calls) == 1
    assert [path.name for path in sorted(entry.path.iterdir())] == ["file", "stage.json"]
    assert entry.path.resolve().is_relative_to(tmp_path / "cache")
    outside = tmp_path / "outside" / "file"
    assert not outside.exists() or outside.read_text() == "content"
    again.release()
    assert again.collect()[0] == 1


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
@example('{"name": 3, "inputs": {}, "files": {}}')
@example('{"name": "x", "inputs": {}, "files": {"../../file": {"bytes": 1, "sha256": ""}}}')
@example('{"name": "x", "inputs": {}, "files": {"a": {"bytes": -1, "sha256": ""}}}')
@example('{"name": "x", "inputs": {}, "files": {}, "seconds": NaN}')
@example("[" * 5000)
def test_damaged_records(text):
    """Whatever ``stage.json`` holds, the entry is damaged and not an error."""
    with tempfile.TemporaryDirectory() as place:
        cache, key = Cache(Path(place)), "0" * 64
        (cache.root / "done" / key).mkdir()
        (cache.root / "done" / key / "stage.json").write_bytes(text.encode("utf-8", "replace"))
        assert cache.find(key) is None
        (entry,) = cache.entries()
        assert (entry.record.name, entry.size, entry.seconds) == ("damaged", 0, 0.0)


def test_waiting_names_the_holder(tmp_path, caplog):
    """Who waits for a lock is told which process holds it, and goes on when it is free."""
    works, may_end = threading.Event(), threading.Event()

    def produce(work, needs, report):
        (work / "file").write_text("content")
        works.set()
        may_end.wait(30)

    stage = FunctionStage("slow", {}, produce)
    thread = threading.Thread(target=Cache(tmp_path).compute, args=(stage, {}, silent))
    thread.start()
    works.wait(30)
    threading.Timer(0.2, may_end.set).start()
    entry = Cache(tmp_path).compute(stage, {}, silent)
    thread.join()
    assert f"waiting for process {os.getpid()} on {platform.node()}" in caplog.text
    assert sorted(path.name for path in entry.path.iterdir()) == ["file", "stage.json"]


@pytest.mark.parametrize("how", ["file", "permission"])
def test_a_cache_that_cannot_be(how, tmp_path, monkeypatch):
    """A cache folder that cannot be made is a StorageError that names it."""
    (tmp_path / "file").write_text("")
    if how == "permission":

        def refuse(*arguments, **options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(caching.Path, "touch", refuse)
    with pytest.raises(StorageError, match="cannot write") as caught:
        Cache(tmp_path / ("file/cache" if how == "file" else "cache"))
    if how == "permission":
        assert "MSGM_BENCH_CACHE" in str(caught.value)
