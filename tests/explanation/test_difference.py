"""In what two results differ: one change at a time, each in its place and in no other."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench.api.result import Row
from msgm_bench.boards.protocols import ABSENT
from msgm_bench.explanation import Outcome, ValuePair, compare_results
from msgm_bench.explanation.difference import DECISIVE, HARMLESS, PROTOCOLS

CHANGES = [
    ("spec:settings:judge:width", 9, "Judge", "width"),
    ("provenance:judge:accuracy", 0.9, "Judge", "accuracy"),
    ("spec:dataset", "other", "Data", "dataset"),
    ("spec:forget", ["c"], "Data", "forget"),
    ("provenance:dataset_fingerprint", "0" * 64, "Data", "fingerprint"),
    ("spec:params:strength", 0.6, "Options", "method options.strength"),
    ("spec:settings:training:steps", 99, "Options", "training.steps"),
    ("spec:settings:tasks:draw:nfe", 64, "Options", "tasks.draw.nfe"),
    ("spec:backbone", "other", "Options", "backbone"),
    ("spec:preset", "full", "Options", "preset"),
    ("spec:conditional", True, "Options", "track"),
    ("spec:base", "9" * 64, "Base model", "sha256"),
    ("provenance:stages:base", "9" * 64, "Base model", "stage"),
    ("spec:seeds:sample", 6, "Seeds", "sample"),
    ("provenance:code:core", "0" * 64, "Code", "core"),
    ("provenance:versions:torch", "3.0", "Versions", "torch"),
    ("provenance:hardware:threads", 2, "Hardware", "threads"),
    ("provenance:hardware:device", "cuda", "Hardware", "device"),
    ("provenance:wall_seconds", 9.0, "Cost", "wall seconds"),
    ("provenance:hardware:peak_memory_mib", 9, "Cost", "peak_memory_mib"),
    ("provenance:command", "msgm-bench run --out x", "Origin", "command"),
    ("provenance:git_commit", "0" * 40, "Origin", "git commit"),
]


def test_a_result_and_itself(make):
    """Nothing differs, every stage is shared, every value is equal."""
    comparison = compare_results(make(), make())
    assert not comparison.decisive
    assert not comparison.harmless
    assert not comparison.own_stages
    assert {pair.outcome for pair in comparison.values} == {Outcome.EQUAL}


@pytest.mark.parametrize(("key", "value", "group", "name"), CHANGES, ids=str)
def test_one_change(make, key, value, group, name):
    """It is named once, with both values, in its group, on its side of what changes values."""
    comparison = compare_results(make(), make({key: value}))
    decisive, harmless = comparison.decisive, comparison.harmless
    (part,) = decisive + harmless
    assert (part.group, part.name) == (group, name)
    assert part.a != part.b
    assert bool(decisive) == (group in DECISIVE)
    assert bool(harmless) == (group in HARMLESS)


def test_protocols_come_first_and_once(make):
    """An option of task or judge that a protocol has is a line, and not among the options again."""
    changes = {
        "provenance:wall_seconds": 1.0,
        "spec:settings:judge:width": 9,
        "spec:settings:tasks:draw:nfe": 64,
        "protocols:share/judge:draw": {"nfe": 64},
        "protocols:share/judge:judge": {"name": "rule", "options": {"width": 9}},
    }
    comparison = compare_results(make(), make(changes))
    assert [(part.group, part.name, part.a, part.b) for part in comparison.decisive] == [
        (PROTOCOLS, "share/judge: draw.nfe", 32, 64),
        (PROTOCOLS, "share/judge: judge.options.width", 8, 9),
    ]
    outcomes = {pair.row.metric: pair.outcome for pair in comparison.values}
    assert outcomes == {"share": Outcome.NOT_COMPARABLE, "cost": Outcome.EQUAL}


def test_one_setting_of_several_protocols(make):
    """It is one line with the names of all."""
    changes = {"protocols:share/judge:data": "y@1", "protocols:cost/mean:data": "y@1"}
    (part,) = compare_results(make(), make(changes)).decisive
    assert part.name == "cost/mean, share/judge: data"


def test_a_protocol_that_only_one_has(make):
    """It is named, and its settings are not."""
    base = make()
    other = base.model_copy(
        update={
            "metrics": base.metrics[:1],
            "protocols": {k: v for k, v in base.protocols.items() if k.startswith("share")},
        }
    )
    (part,) = compare_results(base, other).decisive
    assert (part.group, part.name, part.a, part.b) == (PROTOCOLS, "cost/mean", "measured", ABSENT)


def test_the_order_of_groups(make):
    """What changes values most directly comes first."""
    changes = {key: value for key, value, group, _ in CHANGES if group in DECISIVE}
    groups = [part.group for part in compare_results(make(), make(changes)).decisive]
    assert list(dict.fromkeys(groups)) == list(DECISIVE)


def test_stages_that_are_one_computation(make):
    """Equal keys are shared stages, all others are not."""
    other = make({"provenance:stages:train tune": "9" * 64, "provenance:stages:extra": "8" * 64})
    comparison = compare_results(make(), other)
    assert comparison.shared_stages == ("fit judge rule", "base", "draw draw", "measure")
    assert comparison.own_stages == ("train tune", "extra")


# Values ------------------------------------------------------------------------------------

NUMBERS = st.floats(-100, 100)
WIDTHS = st.floats(0, 50)


def value_row(value, half):
    """A row with a symmetric interval, or with none."""
    fields = {"task": "t", "metric": "m", "split": "samples", "protocol": "p@1", "unit": "1"}
    ends = {} if half is None else {"low": value - half, "high": value + half}
    return Row(**fields, value=value, n=10, **ends)


@given(NUMBERS, WIDTHS, NUMBERS, WIDTHS)
def test_the_noise_of_two_values(a, h, b, k):
    """Within noise where |b - a| is at most sqrt(h^2 + k^2), and the same both ways round."""
    pair = ValuePair(value_row(a, h), value_row(b, k), True)
    turned = ValuePair(pair.b, pair.a, True)
    assert pair.outcome is turned.outcome
    slack = 1e-6 * max(1, abs(a))
    if abs(b - a) > math.hypot(h, k) + 2 * slack:
        assert pair.outcome is Outcome.DIFFERS
    if abs(b - a) < math.hypot(h, k) - slack:
        assert pair.outcome in (Outcome.WITHIN_NOISE, Outcome.EQUAL)
    assert pair.difference == b - a


def test_values_that_do_not_compare(make):
    """Another setting of a protocol, a value that is none, a row that only one has."""
    base = make()
    pairs = {p.row.metric: p for p in compare_results(base, make(share=(None, None))).values}
    assert pairs["share"].outcome is Outcome.NO_VALUE
    assert pairs["cost"].outcome is Outcome.EQUAL
    fewer = base.model_copy(update={"metrics": base.metrics[:1]})
    assert [p.outcome for p in compare_results(base, fewer).values] == [
        Outcome.EQUAL,
        Outcome.MISSING,
    ]
    assert [p.outcome for p in compare_results(fewer, base).values] == [
        Outcome.EQUAL,
        Outcome.MISSING,
    ]


# The command -------------------------------------------------------------------------------


def test_command(make, write, bench, monkeypatch):
    """Exit code 0 whether results differ or not; what can change a value comes first."""
    monkeypatch.setenv("COLUMNS", "80")
    first = write(make())
    same = write(make(), "same")
    code, out, err = bench("diff", first, same)
    assert (code, err) == (0, "")
    assert "Can change a value: nothing differs" in out
    assert "2 of 2 values are equal to the last digit." in out
    changes = {"spec:params:strength": 0.75, "provenance:wall_seconds": 9.0}
    other = write(make(changes, share=(14.0, 1.0), cost=(2.05, 0.1)), "other")
    code, out, err = bench("diff", first, other)
    assert (code, err) == (0, "")
    assert out.index("method options.strength") < out.index("Cannot change a value")
    assert out.index("Cannot change a value") < out.index("wall seconds")
    assert "0.5 against 0.75" in out
    lines = out.splitlines()
    assert max(map(len, lines[2:])) <= 80
    (share,) = [line for line in lines if "+4" in line]
    assert "differs" in share
    (cost,) = [line for line in lines if "+0.05" in line]
    assert "within noise" in cost


def test_rows_that_differ_by_protocol_alone(with_fid, write, bench, monkeypatch):
    """The protocol stands in such rows; a value that is missing says why, and where."""
    monkeypatch.setenv("COLUMNS", "80")
    first, second = write(with_fid()), write(with_fid(judged=3.5), "second")
    code, out, err = bench("diff", first, second)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    place = lines.index(["draw", "none", "none", "no", "value"])
    names = [["fid", "samples"], ["fid/"], ["inception-2015/"], ["drawing"]]
    assert lines[place + 1 : place + 5] == names
    assert lines[place + 5][:4] == ["draw", "2.215", "3.5", "+1.29"]
    assert lines[place + 7] == ["fid/judge/"]
    note = " ".join(out.partition("No value:")[2].split())
    assert note.startswith("draw fid samples A and B: its weights are not on this machine")
    assert max(map(len, out.splitlines()[2:])) <= 80
    other = write(with_fid("no network"), "other")
    note = " ".join(bench("diff", first, other)[1].partition("No value:")[2].split())
    assert "A: its weights are not on this machine" in note
    assert "B: no network" in note


def test_hostile_words(make, write, bench):
    """Markup and escapes of a stranger's result are text."""
    words = {"spec:forget": ["[bold]b\x1b[31m"], "provenance:code": {"methods/\x1b[1m": "x"}}
    code, out, err = bench("diff", write(make()), write(make(words), "other"))
    assert (code, err) == (0, "")
    assert "[bold]b" in out
    assert "\x1b" not in out
