"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import json

import pytest
from cli_harness import tiny
from lives import SPEC, VALUES, Life, curve, jsonl_curves, jsonl_rows

from msgm_bench.testing import check_tracker
from msgm_builtin.trackers.tensorboard import Tensorboard

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder):
    """The reader of a folder's event files."""
    return accumulators.EventAccumulator(str(folder)).Reload()


def scalars(folder, tag):
    """A scalar by step; an error where a step has two."""
    events = read(folder).Scalars(tag)
    values = {event.step: event.value for event in events}
    assert len(values) == len(events)
    return values


@pytest.fixture
def live(tmp_path):
    """``live()`` begins a process with the run ``one``."""
    options = {"logdir": str(tmp_path / "tb")}
    return lambda name="one": Life(Tensorboard.create(options), tmp_path / "runs" / name)


def test_it_conforms():
    """Whole lives of runs."""
    check_tracker(Tensorboard)


def test_a_run_is_read_back(live, tmp_path):
    """Scalars of each stage in its own folder, the result and the request in the run's."""
    live().train(0, 20).end()
    place = tmp_path / "tb" / "one"
    assert scalars(place / "train_obt", "loss") == pytest.approx(curve(0, 20))
    result = read(place)
    assert {tag: result.Scalars(tag)[0].value for tag in result.Tags()["scalars"]} == VALUES
    text = result.Tensors("spec/text_summary")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text) == json.loads(SPEC.model_dump_json())


def test_a_resumed_run_goes_on(live, tmp_path):
    """What was logged behind the checkpoint counts once."""
    live().train(0, 11)
    live().train(6, 20).end()
    assert scalars(tmp_path / "tb" / "one" / "train_obt", "loss") == pytest.approx(curve(0, 20))


def test_another_training_takes_the_place(live, tmp_path):
    """A stage that starts again at step 1 leaves no later step of the older one."""
    live().train(0, 20).end()
    live().train(0, 8, key="b2")
    assert scalars(tmp_path / "tb" / "one" / "train_obt", "loss") == pytest.approx(curve(0, 8))


def test_it_has_what_jsonl_has(fast, cache, bench, tmp_path):
    """Of runs in workers: every loss by stage and step, and every value, to single precision."""
    helpers = ("--executor", "local", "-x", "local.workers=1", "--track", "jsonl")
    code, _, err = bench(*tiny(*helpers, "--track", "tensorboard", out=tmp_path / "runs"))
    assert code == 0, err
    (run,) = (tmp_path / "tensorboard").iterdir()
    for stage, steps in jsonl_curves(tmp_path / "events.jsonl").items():
        assert scalars(run / stage.replace(" ", "_"), "loss") == pytest.approx(steps, rel=1e-6)
    result = read(run)
    for name, value in jsonl_rows(tmp_path / "events.jsonl").items():
        assert result.Scalars(name)[0].value == pytest.approx(value, rel=1e-6)
