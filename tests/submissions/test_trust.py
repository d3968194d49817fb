"""What a submission is worth: rooms that it cannot make itself, and what it leaves out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from toy_submissions import BOARD, PROTOCOLS, facts, honest, rewritten

from msgm_bench import Row
from msgm_bench.boards.board import Quantity
from msgm_bench.boards.comparability import agreeing
from msgm_bench.boards.trust import level_of, read_trust, record_trust
from msgm_bench.errors import RefusedError
from msgm_bench.evaluation.scoring import Scores
from msgm_bench.report.provenance import rerun_command
from msgm_bench.submissions import add, check, pack
from msgm_bench.submissions.verify import Comparison


def row(value, low, high, n=64):
    """A row of the likelihood."""
    fields = {"task": "likelihood", "metric": "nll", "split": "retain", "unit": "nats", "n": n}
    return Row(protocol="nll/pf-ode@2", value=value, low=low, high=high, **fields)


@pytest.mark.parametrize(
    ("stored", "agrees"),
    [
        (row(10.80, 10.66, 10.94), True),
        (row(10.90, 10.76, 11.04), True),  # within sqrt(2) 0.14, on another machine
        (row(9.9, 7.0, 12.8), False),
        (row(10.80, 7.0, 12.8), False),
        (row(10.80, 10.66, 10.94, n=640), False),
        (row(10.80, None, None), False),
    ],
)
def test_a_stored_interval_gives_its_value_no_room(stored, agrees):
    """The new run alone says how far values of the same seeds may be apart."""
    again = row(10.80, 10.66, 10.94)
    assert Comparison(Quantity(metric="nll", split="retain"), stored, again).agrees is agrees


@pytest.mark.parametrize(
    ("report", "is_another"),
    [
        ({"accuracy": 0.9905, "items": 60_000}, False),  # as far as rounding may lead
        ({"accuracy": 0.999, "items": 60_000}, True),
        ({"accuracy": 0.95, "items": 60_000}, True),
        ({"accuracy": 0.95, "items": 20}, False),  # of so few items nothing follows
        ({"accuracy": 0.95}, False),
    ],
)
def test_the_judge_is_that_of_the_other_results(report, is_another):
    """One recipe and seed have one accuracy on the held-out items, up to chance."""

    def change(document):
        document["provenance"]["judge"] = report

    submission = rewritten(honest(), change)
    if is_another:
        with pytest.raises(RefusedError, match="the judge of the board's other results on 99"):
            check(submission, facts())
    else:
        assert check(submission, facts()).level(BOARD) == "recomputed"
    assert check(submission).recomputed  # without a board there is nothing to hold it against


def test_a_record_that_is_believed_more_stays(tmp_path):
    """The same values with a stranger's provenance replace no result that was run again.

    A damaged file in its place is mended.
    """
    content = {"methods": [*BOARD.methods], **BOARD.model_dump(mode="json", exclude_defaults=True)}
    (tmp_path / "board.yaml").write_text(yaml.safe_dump(content))
    archive = tmp_path / "x.zip"
    archive.write_bytes(pack(honest()))
    target = add(tmp_path, archive).path
    assert level_of(read_trust(tmp_path), honest().result) == "recomputed"
    record_trust(tmp_path, [honest().result], "re-run")
    before = target.read_bytes()
    other = rewritten(honest(), lambda document: document["provenance"].update(wall_seconds=1.0))
    archive.write_bytes(pack(other))
    assert add(tmp_path, archive).level == "re-run"
    assert target.read_bytes() == before
    target.write_text("{")
    assert add(tmp_path, archive).level == "recomputed"
    assert level_of(read_trust(tmp_path), other.result) == "recomputed"


def test_one_run_under_two_numbers_counts_once():
    """The same three seeds are no second seed, whatever the number that stands for them."""

    def change(document):
        document["spec"]["seed"] = 7

    again = rewritten(honest(), change).result
    kept, left = agreeing(BOARD, [*facts().results, again, honest().result])
    assert honest().result in kept
    assert left == {("obt", 7): "obt seed 7 has the seeds of obt seed 0: one run counts once"}


@pytest.mark.parametrize("has_row", [False, True])
def test_what_others_have_and_it_lacks_is_claimed(has_row):
    """A quantity that is left out, or null without evidence, is claimed where others have it."""
    protocol = PROTOCOLS["psnr"].id

    def change(document):
        rows = [row for row in document["metrics"] if row["protocol"] == protocol]
        for one in rows:
            if has_row:
                one.update(value=None, low=None, high=None, reason="could not be measured")
            else:
                document["metrics"].remove(one)
        if not has_row:
            del document["protocols"][protocol]

    shown = tuple(shown for shown in honest().exhibits if shown.metric != "psnr")
    assessment = check(replace(rewritten(honest(), change), exhibits=shown), facts())
    assert assessment.level(BOARD) == "claimed"
    assert any("no value of psnr on retain" in note for note in assessment.notes)


def test_a_baseline_keeps_its_regime_in_a_grid():
    """``--regime finetune`` is for the methods that know it; `unseen` is retrained."""
    submission = honest("unseen")
    spec = submission.spec.model_copy(update={"regime": "finetune"})
    document = json.loads(submission.document)
    document["provenance"]["command"] = rerun_command(spec)

    def change(current):
        current["provenance"] = document["provenance"]

    assessment = check(replace(rewritten(submission, change), spec=spec))
    assert (assessment.level(), assessment.notes) == ("recomputed", ())


@pytest.mark.parametrize("leaves_out", [True, False])
def test_a_task_that_the_run_skipped_need_not_stand_in_its_command(leaves_out):
    """Its request has it, as that of a grid; one that was not skipped must be there."""
    submission = honest()
    task = "quantised_class_generation"
    spec = submission.spec.model_copy(update={"tasks": (task,)})

    def change(document):
        skip = {"kind": "tasks", "name": task, "reason": "it is for others"}
        document["provenance"]["skipped"] = [skip]
        document["provenance"]["command"] = rerun_command(spec, [task] if leaves_out else [])

    changed = rewritten(submission, change)
    assessment = check(replace(changed, spec=spec))
    assert (assessment.level(), assessment.notes) == ("recomputed", ())
    if leaves_out:
        del changed.result.provenance["skipped"]
        with pytest.raises(RefusedError, match="not that of its request"):
            check(replace(changed, spec=spec))


@pytest.mark.parametrize("text", ["\u00e9" * 255, "x" * 5000, "a\0b", "../x", "/etc/passwd"])
def test_a_request_that_names_a_path_is_compared_as_it_stands(text):
    """Whatever the text is, nothing is opened, and a note says what was not compared."""
    submission = honest()
    spec = submission.spec.model_copy(update={"params": {"new": text}})

    def change(document):
        document["provenance"]["command"] = rerun_command(spec)

    assessment = check(replace(rewritten(submission, change), spec=spec))
    assert any("request" in note for note in assessment.notes)


def test_a_metric_without_rows_leaves_no_protocol_behind():
    """Else an honest result had a protocol of no row, and would be refused."""
    scores = Scores()
    scores.add([], PROTOCOLS["psnr"])
    assert (scores.rows, scores.protocols) == ([], {})
    scores.add(iter([row(1.0, 0.0, 2.0)]), PROTOCOLS["nll"])
    assert (len(scores.rows), list(scores.protocols)) == (1, ["nll/pf-ode@2"])
