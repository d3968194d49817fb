"""Discovery of plugins: where names come from, what is broken, and what that may touch."""

from __future__ import annotations

import json
from types import ModuleType

import pytest
import torch
from cli_harness import FAST_PLUGINS, only, results, tiny

from msgm_bench import Judge, Prediction, hookimpl
from msgm_bench import registry as registration
from msgm_bench.api import Plugin
from msgm_bench.errors import OptionError, PluginError, UnknownNameError, did_you_mean
from msgm_bench.registry import KINDS, Registry

METHOD = """
from pydantic import Field
from msgm_bench import LossMethod, Options, dsm_loss, hookimpl

class MineOptions(Options):
    '''One option.'''
    strength: float = Field(1.0, gt=0, description="factor of the loss")

class Mine(LossMethod[MineOptions]):
    '''A third-party method.'''
    name = "{name}"
    needs = frozenset({{"retain"}})

    def loss(self, model, batches, step):
        return self.options.strength * dsm_loss(model, batches.retain)

@hookimpl
def register_methods():
    return [Mine]
"""


def reasons(registry):
    """Reason of each broken entry point."""
    return {broken.provenance.entry_point: broken.reason for broken in registry.broken}


# Names and where they come from ------------------------------------------------------------


def test_the_built_in_plugins(new_registry):
    """All of them load through entry points, with provenance, and none is broken."""
    registry = new_registry()
    assert registry.broken == []
    assert {"standard", "unseen", "finetune", "ort", "obt"} <= set(registry.names("methods"))
    assert {"vesde", "vpsde", "subvpsde", "ddpm"} <= set(registry.names("backbones"))
    assert {"gaussians", "digits"} <= set(registry.names("datasets"))
    told = registry.entry("methods", "obt").provenance
    assert (told.entry_point, told.distribution) == ("methods.msgm", "msgm-bench")
    assert str(told) == f"msgm-bench {told.version} (msgm_builtin.methods.msgm)"


def test_a_third_party_plugin_is_as_good_as_a_built_in(third_party, new_registry):
    """An installed distribution's classes are registered under its own name and version."""
    third_party("third-party-one", METHOD.format(name="mine"), "methods.mine")
    entry = new_registry().entry("methods", "mine")
    assert str(entry.provenance) == "third-party-one 1.2 (third_party_one)"
    assert entry.cls.summary() == "A third-party method."
    assert new_registry().create("methods", "mine", {"strength": 2}).options.strength == 2.0


def test_built_ins_come_first(third_party):
    """Whatever a third-party package is called, the core's distribution is loaded before it."""
    third_party("third-party-a", METHOD.format(name="mine"), "a.first")
    owners = [registration.provenance_of(e).distribution for e in registration.installed()]
    assert owners[-1] == "third-party-a"
    assert set(owners[:-1]) == {"msgm-bench"}


def test_unknown_names(new_registry):
    """The nearest names, and all that there are."""
    with pytest.raises(UnknownNameError) as caught:
        new_registry().entry("methods", "obtuse")
    assert "unknown method 'obtuse'" in str(caught.value)
    assert "allowed: " in str(caught.value)
    with pytest.raises(UnknownNameError, match="did you mean 'vesde'"):
        new_registry().entry("backbones", "vesd")
    with pytest.raises(UnknownNameError, match="none is registered"):
        Registry([]).entry("methods", "obt")


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("standrd", ["standard", "unseen"], " (did you mean 'standard'?)"),
        ("xyz", ["standard"], ""),
        ("", ["standard"], ""),
        ("standard", [], ""),
    ],
)
def test_did_you_mean(name, known, said):
    """A suggestion where a name is near, silence where none is."""
    assert did_you_mean(name, known) == said


# Clashes -----------------------------------------------------------------------------------


def test_two_plugins_with_one_name(third_party, new_registry):
    """Looking the name up is an error that names both distributions and the way out."""
    third_party("third-party-one", METHOD.format(name="mine"), "methods.one")
    third_party("third-party-two", METHOD.format(name="mine"), "methods.two")
    with pytest.raises(PluginError) as caught:
        new_registry().entry("methods", "mine")
    told = str(caught.value)
    assert "two plugins register the method 'mine'" in told
    assert "third-party-one 1.2 (third_party_one) and third-party-two 1.2 (third_party_two)" in told
    assert "MSGM_BENCH_PLUGINS" in told
    assert new_registry().broken == []
    assert new_registry().entry("methods", "obt"), "other names are not touched"


def test_two_plugins_with_one_entry_point(third_party, new_registry):
    """Even where the entry points have one name, too, both are known."""
    third_party("third-party-one", METHOD.format(name="mine"), "methods.mine")
    third_party("third-party-two", METHOD.format(name="mine"), "methods.mine")
    assert new_registry().broken == []
    with pytest.raises(PluginError, match=r"third-party-one.* and third-party-two"):
        new_registry().entry("methods", "mine")


def test_a_clash_with_a_built_in(third_party, new_registry, fast, bench, tmp_path):
    """A third-party plugin cannot quietly replace a built-in method: exit 1, and the reason."""
    third_party("third-party-one", METHOD.format(name="obt"), "third_party.one")
    code, _, err = bench(*tiny(out=tmp_path / "runs"))
    assert code == 1
    assert "two plugins register the method 'obt'" in err
    assert "msgm-bench" in err
    assert "third-party-one" in err
    assert not (tmp_path / "runs").exists()


def test_a_module_with_two_entry_points(third_party, new_registry):
    """One module that is named twice is one plugin."""
    third_party("third-party-one", METHOD.format(name="mine"), "methods.mine", "metrics.mine")
    assert new_registry().broken == []
    assert new_registry().entry("methods", "mine").provenance.distribution == "third-party-one"


# Quarantine --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library_at_all", "ModuleNotFoundError: No module named 'no_such_lib"),
        ("this is no python", "SyntaxError"),
        ("raise RuntimeError('not today')", "RuntimeError: not today"),
        ("import sys\nsys.exit('no licence')", "SystemExit: no licence"),
        (
            "from msgm_bench import hookimpl\n@hookimpl\ndef register_methods():\n    return [3]",
            "PluginError: register_methods returned 3",
        ),
        (
            "from msgm_bench import hookimpl\n@hookimpl\ndef register_methods():\n    return 1 / 0",
            "ZeroDivisionError",
        ),
        (
            "from msgm_bench import hookimpl\n@hookimpl\ndef step_ended(stage, stepp):\n    pass",
            "stepp",
        ),
        (
            METHOD.format(name="mine") + "\n@hookimpl\ndef register_method():\n    return []",
            "unknown hook register_method (did you mean 'register_methods'?)",
        ),
        (
            METHOD.format(name="mine") + "\n@hookimpl\ndef stage_end():\n    return []",
            "unknown hook stage_end (did you mean 'stage_ended'?)",
        ),
    ],
)
def test_quarantine(source, reason, third_party, new_registry, fast, cache, bench, tmp_path):
    """A broken plugin is listed with its reason, and stops nothing that does not need it."""
    third_party("third-party-one", source, "third_party.broken")
    registry = new_registry()
    assert list(reasons(registry)) == ["third_party.broken"]
    assert reason in reasons(registry)["third_party.broken"]
    assert "mine" not in registry.names("methods"), "all of it or nothing"
    assert not any(
        "third_party" in (name or "") for name, _ in registry.manager.list_name_plugin()
    ), "none of its hooks is called"
    code, _, err = bench(*tiny(out=tmp_path / "runs"))
    assert code == 0, err
    code, _, err = bench("list", "methods")
    assert code == 0
    assert "broken: third-party-one 1.2 (third_party_one): " in err
    code, out, _ = bench("doctor")
    assert code == 1
    assert "broken plugin third-party-one 1.2" in out


def test_a_broken_plugin_is_named_when_it_is_looked_up(third_party, new_registry):
    """Who asks for a name that the broken plugin may have had is told of it."""
    third_party("third-party-one", "raise RuntimeError('not today')", "methods.mine")
    with pytest.raises(UnknownNameError) as caught:
        new_registry().entry("methods", "mine")
    assert "methods.mine is broken and not loaded: RuntimeError: not today" in str(caught.value)
    with pytest.raises(UnknownNameError) as caught:
        new_registry().entry("datasets", "mine")
    assert "broken" not in str(caught.value), "a broken method is no dataset"


# Restriction -------------------------------------------------------------------------------


def test_restriction(third_party, new_registry, monkeypatch):
    """``MSGM_BENCH_PLUGINS`` loads what it names, imports nothing else, and solves clashes."""
    third_party("third-party-one", METHOD.format(name="obt"), "third_party.one")
    third_party("third-party-two", "raise RuntimeError('imported')", "third_party.two")
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", "methods.baselines, third_party.one")
    new_registry.cache_clear()
    assert new_registry().broken == []
    assert {kind: new_registry().names(kind) for kind in KINDS if new_registry().names(kind)} == {
        "methods": ["finetune", "obt", "standard", "unseen"]
    }
    assert new_registry().entry("methods", "obt").provenance.distribution == "third-party-one"


@pytest.mark.parametrize("patterns", ["", " ", ",", "*"])
def test_no_restriction(patterns, new_registry, monkeypatch):
    """Nothing named is no restriction."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", patterns)
    new_registry.cache_clear()
    assert "obt" in new_registry().names("methods")


# Options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strenght": 1}, r"mine has no option 'strenght' \(did you mean 'strength'\?\)"),
        ({"strength": 0}, r"option 'strength' of mine = 0\nallowed: .*a number above 0.*factor of"),
        ({"strength": "much"}, "option 'strength' of mine = 'much'"),
        ({"strength": "x" * 10_000}, r"option 'strength' of mine = 'x{190,200}…\n"),
        ({"strength": None}, "option 'strength' of mine = None"),
        ({"strength": float("inf")}, "option 'strength' of mine = inf\nallowed: .*finite"),
        ({"strength": float("nan")}, "option 'strength' of mine = nan"),
    ],
)
def test_wrong_options(options, message, third_party, new_registry):
    """Every option is checked against the plugin's own, with the words of its description."""
    third_party("third-party-one", METHOD.format(name="mine"), "methods.mine")
    with pytest.raises(OptionError, match=message):
        new_registry().create("methods", "mine", options)


def test_a_plugin_without_options():
    """It says that it has none."""

    class Plain(Plugin):
        """Plain."""

        name = "plain"

    with pytest.raises(OptionError, match="it has no options"):
        Plain.create({"size": 3})
    assert Plain.create().options.model_dump() == {}


# Third-party plugins ----------------------------------------------------------------------


def test_life_cycle_hooks(probe, fast, cache, bench, tmp_path, monkeypatch):
    """A plugin's hooks get every event in order; cached stages are marked."""
    monkeypatch.setenv("PROBE_LOG", str(tmp_path / "log"))
    assert bench(*tiny("-t", "generation.batch_size=16", out=tmp_path / "runs"))[0] == 0
    events = [json.loads(line) for line in (tmp_path / "log").read_text("utf-8").splitlines()]
    stages = ["fit judge bayes", "train obt", "draw generation", "draw likelihood", "measure"]
    assert events[0] == ["run_started", "obt"]
    assert events[-1] == ["run_ended", "ok"]
    assert [e[1] for e in events if e[0] == "stage_started"] == stages
    assert [e[1:] for e in events if e[0] == "stage_ended"] == [[name, False] for name in stages]
    start = events.index(["stage_started", "train obt", 20])
    steps = [["step_ended", "train obt", step] for step in range(1, 21)]
    assert events[start + 1 : start + 22] == [*steps, ["stage_ended", "train obt", False]]
    start = events.index(["stage_started", "draw generation", 1])
    assert events[start + 1 : start + 3] == [["step_ended", "draw generation", n] for n in (16, 32)]
    told = [e[1] for e in events if e[0] == "metric_computed"]
    assert told == [row["metric"] for row in only(tmp_path / "runs")["metrics"]]
    (tmp_path / "log").unlink()
    assert bench(*tiny(out=tmp_path / "runs"))[0] == 0
    again = [json.loads(line) for line in (tmp_path / "log").read_text("utf-8").splitlines()]
    assert ["stage_ended", "train obt", True] in again
    assert not [e for e in again if e[0] in ("stage_started", "step_ended") and e[1] == "train obt"]


def test_a_failure_is_told(probe, fast, cache, bench, tmp_path, monkeypatch):
    """``run_failed`` comes instead of ``run_ended``, with the reason."""
    monkeypatch.setenv("PROBE_LOG", str(tmp_path / "log"))
    assert bench(*tiny(method="explosive", out=tmp_path / "runs"))[0] == 1
    events = [json.loads(line) for line in (tmp_path / "log").read_text("utf-8").splitlines()]
    assert events[-1][0] == "run_failed"
    assert "diverged" in events[-1][1]
    assert not [e for e in events if e[0] in ("run_ended", "metric_computed")]


def test_a_third_party_method_dataset_and_metric(
    probe, new_registry, cache, bench, tmp_path, monkeypatch
):
    """They run side by side with the built-in ones, by the same commands."""
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", FAST_PLUGINS)
    new_registry.cache_clear()
    cls = new_registry().entry("datasets", "pair").cls
    preset = cls.presets["quick"] | {"judge": {"name": "classifier"}}
    monkeypatch.setattr(cls, "presets", {"quick": preset})
    named = ["run", "--dataset", "pair", "--forget", "far", "--backbone", "ddpm"]
    methods = ["--method", "steady", "--method", "obt", "-p", "steady.weight=2"]
    out = tmp_path / "runs"
    loose = ["-t", "likelihood.rtol=1e-2", "-t", "likelihood.atol=1e-2", "--samples", "16"]
    code, _, err = bench(*named, *methods, *loose, "--out", out)
    assert code == 2, "the built-in classifier judges images, not points"
    assert "'classifier' on items of shape (2,)" in err
    bayes = preset | {"judge": {"name": "flat"}}
    monkeypatch.setattr(cls, "presets", {"quick": bayes})
    register_flat_judge(new_registry())
    code, stdout, err = bench(*named, *methods, *loose, "--out", out)
    assert code == 0, err
    assert "steady" in stdout
    found = results(out)["steady", 0]
    metrics = {row["metric"]: row["value"] for row in found["metrics"]}
    assert metrics["spread"] > 0
    assert metrics["nll"] is not None
    assert found["spec"]["params"] == {"weight": 2.0}
    assert found["provenance"]["plugins"]["methods/steady"].startswith("third-party-probe 1.2")
    assert found["provenance"]["plugins"]["datasets/pair"].startswith("third-party-probe 1.2")


HELPERS = """
import concurrent.futures
from msgm_bench import Executor, Tracker, hookimpl

class Diary(Tracker):
    '''Prints what it hears.'''
    name = "diary"

    @hookimpl
    def run_ended(self, result, folder):
        print("dear diary:", result.spec.method, result.status)

class Here(concurrent.futures.Executor):
    def submit(self, function, job):
        future = concurrent.futures.Future()
        future.set_result(function(job))
        return future

class Serial(Executor):
    '''Runs cells in this process.'''
    name = "serial"

    def pool(self, resources):
        return Here()

@hookimpl
def register_trackers():
    return [Diary]

@hookimpl
def register_executors():
    return [Serial]
"""


def test_a_third_party_tracker_and_executor(third_party, fast, cache, bench, tmp_path):
    """They are switched on by name, for one command."""
    third_party("third-party-helpers", HELPERS, "third_party.helpers")
    arguments = tiny(method=("obt", "unseen"), out=tmp_path / "runs")
    code, out, err = bench(*arguments, "--track", "diary", "--executor", "serial")
    assert code == 0, err
    told = [line for line in err.splitlines() if line.startswith("dear diary")]
    assert told == ["dear diary: obt ok", "dear diary: unseen ok"]
    assert "dear diary" not in out, "stdout holds the results"
    assert set(results(tmp_path / "runs")) == {("obt", 0), ("unseen", 0)}
    assert "dear diary" not in bench(*arguments)[2]


def test_a_hook_that_raises_fails_its_cell(third_party, fast, cache, bench, tmp_path):
    """An error in a life-cycle hook fails the run, whose reason names plugin and hook."""
    source = (
        "from msgm_bench import hookimpl\n"
        "@hookimpl\n"
        "def stage_started(stage):\n"
        "    if stage == 'train obt':\n"
        "        raise OverflowError('the notebook is full')\n"
    )
    third_party("third-party-one", source, "third_party.one")
    code, _, _ = bench(*tiny(method=("obt", "unseen"), out=tmp_path / "runs"))
    assert code == 1
    found = results(tmp_path / "runs")
    reason = found["obt", 0]["reason"]
    assert reason.startswith("plugin third_party.one of third-party-one 1")
    assert reason.endswith(", stage_started: OverflowError: the notebook is full")
    assert found["unseen", 0]["status"] == "ok"


def register_flat_judge(registry):
    """A judge for points, registered as a module is."""

    class Flat(Judge):
        """Left or right of the middle."""

        name = "flat"

        def fit(self, data, seed, device):
            """Nothing to learn."""
            self.report = {"accuracy": 1.0}

        def predict(self, x):
            """By the first coordinate."""
            return Prediction((x[:, 0] > 2).long(), torch.ones(len(x), dtype=torch.bool))

    Flat.__module__ = "workbench"
    module = ModuleType("third_party_flat")
    module.register_judges = hookimpl(lambda: [Flat])
    told = registration.Provenance("judges.flat", "third-party-flat", "1", "third_party_flat")
    registry.register(module, told)
