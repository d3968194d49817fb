"""A third-party metric stands where the built-in ones stand: tables, boards, plots and checks."""

from __future__ import annotations

import pytest

from msgm_bench.api import Metric, MetricColumn
from msgm_bench.api.result import MetricProtocol, ProtocolRecord, Row
from msgm_bench.boards import build, check, compare
from msgm_bench.boards.plausibility import violation
from msgm_bench.boards.track_columns import track_columns
from msgm_bench.cli.tables import column_heading, print_comparison
from msgm_bench.errors import PluginError

SOURCE = '''
"""A third-party metric."""

from msgm_bench import Metric, MetricColumn, MetricProtocol, hookimpl


class Echo(Metric):
    """How often a sample echoes a training item, in per mille."""

    name = "echo"
    tasks = ("generation",)
    columns = (
        MetricColumn(metric="echo", label="Echo rate", direction="down", digits=1, position=15),
    )
    protocols = ("echo/nearest",)

    @classmethod
    def violations(cls, rows):
        if rows.of("samples")["echo"].value > 1000:
            yield "more than all samples echo"

    def protocol(self, subject, task):
        return MetricProtocol(name="echo/nearest", settings={})

    def measure(self, subject, task, artifact):
        return []


@hookimpl
def register_metrics():
    return [Echo]
'''
ECHO = MetricProtocol(name="echo/nearest")


@pytest.fixture
def echo(third_party):
    """The metric, installed."""
    return third_party("third-party-echo", SOURCE, "metrics.echo")


def echoing(result, value):
    """The result with a row of the metric."""
    row = Row(
        task="generation",
        metric="echo",
        split="samples",
        protocol=ECHO.id,
        value=value,
        unit="per mille",
        n=1000,
        low=value - 1,
        high=value + 1,
        direction="down",
    )
    record = ProtocolRecord(hash=ECHO.hash, settings=ECHO.settings)
    changed = result.model_copy(
        update={
            "metrics": [*result.metrics, row],
            "protocols": {**result.protocols, ECHO.id: record},
        }
    )
    return changed.model_copy(update={"digest": changed.content_digest()})


def test_it_stands_in_the_table_at_its_position(echo, make, capsys):
    """Between UR (10) and the next column (20), with its label, digits, unit and arrow."""
    results = [echoing(make(m, 0), value) for m, value in (("alpha", 42.25), ("beta", 7.0))]
    table = compare(results)
    headings = [name for name in table.columns if "↓" in name or "↑" in name]
    assert headings[:2] == ["UR (%) ↓", "Echo rate (per mille) ↓"]
    assert list(table["Echo rate (per mille) ↓"]) == ["42.2 [41.2, 43.2]", "7.0 [6.0, 8.0]"]
    print_comparison(results)
    printed = capsys.readouterr().out
    assert "Echo" in printed
    assert "per mille" in printed


def test_it_stands_on_boards_and_their_plots(echo, folder, definition, everything, write):
    """It can rank a board and be its gate: both axes of the plot name it."""
    quantity = {"metric": "echo", "split": "samples"}
    definition["columns"].append({**quantity, "label": "Echo rate"})
    definition["rank"] = quantity
    definition["gate"]["limits"] = [{**quantity, "within": 100}]
    values = {"base": 90.0, "ideal": 10.0, "alpha": 20.0, "beta": 5.0}
    results = [echoing(r, values[r.spec.method] + r.spec.seed) for r in everything]
    write(folder, results, definition)
    page = build(folder)
    assert [row.method for row in page.ranked] == ["beta", "ideal", "alpha", "base"]
    assert "Echo rate (per mille) ↓" in page.text
    assert page.files["plot.svg"].count(">Echo rate (per mille), better") == 2
    assert check(folder) == []


def test_its_violations_leave_results_out(echo, make):
    """What only the metric knows to be impossible is refused with its reason."""
    assert violation(echoing(make("alpha", 0), 999.0)) is None
    assert violation(echoing(make("alpha", 0), 1001.0)) == (
        "echo/nearest@1: more than all samples echo"
    )


def test_a_metric_that_is_not_installed_is_no_column(make):
    """Its rows stay in the result: nobody says how to read them in a table."""
    table = compare([echoing(make("alpha", 0), 5.0)])
    assert not [name for name in table.columns if "cho" in name]


def test_tracks_have_columns_of_their_own():
    """The first column of a track is the one that ranks it."""
    unconditional, conditional = (track_columns(track) for track in ("unconditional", "class"))
    assert unconditional[0].metric != conditional[0].metric
    assert {c.metric for c in unconditional} & {c.metric for c in conditional}


@pytest.mark.parametrize("columns", [[], "ur", ("ur",), None])
def test_wrong_declarations_are_refused(columns):
    """Whatever is no tuple of columns is refused when the class is registered."""
    wrong = type("Wrong", (Metric,), {"name": "wrong", "tasks": (), "columns": columns})
    with pytest.raises(PluginError, match="columns of 'wrong'"):
        wrong.validate()


def test_labels_in_narrow_lines():
    """First word and arrow, further words, unit; a heading of any shape is a text."""
    assert column_heading("NLL retain (bits/dim) ↓") == "NLL ↓\nretain\nbits/dim"
    assert column_heading("UR") == "UR"
    assert column_heading("(odd (heading") != ""
    assert MetricColumn(metric="x", label="X", direction="none").split == "samples"
