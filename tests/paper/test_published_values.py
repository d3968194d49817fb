"""The paper's values on the pages of boards: those that a result answers, as the view has them."""

from __future__ import annotations

from msgm_paper.assessment import Status
from msgm_paper.published import published_values


def test_a_result_has_the_values_that_it_answers(entry, make):
    """Value, unit, table, status and interval; nothing of other methods or other tasks."""
    value = entry(1, "unseen", "nll", "retain")
    answers = published_values(results=[make(value, value.value, 0.01)])
    (published,) = (p for p in answers if (p.metric, p.split) == ("nll", "retain"))
    assert {p.method for p in answers} == {"unseen"}
    assert published.value == value.value
    assert published.unit == value.unit
    assert published.source == "arXiv:2412.07229, table 1"
    assert published.status == Status.REPRODUCED
    assert published.measured == (value.value, value.value - 0.01, value.value + 0.01)


def test_of_another_task_there_is_nothing(make, entry):
    """A result of another forget set answers no value."""
    value = entry(1, "unseen", "nll", "retain")
    assert published_values(results=[make(value, 1.0, forget=["left"])]) == []
    assert published_values(results=[]) == []
