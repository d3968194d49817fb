"""Tasks that look at the base model, at the judge and at a control, and that train copies."""

from __future__ import annotations

import signal

import cli_harness
import pytest
import torch
from cli_harness import only, results, tiny
from tiny_graph import SPEC, graph

from msgm_bench import Method, PluginError, Training, dsm_loss
from msgm_bench.evaluation.context import model_context
from msgm_bench.experiment.copy_trainer import (
    CHECKPOINT,
    OWNER,
    CopyTrainer,
    copy_for_training,
    remove_checkpoint,
)
from msgm_bench.experiment.graph import build_graph
from msgm_bench.experiment.plan import resolve
from msgm_bench.experiment.skipped import reasons
from msgm_bench.registry import registry
from msgm_bench.runner import dry_run
from msgm_bench.testing.toys import toy_base, toy_context, toy_images
from msgm_bench.training import Runtime


@pytest.fixture
def probed(third_party, fast, monkeypatch):
    """The plugin of ``third_party/third_party_controls.py``, installed; its folder."""
    source = (cli_harness.THIRD_PARTY / "third_party_controls.py").read_text("utf-8")
    monkeypatch.setenv("MSGM_BENCH_PLUGINS", f"{cli_harness.FAST_PLUGINS},third_party.*")
    return third_party("third-party-controls", source, "third_party.controls")


def distances(result):
    """Values of the probing metric's rows, by name."""
    return {
        row["metric"]: row["value"] for row in result["metrics"] if row["protocol"] == "distance@1"
    }


class Copies:
    """Weights of trained copies, and the steps that they took."""

    def __init__(self, model, folder):
        self.train = CopyTrainer(model, folder, Runtime(torch.device("cpu")))
        self.folder, self.done = folder, 0

    def __call__(self, steps, seed, **budget):
        """The weights after ``steps`` steps."""
        options = {"batch_size": 8, "learning_rate": 1e-3, "ema_decay": 0.0} | budget
        trained = self.train(self.loss, toy_images().train, Training(steps=steps, **options), seed)
        return torch.cat([p.flatten() for p in trained.parameters()])

    def loss(self, model, batch):
        """DSM, counted."""
        self.done += 1
        return dsm_loss(model, batch)


def test_control_and_base_are_those_of_runs_of_their_own(probed):
    """Keys of the control and of the base equal those of runs of ``unseen`` and ``standard``."""
    own = {name: graph(method=name, regime=None) for name in ("unseen", "standard")}
    for method in ("neggrad", "obt"):
        stages = graph(method=method, regime=None).stages
        assert stages["control"].key == own["unseen"].model.key
        assert stages["control of probed"].key == own["unseen"].artifacts["probed"].key
        assert stages["base"].key == own["standard"].model.key
        assert stages["draw probed"].base is stages["base"]
    assert own["unseen"].stages["base"].key == own["standard"].model.key
    assert "control" not in own["unseen"].stages
    assert own["unseen"].rows.controls["probed"] is own["unseen"].artifacts["probed"]
    assert "base" not in own["standard"].stages
    assert own["standard"].artifacts["probed"].base is own["standard"].model


def test_a_dry_run_lists_drawings_from_the_control_as_such(probed, cache):
    """No name stands twice; models are listed by their methods."""
    names = [name for name, _, _ in dry_run(SPEC).stages]
    assert len(set(names)) == len(names)
    assert {"train standard", "train unseen", "train neggrad"} <= set(names)
    assert {"draw probed", "control of probed"} <= set(names)


def test_runs_of_other_tasks_train_nothing_more(fast):
    """Without a task that looks at them there is neither control nor a further base."""
    stages = graph(method="unseen", regime=None).stages
    assert not {"control", "base"} & set(stages)
    assert all(set(stage.needs) == {"model"} for stage in graph().artifacts.values())


def test_the_control_keeps_its_own_options(probed, monkeypatch):
    """Options that the method's model requires of a task are not those of the control."""
    cls = registry().entry("methods", "neggrad").cls
    required = {"probed": {"units": 3}}
    monkeypatch.setattr(cls, "required_task_options", lambda self, model: required)
    made = graph()
    assert made.artifacts["probed"].task.options.units == 3
    assert made.controls["probed"].task.options.units == 2


def test_values_from_base_judge_control_and_copies(probed, cache, bench, tmp_path):
    """``standard`` is its own base and ``unseen`` its own control; copies move."""
    code, _, errors = bench(*tiny(method=["standard", "unseen", "finetune"]))
    assert code == 0, errors
    found = {name: distances(result) for (name, _), result in results(tmp_path / "runs").items()}
    assert found["standard"]["to_base"] == 0 < found["standard"]["to_control"]
    assert found["unseen"]["to_control"] == 0 < found["unseen"]["to_base"]
    assert found["unseen"]["to_base"] == found["standard"]["to_control"]
    assert found["finetune"]["to_base"] > 0 < found["finetune"]["to_control"]
    for values in found.values():
        assert values["bases"] == 0
        assert values["copied"] > 0 < values["copies"]


def test_a_stored_model_has_neither_base_nor_control(probed, cache, bench, tmp_path):
    """Its task is skipped with the reason that no base is known."""
    assert bench(*tiny(method="unseen"))[0] == 0
    (run,) = (tmp_path / "runs").iterdir()
    spec = SPEC.model_copy(update={"model": str(run / "model")})
    plan = resolve(spec)
    assert "not known of a stored model" in reasons(plan.evaluation.skipped)["probed"]
    assert not {"control", "base"} & set(build_graph(plan).stages)


def test_a_given_base_is_the_base_and_has_no_control(probed, cache, bench, tmp_path):
    """``--base``: the task compares with it, and the control's values are null with a reason."""
    assert bench(*tiny(method="standard"))[0] == 0
    (run,) = (tmp_path / "runs").iterdir()
    out = tmp_path / "more"
    assert bench(*tiny("--base", run, method=["standard", "finetune", "unseen"], out=out))[0] == 0
    found = {name: distances(result) for (name, _), result in results(out).items()}
    assert found["standard"]["to_base"] == 0
    assert found["finetune"]["to_base"] > 0
    assert {values["to_control"] for values in found.values()} == {None}


def test_killed_copies_resume_to_equal_values(probed, cache, child, bench, tmp_path, monkeypatch):
    """SIGKILL in the first and in the second training of a unit changes no value."""
    out = tmp_path / "runs"
    for step in (2, 4):  # counted in each process; the second one goes on at step 2
        killed = child(tiny(method="unseen", out=out), KILL_COPY=str(step))
        assert killed.code() == -signal.SIGKILL, killed.output.read_text()
        (partial,) = cache.glob("partial/*/checkpoint.pt")
        assert (partial.parent / OWNER).exists()
    assert bench(*tiny(method="unseen", out=out))[0] == 0
    assert not list(cache.glob("partial/*/*"))
    names = {path.name for path in cache.glob("done/*/*")}
    assert not names & {CHECKPOINT, OWNER}
    monkeypatch.setenv("MSGM_BENCH_CACHE", str(tmp_path / "other-cache"))
    assert bench(*tiny(method="unseen", out=tmp_path / "unkilled"))[0] == 0
    assert only(out)["metrics"] == only(tmp_path / "unkilled")["metrics"]


def test_a_copy_shares_what_is_not_trained():
    """Frozen tensors are the model's own objects; the trained part moves and the model does not."""
    model = toy_base(None)
    names = sorted(name for name, _ in model.network.named_parameters())
    model.parts = {"last": frozenset(names[-2:])}
    trained = copy_for_training(model, "last")
    own, copied = (dict(m.network.named_parameters()) for m in (model, trained))
    assert {name for name in names if own[name] is copied[name]} == set(names[:-2])
    assert {name for name in names if copied[name].requires_grad} == set(names[-2:])


def test_a_copy_of_fewer_steps_is_on_the_way_to_one_of_more(tmp_path):
    """Step k depends on the seed and k alone: equal trainings are equal, longer ones go on."""
    model = toy_base(None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = Copies(model, tmp_path)
    start = torch.cat([p.flatten() for p in model.parameters()])
    one, again, two, other = (trained(*of) for of in ((4, 1), (4, 1), (8, 1), (4, 2)))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert 0 < (one - start).norm() < (two - start).norm()
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("budget", "done"),
    [({}, 8), ({"ema_decay": 0.9}, 8), ({"lr_schedule": "cosine"}, 12)],
)
def test_a_longer_training_goes_on_from_a_shorter_one(tmp_path, budget, done):
    """To the same weights as at once, and only where a step depends on no number of steps."""
    copies, at_once = Copies(toy_base(None), tmp_path), Copies(toy_base(None), tmp_path / "other")
    at_once.folder.mkdir()
    copies(4, 1, **budget)
    assert torch.equal(copies(8, 1, **budget), at_once(8, 1, **budget))
    assert (copies.done, at_once.done) == (done, 8)


def test_a_shorter_training_begins_again(tmp_path):
    """The checkpoint of a longer one, or of another seed, is none of its own."""
    copies = Copies(toy_base(None), tmp_path)
    short = copies(4, 1)
    copies(8, 1)
    assert torch.equal(copies(4, 1), short)
    assert not torch.equal(copies(8, 2), copies(8, 1))
    assert copies.done == 4 + 4 + 4 + 8 + 8
    remove_checkpoint(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_task_that_does_not_train_gets_no_trainer():
    """The error names the attribute that it lacks."""
    context = model_context(toy_context(), toy_base(None), 0)
    with pytest.raises(PluginError, match="trains = True"):
        context.trainer(dsm_loss, toy_images().train, Training(), 0)


def test_a_control_that_reads_the_forget_set_is_refused():
    """A class whose control sees D_f contradicts itself."""

    class Peeking(Method):
        name = "peeking"
        needs = frozenset({"retain", "forget"})
        baseline = True
        is_control = True

        def update(self, session, step):
            """Never called."""
            raise AssertionError

    with pytest.raises(PluginError, match="it never sees D_f"):
        Peeking.validate()


def test_a_dry_run_of_a_skipped_method_says_why(fast, cache):
    """It has no stages, and the method's own reason."""
    preview = dry_run(SPEC.model_copy(update={"method": "sfd"}))
    assert preview.stages == ()
    (skip,) = preview.skipped
    assert skip.name == "sfd"
    assert "--conditional" in skip.reason
