"""How options were chosen: words on pages, and tuned options that are those of the record."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msgm_bench.boards import build, check, rank, tidy
from msgm_bench.boards.board import Board
from msgm_bench.boards.tuning_objective import RunValues, directions_of
from msgm_bench.boards.tuning_record import (
    TUNING_FILE,
    MethodTuning,
    Protocol,
    Trial,
    TuningRecord,
    read_tuning,
)
from msgm_bench.errors import OptionError, StorageError, UsageError

UR, NLL = "ur on samples", "nll on retain"
SEEDS = (100, 101)


def run(seed, ur, nll, status="ok"):
    """The values of a run."""
    values = {UR: ur, NLL: nll} if status == "ok" else {}
    return RunValues(seed=seed, status=status, values=values, digest="0" * 64)


def protocol(definition, forget="a", seeds=SEEDS, **changes):
    """The protocol of a tuning of the board."""
    board = Board.model_validate(definition)
    shared = board.run.model_copy(update={"forget": [forget], "method_params": {}, "training": {}})
    fields = {"trials": 3, "finalists": 2, "rank": board.rank, "gate": board.gate}
    return Protocol(run=shared, seeds=list(seeds), **(fields | changes))


def record(definition, **changes):
    """Three trials of alpha: the preset's, a better one, and one outside the gate."""
    trials = [
        Trial(options={"weight": 0.5}, runs=[run(100, 6.0, 2.0), run(101, 6.0, 2.0)]),
        Trial(options={"weight": 0.1}, runs=[run(100, 4.0, 2.0), run(101, 4.0, 2.05)]),
        Trial(options={"weight": 9.0}, runs=[run(100, 0.0, 3.0)]),
    ]
    return TuningRecord(
        protocol=protocol(definition, **changes),
        directions={UR: "down", NLL: "down"},
        reference=[run(seed, 9.0, 2.0) for seed in SEEDS],
        methods={"alpha": MethodTuning(space={"weight": {}}, trials=trials)},
    )


@pytest.fixture
def tuned(folder, definition, make, write):
    """A board whose alpha is tuned, and its definition."""
    definition["options"] = {"alpha": "tuned", "beta": "published"}
    definition["run"]["method_params"] = {"alpha": {"weight": 0.1}}
    numbers = {0: (5.0, 2.05, 6.0), 1: (5.1, 2.06, 6.1), 2: (5.0, 2.04, 5.9)}
    results = [make("alpha", s, *v, params={"weight": 0.1}) for s, v in numbers.items()]
    write(folder, results, definition)
    (folder / TUNING_FILE).write_text(record(definition).to_json(), "utf-8")
    return folder


def test_rows_say_how_options_were_chosen(tuned):
    """A column of words, a dash for reference and baseline, and the tuning in protocols.md."""
    built = build(tuned)
    table = [line.split("|") for line in built.text.splitlines() if line.startswith("|")]
    lines = {cells[2]: cells[-3].strip() for cells in table}
    assert lines[" `alpha` "] == "tuned"
    assert lines[" `beta` "] == "published"
    assert lines[" `ideal` (reference) "] == lines[" `base` (baseline) "] == "–"
    page = (tuned / "protocols.md").read_text("utf-8")
    assert "3 trials of each tuned method" in page
    assert "forget `a`" in page
    assert "| `alpha` | 1 | `weight=0.1` |" in page
    assert check(tuned) == []


def test_a_board_that_says_nothing_has_no_column(folder):
    """Pages without origins are what they were."""
    assert "Options" not in build(folder).text


def test_one_word_is_for_all_but_reference_and_baseline(definition):
    """``all`` yields to a method's own word, and baselines have none unless they are named."""
    board = Board.model_validate(definition | {"options": "by hand"})
    assert [board.origin(m) for m in board.methods] == [None, None, "by hand", "by hand"]
    mixed = Board.model_validate(definition | {"options": {"all": "preset", "ideal": "tuned"}})
    assert mixed.origins == {"tuned": ["ideal"], "preset": ["alpha", "beta"]}


@pytest.mark.parametrize("options", ["guessed", {"alpha": "guessed"}, {"gamma": "preset"}])
def test_other_words_and_methods_are_refused(folder, definition, write, options):
    """A word that is none of the four, or a method that is not on the board."""
    write(folder, [], definition | {"options": options})
    with pytest.raises(OptionError):
        build(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d, f: d["run"]["method_params"]["alpha"].update(weight=0.2), "chose weight = 0.1"),
        (lambda d, f: d["options"].update(beta="tuned"), "chosen nothing for beta"),
        (lambda d, f: (f / TUNING_FILE).unlink(), "there is no"),
        (lambda d, f: d["run"].update(forget=["a"]), "it forgets a"),
        (lambda d, f: d["run"].update(passes=9), "its passes is None"),
        (lambda d, f: d["rank"].update(metric="nll", split="retain"), "another rank or gate"),
    ],
)
def test_what_the_record_did_not_choose_is_refused(tuned, definition, write, change, words):
    """Other options, a method without trials, no record, the ranked task, another task or rule."""
    change(definition, tuned)
    write(tuned, [], definition)
    with pytest.raises(UsageError, match=words):
        build(tuned)
    assert [problem.error for problem in check(tuned)] == [True]


def test_ranked_seeds_are_refused(tuned, definition):
    """A record with a seed of the board's results."""
    text = record(definition, seeds=(2, 101)).to_json()
    (tuned / TUNING_FILE).write_text(text, "utf-8")
    with pytest.raises(UsageError, match="the seeds 2, which the board ranks"):
        build(tuned)


def test_the_record_comes_back_as_it_was_written(tuned, definition):
    """And its best trial is within the gate, though one outside has a lower UR."""
    stored = read_tuning(tuned / TUNING_FILE)
    assert stored == record(definition)
    assert stored.finalists("alpha") == [1, 0]
    assert stored.best_options("alpha") == {"weight": 0.1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["methods"]["alpha"]["trials"][0]["options"].update(weight=1), "was edited"),
        (lambda r: r.update(schema="other"), "schema"),
        (lambda r: r.update(digest=""), "digest"),
        (lambda r: r["protocol"].update(finalists=9), "9 of 3 trials"),
        (lambda r: r["protocol"].update(seeds=[1, 1]), "appears twice"),
        (lambda r: r["methods"].update({"../x": {"space": {}}}), "methods"),
    ],
)
def test_a_record_that_was_changed_is_refused(tuned, change, words):
    """An edited trial, another schema, no digest, impossible numbers, a name that is a path."""
    path = tuned / TUNING_FILE
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(StorageError, match=words):
        read_tuning(path)


NUMBERS = st.tuples(st.integers(0, 40), st.integers(0, 40))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_the_objective_is_the_rule_of_the_board(make, definition, numbers):
    """The best trial within the gate is the one that ``rank`` puts first, as methods of a board."""
    board = Board.model_validate(definition)
    key, names = board.rank.key, [f"trial{n}" for n in range(len(numbers))]
    own = [
        [
            make(name, seed, ur / 4, 2 + nll / 100)
            for seed, (ur, nll) in zip(SEEDS, pair, strict=True)
        ]
        for name, pair in zip(names, numbers, strict=True)
    ]
    reference = [make("ideal", seed, 9.0, 2.0) for seed in SEEDS]
    results = [*itertools.chain(*own), *reference]
    quantities = [key, *(limit.key for limit in board.gate.limits)]
    trials = [
        Trial(options={}, runs=[RunValues.of(result, quantities) for result in results])
        for results in own
    ]
    tuning = TuningRecord(
        protocol=protocol(definition, trials=len(trials), finalists=len(trials)),
        directions=directions_of(results, quantities),
        reference=[RunValues.of(result, quantities) for result in reference],
        methods={"alpha": MethodTuning(space={}, trials=trials)},
    )
    ranked = rank(tidy(results, board.quantities), names, key, board.gate)
    best, scores = tuning.best("alpha"), [tuning.score(trial, SEEDS) for trial in trials]
    states = {row.method: row.state for row in ranked}
    assert [score.state == "within" for score in scores] == [
        states[name] == "ranked" for name in names
    ]
    if ranked[0].state == "ranked":
        means = [sum(ur for ur, _ in pair) for pair in numbers]
        assert means[best] == means[int(ranked[0].method.removeprefix("trial"))]
    else:
        losses = [sum(nll for _, nll in pair) for pair in numbers]
        assert losses[best] == min(losses)


def test_a_trial_without_a_value_comes_last(definition):
    """Failed runs, missing values and values without a reference have no score."""
    tuning = record(definition)
    sound, failed = Trial(options={}, runs=[run(100, 50.0, 9.0)]), Trial(options={}, runs=[])
    for other in (run(100, 1.0, 2.0, "failed"), run(100, 1.0, None), run(7, 1.0, 2.0)):
        failed = Trial(options={}, runs=[other])
        assert tuning.score(sound, [100]) < tuning.score(failed, [other.seed])
        assert tuning.score(failed, [other.seed]).state == "failed"


def test_an_open_tuning_has_chosen_nothing(definition):
    """Until every trial ran, and every finalist with all seeds."""
    whole = record(definition)
    own = whole.methods["alpha"]
    cut = [t.model_copy(update={"runs": t.runs[:1]}) for t in own.trials]
    for trials in (own.trials[:2], cut):
        methods = {"alpha": own.model_copy(update={"trials": trials})}
        tuning = whole.model_copy(update={"methods": methods})
        assert tuning.best("alpha") is None
