"""Ranked tables in a terminal of 80 columns: no number is broken, no column is lost."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench.cli import tables

FRONT = {"#": ["1=", "3"], "method": ["unseen", "selective_amnesia"]}
CELLS = ("0.00 ± 0.43", "-0.32 [-0.32, -0.32]", "10.795 [10.646, 10.944]", "", "5.0e+09 [1.0, 2.0]")


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A terminal of 80 columns."""
    console = tables.PlainConsole(width=80, file=io.StringIO())
    monkeypatch.setattr(tables, "console", lambda: console)
    return console


@given(st.lists(st.tuples(*[st.sampled_from(CELLS)] * 2), min_size=1, max_size=14))
def test_words_stand_whole_in_lines_of_80(values):
    """Every column is there once, in its order, and each value keeps its numbers whole."""
    columns = {f"c{i} ↓\nretain\nbits/dim": list(cells) for i, cells in enumerate(values)}
    console = tables.console()
    for table in tables.side_by_side(FRONT, columns):
        console.print(table)
    text = console.file.getvalue()
    console.file.seek(0)
    console.file.truncate()
    assert max(map(len, text.splitlines())) <= 80
    heads = [word for word in text.split() if word[0] == "c" and word[1:].isdigit()]
    assert heads == [f"c{i}" for i in range(len(values))]
    words = text.split()
    for cells in values:
        for cell in cells:
            for word in cell.split():
                assert word in words


def test_columns_that_fit_stand_in_one_table():
    """Intervals are on the line of their value where there is room."""
    columns = {"UR ↓\n%": ["0.00 ± 0.43"] * 2, "NLL ↓\nbits/dim": ["2.42 ± 0.02"] * 2}
    (table,) = tables.side_by_side(FRONT, columns)
    tables.console().print(table)
    assert tables.console().file.getvalue().count("0.00 ± 0.43") == 2
