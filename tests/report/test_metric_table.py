"""The table of rows in reports and on model cards, read by an independent parser of markdown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from msgm_bench.api import Row
from msgm_bench.report.metric_table import COLUMNS, metric_table
from msgm_bench.storage import single_line

ROW = Row(
    task="generation",
    metric="ur",
    split="samples",
    value=12.3456,
    low=10.0,
    high=15.5,
    unit="%",
    n=400,
    protocol="unlearning_ratio/judge@1",
)


def cells(lines):
    """Texts of the table's cells, a list for each row; the head first."""
    tokens = MarkdownIt("commonmark").enable("table").parse("\n".join(lines))
    assert tokens[0].type == "table_open"
    rows, contents = [], []
    for token in tokens:
        if token.type == "inline":
            contents.append("".join(child.content for child in token.children))
        elif token.type == "tr_close":
            rows.append(contents)
            contents = []
    return rows


def test_values_and_intervals():
    """Four digits, an interval where there is one, a dash without a value, a mark for a stamp."""
    missing = ROW.model_copy(update={"value": None, "low": None, "high": None, "reason": "none"})
    stamped = ROW.model_copy(update={"stamp": "weak judge"})
    head, *rows = cells(metric_table([ROW, missing, stamped]))
    assert head == list(COLUMNS)
    assert rows[0] == [
        *("generation", "ur", "samples", "12.35", "10 to 15.5", "%", "400"),
        "unlearning_ratio/judge@1",
    ]
    assert rows[1][3:5] == ["–", "–"]
    assert rows[2][3] == "12.35 ⚠"


def test_columns_are_chosen():
    """A part of the columns, in their own order."""
    assert cells(metric_table([ROW], ["n", "metric"])) == [["n", "metric"], ["400", "ur"]]


@given(st.text(alphabet="ab|`*_<&\\ \n\x1b", max_size=20))
def test_texts_stay_in_their_cells(text):
    """Whatever a unit is, the table has as many cells, and the unit is on one line."""
    (_, row) = cells(metric_table([ROW.model_copy(update={"unit": text})]))
    assert len(row) == len(COLUMNS)
    expected = " ".join(single_line(text).split())
    assert row[5] == (expected or "–")
