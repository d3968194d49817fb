"""Drift: closed forms of a shifted model, the same points for all methods, and its rows."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from prompt_contexts import STD, book, context, named

from msgm_bench import MeasuredRows, PluginError
from msgm_text.metrics.drift import DriftMetric
from msgm_text.tasks.drift import Drift

OPTIONS = {"images_per_prompt": 40, "nfe": 20}


def drifted(shift=0.0, seed=3, **options):
    """Context, task and artifact of a model whose mean of circle's prompts is shifted."""
    model_context = context(seed=seed)
    base = model_context.model
    model = copy.deepcopy(base)
    means = model.network.text_encoder.means
    prompts = model_context.data.prompts
    for i in prompts.groups((0,))["target"]:
        means[i + 1] += shift
    model_context = replace(model_context, model=model, base=base)
    task = Drift.create(OPTIONS | options)
    return model_context, task, task.draw(model_context, 0, task.total(model_context))


def test_the_base_itself_does_not_drift():
    """Equal weights: zero at every point, and a value of every group."""
    model_context, task, artifact = drifted()
    assert not bool(artifact["drift"].any())
    rows = named(DriftMetric.create().measure(model_context, task, artifact))
    assert {row.value for name, row in rows.items()} == {0.0}
    assert {"drift", "drift_target", "drift_relative_pair"} <= set(rows)


def test_a_shifted_mean_drifts_by_the_closed_form():
    """eps_hat moves by sigma a d / (a^2 s^2 + sigma^2) where the mean moves by d."""
    shift = 0.3
    model_context, task, artifact = drifted(shift)
    process = model_context.model.process
    u = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:-1] + 0.5 / 20_000
    a, sigma = process.marginal(process.sample_times(u))
    square = (sigma * a * shift / (a**2 * STD**2 + sigma**2)).square()
    rows = named(DriftMetric.create().measure(model_context, task, artifact))
    n = rows["drift_target"].n
    error = float(square.std()) / n**0.5
    assert rows["drift_target"].value == pytest.approx(float(square.mean()), abs=5 * error)
    assert rows["drift"].value == rows["drift_synonym"].value == 0
    assert rows["drift_target"].low < rows["drift_target"].value < rows["drift_target"].high


def test_methods_are_compared_at_the_same_points():
    """The base's squares are equal for two models, and other with another seed."""
    (_, _, first), (_, _, second), (_, _, other) = drifted(0.1), drifted(0.7), drifted(0.1, seed=4)
    assert torch.equal(first["base"], second["base"])
    assert not bool((first["base"] == other["base"]).any())


def test_items_do_not_depend_on_their_chunk():
    """Chunks that cut through groups give the items of the whole."""
    model_context, task, whole = drifted(0.2, images_per_prompt=3)
    total = task.total(model_context)
    parts = [task.draw(model_context, i, min(7, total - i)) for i in range(0, total, 7)]
    for name in whole:
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), whole[name])


def test_rows_of_retained_prompts_are_better_if_small():
    """The headline counts neighbours and unrelated prompts; what is to go has no direction."""
    model_context, task, artifact = drifted(0.2)
    rows = DriftMetric.create().measure(model_context, task, artifact)
    groups = model_context.data.prompts.groups((0,))
    assert (rows[0].metric, rows[0].direction) == ("drift", "down")
    assert rows[0].n == 40 * (len(groups["neighbour"]) + len(groups["unrelated"]))
    directions = {row.metric: row.direction for row in rows}
    assert directions["drift_target"] == "none"
    assert directions["drift_neighbour"] == "down"


def test_values_that_are_not_finite_are_null():
    """A model that gives no number has a reason, and no drift."""
    model_context, task, artifact = drifted()
    artifact["drift"][0] = torch.nan
    rows = named(DriftMetric.create().measure(model_context, task, artifact))
    group = model_context.data.prompts[int(artifact["prompt"][0])].group
    assert rows[f"drift_{group}"].value is None
    assert "not finite" in rows[f"drift_{group}"].reason


def test_a_negative_square_is_impossible():
    """Rows of strangers are looked at."""
    model_context, task, artifact = drifted()
    (row, *_) = DriftMetric.create().measure(model_context, task, artifact)
    row = row.model_copy(update={"value": -0.1})
    (violation,) = DriftMetric.violations(MeasuredRows({"samples": {"drift": row}}, {}, {}))
    assert "drift on samples" in violation


def test_there_is_no_drift_without_a_base():
    """A context without a base is the core's error; the plan skips the task before."""
    with pytest.raises(PluginError, match="without a base"):
        Drift.create().draw(context(), 0, 1)


def test_the_protocol_is_of_prompts_and_points():
    """Another number of steps of the base's images, guidance or book is another protocol."""
    hashes = {
        DriftMetric.create().protocol(model_context, Drift.create(options)).hash
        for model_context in (context(), context(book(("blue", "unrelated", "blue"))))
        for options in ({}, {"nfe": 9}, {"guidance": 1.0}, {"images_per_group": 9})
    }
    assert len(hashes) == 8
