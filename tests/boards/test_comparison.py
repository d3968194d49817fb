"""Comparison of any results, as at the end of a run."""

from __future__ import annotations

import pytest

from msgm_bench.api.result import MetricProtocol, ProtocolRecord, Row
from msgm_bench.boards import ProtocolMixError, compare
from msgm_bench.errors import UsageError


def test_a_cell_is_ranked_as_a_board_is(everything):
    """The same ranks as the board's page, key columns with units and arrows, best first."""
    table = compare(everything)
    assert list(table["method"]) == ["alpha", "beta", "ideal", "base"]
    assert list(table["rank"]) == ["1=", "1=", "3", "4"]
    assert list(table.columns) == [
        "dataset", "forget", "backbone", "preset", "rank", "method", "seeds",
        "UR (%) ↓", "NLL retain (bits/dim) ↓", "NLL forget (bits/dim) ↑", "notes",
    ]  # fmt: skip
    assert table["UR (%) ↓"][0] == "5.03 ± 0.14"
    assert table["seeds"][0] == "0,1,2"


def test_cells_do_not_compete(make):
    """Another dataset, forget set, preset or backbone option has a ranking of its own."""
    results = [
        make("alpha", 0),
        make("alpha", 0, 1.0, dataset="other"),
        make("alpha", 0, 1.0, preset="quick"),
        make("alpha", 0, 1.0, backbone_params={"width": 9}),
    ]
    table = compare(results)
    assert list(table["rank"]) == ["1"] * 4


def conditional(make, method, ua):
    """A result of the conditional track with nothing but UA."""
    protocol = MetricProtocol(name="ua/judge", settings={"guidance": 2.0})
    row = Row(
        task="class_generation",
        metric="ua",
        split="samples",
        protocol=protocol.id,
        value=ua,
        unit="%",
        n=1000,
        low=ua - 1,
        high=ua + 1,
        direction="up",
    )
    described = ProtocolRecord(hash=protocol.hash, settings=protocol.settings)
    measured = {"metrics": [row], "protocols": {protocol.id: described}}
    return make(method, 0, conditional=True).model_copy(update=measured)


def test_models_that_must_be_asked_otherwise_do_not_compete(make):
    """A one-step generator has a ranking of its own, which says how it was sampled."""
    plain = conditional(make, "alpha", 60.0)
    one = conditional(make, "beta", 90.0)
    (identity, record), *_ = one.protocols.items()
    protocol = MetricProtocol(name="ua/judge", settings={"guidance": 0.0})
    described = record.model_copy(update={"hash": protocol.hash, "settings": protocol.settings})
    required = {"class_generation": {"sampler": "one_step", "nfe": 1}}
    changed = {
        "protocols": {identity: described},
        "provenance": {**one.provenance, "limits": {"required_task_options": required}},
    }
    table = compare([plain, one.model_copy(update=changed)])
    assert list(table["rank"]) == ["1", "1"]
    told = "(class-conditional; class_generation: sampler = one_step, nfe = 1)"
    assert sorted(name.endswith(told) for name in table["backbone"]) == [False, True]


def test_tracks_do_not_compete(make):
    """Class-conditional results have a ranking of their own, by UA, the highest first."""
    told = [conditional(make, name, ua) for name, ua in (("alpha", 60.0), ("beta", 90.0))]
    table = compare([make("alpha", 0, 1.0), *told])
    assert list(table["backbone"]) == ["net", "net (class-conditional)", "net (class-conditional)"]
    assert list(table["method"]) == ["alpha", "beta", "alpha"]
    assert list(table["rank"]) == ["1", "1", "2"]
    assert list(table["UA (%) ↑"]) == ["", "90.00 [89.00, 91.00]", "60.00 [59.00, 61.00]"]
    assert table["UR (%) ↓"][1] == ""


def test_options_that_differ_name_the_line(make):
    """A method with two values of an option has two lines, each with its value."""
    results = [
        make("alpha", s, v + s / 9, params={"a": v, "b": 1}) for v in (1, 2) for s in (0, 1, 2)
    ]
    table = compare(results)
    assert list(table["method"]) == ["alpha (a=1)", "alpha (a=2)"]
    assert list(table["rank"]) == ["1", "2"]


def test_one_seed_is_ranked_by_its_items(make):
    """With one seed, methods whose item intervals overlap are tied and others are not."""
    table = compare([make("alpha", 0, 5.0), make("beta", 0, 50.0), make("gamma", 0, 5.9)])
    assert list(table["method"]) == ["alpha", "gamma", "beta"]
    assert list(table["rank"]) == ["1=", "1=", "3"]
    assert table["UR (%) ↓"][2] == "50.00 [46.91, 53.09]"


def test_failures_are_dashes_with_notes(make):
    """A failed run stands last with its reason."""
    table = compare([make("beta", 0, status="failed", reason="diverged at 3"), make("alpha", 0)])
    assert list(table["method"]) == ["alpha", "beta"]
    assert table["UR (%) ↓"][1] == "–"
    assert "diverged at 3" in table["notes"][1]


def test_repeats_count_once_and_conflicts_are_errors(make):
    """The same result twice is one; two different ones for the same seed are refused."""
    assert len(compare([make("alpha", 0), make("alpha", 0)])) == 1
    with pytest.raises(UsageError, match="two different results of alpha seed 0"):
        compare([make("alpha", 0, 1.0), make("alpha", 0, 2.0)])


def test_mixed_protocols_are_refused(make):
    """A comparison refuses to mix as a board does."""
    other = MetricProtocol(name="nll/ode", settings={"steps": 500})
    ratio = MetricProtocol(
        name="unlearning_ratio/judge", settings={"count": 1000, "judge": {"width": 8}}
    )
    with pytest.raises(ProtocolMixError, match="steps is 50 against 500"):
        compare([make("alpha", 0), make("beta", 0, protocols=(ratio, other))])


def test_nothing_compares_to_nothing():
    """No results give an empty table with the usual columns."""
    table = compare([])
    assert table.empty
    assert "rank" in table.columns
