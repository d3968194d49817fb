"""What may enter a board, what may not, and what the refusal says."""

from __future__ import annotations

import json
import re

import pytest

from msgm_bench.api.result import MetricProtocol
from msgm_bench.boards import (
    Board,
    ProtocolMixError,
    build,
    check,
    collect,
    import_results,
    load,
    protocol_diff,
    read,
    tidy,
)
from msgm_bench.errors import MsgmBenchError, OptionError, StorageError, UsageError
from msgm_bench.experiment.stored_result import read_result

UR = MetricProtocol(name="unlearning_ratio/judge", settings={"count": 1000, "judge": {"width": 8}})
NLL = MetricProtocol(name="nll/ode", settings={"steps": 50})


def left_out(folder):
    """The reasons of the files that do not stand on the board, by name."""
    return {path.name: reason for path, reason in collect(load(folder), folder).left_out.items()}


def standing(folder):
    """Method and seed of the results that do."""
    return {(r.spec.method, r.spec.seed) for r in collect(load(folder), folder).results}


def runs_of(place, results):
    """Run folders, one a result."""
    for number, result in enumerate(results):
        run = place / f"run-{number}"
        run.mkdir(parents=True)
        (run / "result.json").write_text(result.to_json(), encoding="utf-8")
    return place


def test_a_board_loads(folder):
    """Keys are read, and each quantity is listed once."""
    board = load(folder)
    assert board.run.forget == ["b"]
    assert [str(key) for key in board.quantities] == [
        "ur on samples",
        "nll on retain",
        "nll on forget",
    ]


def test_yaml_numbers_are_names(definition):
    """``forget: [3, 7]`` and ``forget: 3`` mean the classes of these names."""
    definition["run"]["forget"] = [3, 7]
    assert Board.model_validate(definition).run.forget == ["3", "7"]
    definition["run"]["forget"] = 3
    assert Board.model_validate(definition).run.forget == ["3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(sumary="x"), "no key 'sumary' (did you mean 'summary'?)"),
        (lambda d: d["run"].update(datset="x"), "'run.datset' (did you mean 'dataset'?)"),
        (lambda d: d["columns"][1].update(lable="x"), "'columns.1.lable' (did you mean 'label'?)"),
        (lambda d: d["gate"]["limits"][0].update(with_in=1), "did you mean 'within'?"),
        (lambda d: d.pop("title"), "lacks the key 'title'"),
        (lambda d: d.update(cell=d.pop("run")), "has no key 'cell'"),
        (lambda d: d.update(seeds=0), "seeds = 0"),
        (lambda d: d["run"].update(preset="fast"), "quick, full or paper"),
        (lambda d: d["gate"].update(reference="nobody"), "'nobody' is not among"),
        (lambda d: d["baseline"].update(method="nobody"), "'nobody' is not among"),
        (lambda d: d["methods"].append("base"), "appears twice"),
        (lambda d: d["baseline"]["bands"][0].update(low=50), "above high"),
        (lambda d: d["run"].update(forget=[]), "run.forget"),
        (lambda d: d["run"].update(forget={"a": 1}), "run.forget"),
    ],
)
def test_wrong_boards_say_what_is_wrong(folder, definition, write, change, message):
    """A typo or a value out of range is an error that names the place and what is allowed."""
    change(definition)
    write(folder, [], definition)
    with pytest.raises(OptionError) as caught:
        load(folder)
    assert message in str(caught.value)
    assert check(folder)[0].error


@pytest.mark.parametrize("text", ["a: [", "- 1\n", ""])
def test_what_is_no_mapping_is_an_error(folder, text):
    """Broken YAML, a list or an empty file is refused by name."""
    (folder / "board.yaml").write_text(text)
    with pytest.raises(MsgmBenchError, match=r"board\.yaml"):
        load(folder)


def test_a_folder_without_board_is_an_error(tmp_path):
    """A wrong path says what a leaderboard is."""
    with pytest.raises(UsageError, match="no leaderboard"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "msgm-bench/result@9"}', "\xff"])
def test_damaged_results_are_named(folder, text):
    """Broken JSON or another schema names the file; the other results stay."""
    path = folder / "results" / "alpha-s0.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(StorageError, match=r"alpha-s0\.json(:| is no)"):
        read(path)
    assert list(left_out(folder)) == ["alpha-s0.json"]
    assert len(standing(folder)) == 11
    assert [problem.error for problem in check(folder)][:2] == [True, True], "and a missing page"


NAME = "a name of at most 64 letters of a-z 0-9 _ . -, the first of a-z 0-9"
TO_NAME = "name the result.json that `msgm-bench run` wrote"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["spec"].update(method="<b>x</b>"), f"spec.method is '<b>x</b>', not {NAME}"),
        (
            lambda c: c["spec"].update(dataset="\x1b[31m" + "x" * 99),
            f"spec.dataset is '\\x1b[31m{'x' * 54}…', not {NAME}",
        ),
        (lambda c: c["spec"].update(seed=-1), "spec.seed is -1, not a number of at least 0"),
        (lambda c: c["spec"].update(forget=None), "spec.forget is null, not a list"),
        (lambda c: c.update(status="fine"), "status is 'fine', not ok, failed or skipped"),
        (lambda c: c["metrics"][0].update(n=1.5), "metrics.0.n is 1.5, not a whole"),
        (lambda c: c["metrics"][0].pop("task"), "it lacks the field metrics.0.task"),
        (lambda c: c["metrics"][0].update(x=1), "it has a field metrics.0.x, which is unknown"),
        (lambda c: c.update(digest="x"), "digest is 'x', not 64 letters of 0-9 a-f"),
        (
            lambda c: c["spec"]["settings"].update(training={"passes": 0}),
            "spec.settings: training.passes is 0, not a number of at least 1",
        ),
        (
            lambda c: c.update(schema="other/eval@1"),
            f"its schema is 'other/eval@1', not msgm-bench/result@3: {TO_NAME}",
        ),
        (lambda c: c.update(schema=[3]), f"its schema is [3], not msgm-bench/result@3: {TO_NAME}"),
        (lambda c: c.pop("schema"), f"its schema is none, not msgm-bench/result@3: {TO_NAME}"),
    ],
)
def test_wrong_fields_say_what_is_there_and_what_is_allowed(folder, edit, change, words):
    """In words: no regular expression, and nothing of the library that checks.

    The reader of run folders says the same.
    """
    path = folder / "results" / "alpha-s0.json"
    edit(path, change, signed=False)
    with pytest.raises(StorageError) as caught:
        read(path)
    assert words in caught.value.what
    assert caught.value.allowed == "JSON of schema msgm-bench/result@3"
    assert "\x1b" not in caught.value.what
    with pytest.raises(StorageError) as caught:
        read_result(path)
    assert words in caught.value.what


def test_older_results_say_what_to_do(folder, edit):
    """A file of the format before is refused in one sentence."""
    path = folder / "results" / "alpha-s0.json"
    edit(path, lambda c: c.update(schema="msgm-bench/result@2"), signed=False)
    with pytest.raises(
        StorageError, match="made by another version of msgm-bench: run its command again"
    ):
        read(path)


def test_an_edited_row_is_found(folder, edit):
    """Whatever is changed beside the provenance, the digest is not that of the content any more."""

    def flatter(content):
        content["metrics"][0].update(value=0.0, low=0.0, high=0.3826847)

    path = folder / "results" / "alpha-s0.json"
    build(folder)
    edit(path, flatter, signed=False)
    assert "it was edited: its digest" in left_out(folder)["alpha-s0.json"]
    build(folder)
    assert any("alpha-s0.json is left out" in p.text for p in check(folder) if p.error)
    edit(path, lambda c: c.pop("digest"), signed=False)
    assert "its digest is missing" in left_out(folder)["alpha-s0.json"]


def test_an_edited_protocol_is_found(folder, edit):
    """Settings that do not give the stored hash mean that somebody edited the file."""

    def change(content):
        content["protocols"][NLL.id]["settings"]["steps"] = 500

    edit(folder / "results" / "alpha-s0.json", change)
    assert "hash of nll/ode@1" in left_out(folder)["alpha-s0.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "quick"}, "its preset is quick, the board's is full"),
        ({"dataset": "other"}, "its dataset is other"),
        ({"backbone": "other"}, "its backbone is other"),
        ({"forget": ["b", "c"]}, "its forget set is ['b', 'c']"),
        ({"conditional": True}, "its model is class-conditional, the board's are unconditional"),
    ],
)
def test_results_of_another_cell_are_refused(folder, make, write, changes, message):
    """A result that was run on something else, or in the quick preset, cannot enter."""
    write(folder, [make("alpha", 0, **changes)])
    assert message in left_out(folder)["alpha-s0.json"]
    assert check(folder)[0].error


def test_a_conditional_board_takes_conditional_results_only(definition, make, write, tmp_path):
    """``conditional: true`` binds every result, and stands on the page."""
    definition["run"]["conditional"] = True
    write(tmp_path, [make("alpha", 0, conditional=True)], definition)
    assert standing(tmp_path) == {("alpha", 0)}
    assert "**backbone** `net`, class-conditional" in build(tmp_path).text
    write(tmp_path, [make("beta", 0)])
    reason = left_out(tmp_path)["beta-s0.json"]
    assert "unconditional, the board's are class-conditional" in reason


def test_the_order_of_the_forget_set_does_not_matter(definition, make, write, tmp_path):
    """``3, 7`` is the same set as ``7, 3``."""
    definition["run"]["forget"] = ["7", "3"]
    write(tmp_path, [make("alpha", 0, forget=["3", "7"])], definition)
    assert standing(tmp_path) == {("alpha", 0)}


def test_the_regime_binds_all_but_the_two_ends(folder, definition, write):
    """A finetuning board still shows its retrained reference and baseline."""
    definition["run"]["regime"] = "finetune"
    write(folder, [], definition)
    (reason,) = set(left_out(folder).values())
    assert "its regime is retrain, the board's is finetune" in reason
    assert {method for method, _ in standing(folder)} == {"base", "ideal"}


def test_the_passes_bind_all_but_the_two_ends(folder, definition, write):
    """Where a board states a budget, contestants with another one do not stand on it."""
    definition["run"]["passes"] = 2000
    write(folder, [], definition)
    (reason,) = set(left_out(folder).values())
    assert "budget is one of steps, the board's is 2000 passes" in reason
    assert {method for method, _ in standing(folder)} == {"base", "ideal"}


def test_a_method_that_is_not_listed_is_refused(folder, make, write):
    """Only the board's methods have rows."""
    write(folder, [make("gamma", 0)])
    assert "does not list the method 'gamma'" in left_out(folder)["gamma-s0.json"]


def test_one_result_a_method_and_seed(folder, make):
    """A copy under another name is refused, so that no seed counts twice."""
    (folder / "results" / "a-copy.json").write_text(make("alpha", 0).to_json())
    assert list(left_out(folder)) == ["a-copy.json"], "whichever name comes first"
    assert "second result of alpha seed 0" in left_out(folder)["a-copy.json"]


@pytest.mark.parametrize("changes", [{"params": {"a": 1}}, {"backbone_params": {"width": 9}}])
def test_seeds_of_a_method_share_their_options(folder, make, write, changes):
    """A seed run with other options is another method in disguise, and the option is named."""
    write(folder, [make("alpha", 2, **changes)])
    (reason,) = left_out(folder).values()
    assert re.search(r"run differently: .*(params\.a|width) is", reason)
    assert len(standing(folder)) == 11


def test_where_two_sides_are_equally_many_the_board_is_wrong(folder, make, write):
    """Nothing says which of two options of two seeds is meant, so nobody is left out quietly."""
    (folder / "results" / "alpha-s2.json").unlink()
    write(folder, [make("alpha", 1, params={"a": 1})])
    with pytest.raises(UsageError, match=r"run differently: .*params\.a is"):
        collect(load(folder), folder)
    assert check(folder)[0].error


def test_seeds_of_a_method_share_their_code(folder, make, write):
    """A seed made by other code of a plugin is left out; other code of the core is a warning."""
    plain = {"core": "1", "methods/alpha": "a", "metrics/ur": "u"}
    made = [make("alpha", s, 5.0, 2.05, provenance={"code": plain}) for s in (0, 1)]
    other = make("alpha", 2, 5.0, 2.05, provenance={"code": plain | {"methods/alpha": "b"}})
    write(folder, [*made, other])
    reason = left_out(folder)["alpha-s2.json"]
    assert "alpha seed 0 and alpha seed 2 were made by different code of methods/alpha" in reason
    write(folder, [make("alpha", 2, 5.0, 2.05, provenance={"code": plain | {"core": "2"}})])
    assert left_out(folder) == {}
    build(folder)
    assert [p.text for p in check(folder)] == [
        "the seeds of alpha were made by 2 versions of the core"
    ]


def test_code_of_different_methods_is_not_compared(folder, make, write):
    """Methods differ in code, and what is installed does not matter."""
    for method in ("alpha", "beta"):
        code = {f"methods/{method}": "0" * 64, "metrics/ur": method}
        write(folder, [make(method, s, 5.0, 2.05, provenance={"code": code}) for s in range(3)])
    assert left_out(folder) == {}


def test_methods_may_differ_in_their_own_options(folder, make, write):
    """What belongs to one method need not agree with another's."""
    write(folder, [make("alpha", seed, params={"a": 1}) for seed in range(3)])
    assert len(standing(folder)) == 12


def test_mixed_protocols_are_refused_with_the_setting(folder, make, write):
    """One result with more solver steps is left out, and the setting is named."""
    other = MetricProtocol(name="nll/ode", settings={"steps": 500})
    write(folder, [make("beta", 1, protocols=(UR, other))])
    assert "steps is 50 against 500" in left_out(folder)["beta-s1.json"]
    assert "2 of 3 seeds" in build(folder).text
    assert "steps is 50 against 500" in check(folder)[0].text


def test_two_protocols_of_equally_many_results_stop_the_board(folder, make, write):
    """Half of the results with more solver steps: no page is written."""
    other = MetricProtocol(name="nll/ode", settings={"steps": 500})
    half = [
        make(method, s, protocols=(UR, other)) for method in ("alpha", "beta") for s in range(3)
    ]
    write(folder, half)
    with pytest.raises(ProtocolMixError, match="nll/ode: steps is 500 against 50"):
        build(folder)
    assert not (folder / "README.md").exists()


def test_mixed_versions_are_refused(folder, make, edit):
    """Version 2 of a protocol does not stand beside version 1."""
    newer = MetricProtocol(name="nll/ode", version=2, settings=NLL.settings)

    def change(content):
        content["protocols"][newer.id] = {"hash": newer.hash, "settings": newer.settings}
        del content["protocols"][NLL.id]
        for row in content["metrics"]:
            if row["protocol"] == NLL.id:
                row["protocol"] = newer.id

    edit(folder / "results" / "beta-s1.json", change)
    assert "version is '1' against '2'" in left_out(folder)["beta-s1.json"]


@pytest.mark.parametrize(("field", "value"), [("unit", "nats"), ("direction", "up"), ("task", "x")])
def test_mixed_units_are_refused(folder, edit, field, value):
    """The same protocol in another unit, direction or task is a mistake, not a value."""
    edit(folder / "results" / "beta-s1.json", lambda c: c["metrics"][1].update({field: value}))
    assert "unit, direction and task" in left_out(folder)["beta-s1.json"]


def test_protocol_diff_lists_settings(make):
    """Nested settings that differ are listed with both values, equal ones are not."""
    other = MetricProtocol(
        name="unlearning_ratio/judge", settings={"count": 1000, "judge": {"width": 16, "k": 1}}
    )
    a, b = make("alpha", 0), make("alpha", 1, protocols=(other, NLL))
    assert [str(d) for d in protocol_diff(a, b)] == [
        "unlearning_ratio/judge: judge.k is '(absent)' against 1",
        "unlearning_ratio/judge: judge.width is 8 against 16",
    ]
    assert protocol_diff(a, a) == []


def test_a_metric_by_two_protocols_must_be_named(folder, edit):
    """Where a result has a quantity twice, the board says which it means."""
    second = MetricProtocol(name="nll/elbo", settings={})

    def change(content):
        content["protocols"][second.id] = {"hash": second.hash, "settings": {}}
        content["metrics"].append(content["metrics"][1] | {"protocol": second.id})

    for path in (folder / "results").iterdir():
        edit(path, change)
    with pytest.raises(UsageError, match="measured in several ways"):
        collect(load(folder), folder)


def test_tidy_has_a_row_for_each_result_and_key(make, folder):
    """Missing values are NaN with a reason, so that nothing is lost on the way to pandas."""
    results = [
        make("alpha", 0),
        make("alpha", 1, None),
        make("beta", 0, status="failed", reason="x"),
    ]
    frame = tidy(results, load(folder).quantities)
    assert len(frame) == 9
    assert frame["value"].isna().sum() == 4
    assert set(frame.loc[frame["value"].isna(), "reason"]) == {"the solver diverged", "failed: x"}


def test_import_takes_what_fits(folder, make, tmp_path):
    """Runs of the cell are copied under method and seed; the rest is left with a reason."""
    for path in (folder / "results").iterdir():
        path.unlink()
    fits = [make("alpha", 0), make("beta", 7)]
    others = [make("alpha", 1, preset="quick"), make("gamma", 0)]
    runs = runs_of(tmp_path / "runs", [*fits, *others])
    (runs / "broken").mkdir()
    (runs / "broken" / "result.json").write_text("{")
    (runs / "unfinished").mkdir()
    done = import_results(folder, runs)
    assert sorted(p.name for p in (folder / "results").iterdir()) == [
        "alpha-s0.json",
        "beta-s7.json",
    ]
    assert {path.parent.name: why for path, why in done.left.items()}["run-2"].startswith(
        "it does not belong to this board: its preset"
    )
    assert {path.parent.name for path in done.left} == {"run-2", "run-3", "broken"}
    again = import_results(folder, runs)
    assert not again.written
    assert len(again.same) == 2


def test_import_replaces_but_never_by_a_failure(folder, make, tmp_path):
    """A newer result takes the place of an old one; a failed run leaves the good one alone."""
    runs = runs_of(
        tmp_path / "runs", [make("alpha", 0, 1.0), make("beta", 0, status="failed", reason="x")]
    )
    done = import_results(folder, runs)
    assert [p.name for p in done.written.values()] == ["alpha-s0.json"]
    stored = json.loads((folder / "results" / "alpha-s0.json").read_text())
    assert stored["metrics"][0]["value"] == 1.0
    assert "beta-s0.json holds one that succeeded" in next(iter(done.left.values()))


def test_import_of_two_runs_for_one_place(folder, make, tmp_path):
    """Two different results of a seed are both left; a failed one yields to a sound one."""
    runs = runs_of(
        tmp_path / "runs",
        [
            make("alpha", 0, 1.0),
            make("alpha", 0, 2.0),
            make("beta", 0, 3.0),
            make("beta", 0, status="failed", reason="x"),
        ],
    )
    done = import_results(folder, runs)
    assert [p.parent.name for p in done.written] == ["run-2"]
    reasons = {path.parent.name: why for path, why in done.left.items()}
    assert reasons["run-0"] == "several runs of alpha seed 0 differ: run-0, run-1"
    assert reasons["run-3"] == "failed, and another run of that seed succeeded"


def coded(make, seeds, code, method="alpha"):
    """Results of a method, made by one version of its code."""
    provenance = {"code": {f"methods/{method}": code * 64}}
    return [make(method, seed, 4.0, provenance=provenance) for seed in seeds]


@pytest.mark.parametrize(
    ("seeds", "reason"),
    [
        ([0], r"alpha seed \d and alpha seed \d were made by different code of methods/alpha"),
        ([0, 1], "a result that stands would have to go: alpha seed"),
        ([0, 1, 2], None),
    ],
)
def test_runs_that_do_not_compare_replace_nothing(folder, make, write, tmp_path, seeds, reason):
    """Some seeds by another version of the code are refused, all of them take the old ones' place.

    What was on the board stands there still, and runs of other methods are taken.
    """
    write(folder, coded(make, range(3), "a"))
    before = {path.name: path.read_bytes() for path in (folder / "results").iterdir()}
    new = coded(make, seeds, "b")
    page = build(folder, runs_of(tmp_path / "runs", [*new, make("beta", 0, 4.5)]))
    imported, after = page.imported, len(page.results)
    assert after == len(before)
    names = {f"alpha-s{seed}.json" for seed in seeds}
    if reason is None:
        assert {path.name for path in imported.written.values()} == names | {"beta-s0.json"}
        assert not imported.refused
        return
    assert [path.name for path in imported.written.values()] == ["beta-s0.json"]
    assert len(imported.refused) == len(seeds)
    assert all(re.search(reason, text) for text in imported.refused.values())
    for name in names:
        assert (folder / "results" / name).read_bytes() == before[name]


def test_the_command_fails_where_runs_are_refused(folder, make, write, bench, tmp_path):
    """Its exit code and stderr say so, with what to do; a failed run is only skipped."""
    write(folder, coded(make, range(3), "a"))
    failed = make("alpha", 1, status="failed", reason="x", provenance={"code": {"methods/a": "c"}})
    runs = runs_of(tmp_path / "runs", [failed])
    code, out, err = bench("board", "build", folder, "--runs", runs)
    assert (code, "not imported" in err) == (0, False)
    assert "alpha-s1.json holds one that succeeded" in out
    runs = runs_of(tmp_path / "others", coded(make, [0], "b"))
    code, out, err = bench("board", "build", folder, "--runs", runs)
    assert (code, "imported: " in out, "written: " in out) == (1, False, True)
    assert re.search(r"not imported: .*different code of methods/alpha", err)
    assert "run all seeds of these methods by one version" in err


def test_a_board_that_stands_apart_is_mended_by_an_import(folder, make, write, tmp_path):
    """Where what stands does not compare, nothing is left to hold new runs against."""
    write(folder, [*coded(make, [0], "a"), *coded(make, [1], "b")])
    (folder / "results" / "alpha-s2.json").unlink()
    with pytest.raises(UsageError, match="different code"):
        build(folder)
    page = build(folder, runs_of(tmp_path / "runs", coded(make, range(3), "b")))
    assert (len(page.imported.written), len(page.imported.same)) == (2, 1)


def test_import_from_nowhere_is_an_error(folder, tmp_path):
    """A misspelt --runs is an error, not an empty import."""
    with pytest.raises(UsageError, match="--runs"):
        build(folder, tmp_path / "nowhere")


def test_build_imports_first(folder, make, tmp_path):
    """``build`` with runs shows them at once and reports what it took."""
    runs = runs_of(tmp_path / "runs", [make("alpha", 3, 5.0, 2.05)])
    page = build(folder, runs)
    assert page.imported is not None
    assert len(page.imported.written) == 1
    assert sum(result.spec.method == "alpha" for result in page.results) == 4
    assert check(folder) == []
