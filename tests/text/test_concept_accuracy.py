"""UA, IRA, CRA and in-prompt accuracy: counted by hand, by brute force, and with broken judges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prompt_contexts import (
    CONCEPTS,
    Pixels,
    all_concepts,
    book,
    book_of_rows,
    context,
    named,
    paint,
    without_targets,
)

from msgm_bench import (
    MeasuredRows,
    PluginError,
    Prediction,
    StorageError,
    wilson,
)
from msgm_text.metrics import judged_images
from msgm_text.metrics.concept_accuracy import (
    CrossDomainRetainAccuracy,
    InDomainRetainAccuracy,
    UnlearningAccuracy,
)
from msgm_text.metrics.in_prompt import InPromptAccuracy
from msgm_text.tasks.prompt_generation import PromptGeneration

METRICS = (UnlearningAccuracy, InDomainRetainAccuracy, CrossDomainRetainAccuracy, InPromptAccuracy)
HEADLINES = ("ua", "ira", "cra", "in_prompt")


class Scripted(Pixels):
    """Recognises nothing, sees everything, or sees the opposite."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def predict(self, x):
        """Wrong in one way."""
        true = super().predict(x)
        if self.fault == "blind":
            return Prediction(true.classes, torch.zeros_like(true.recognised))
        if self.fault == "eager":
            return Prediction(torch.ones_like(true.classes), true.recognised)
        return Prediction(~true.classes, true.recognised)


def artifact_of(model_context, task, order=None, show=without_targets):
    """Images that show what ``show`` says, in any order."""
    prompts = task.items(model_context)[:, 0]
    if order is not None:
        prompts = prompts[order]
    return {"x": paint(show(model_context, prompts)), "prompt": prompts}


def measured(model_context, artifact, task=None):
    """All rows by metric."""
    task = task or PromptGeneration()
    return named(
        row for cls in METRICS for row in cls.create().measure(model_context, task, artifact)
    )


# The fault of counting by position in a batch ------------------------------------------------

SIZES = st.integers(1, 60)


@given(
    batch=SIZES,
    each=st.integers(1, 12),
    seed=st.integers(0, 99),
    fault=st.sampled_from([None, "blind", "eager", "contrary"]),
)
def test_counts_do_not_depend_on_batches_or_order(batch, each, seed, fault):
    """A perfect model scores 100 everywhere at any batch size and order; broken judges do not."""
    judge = Pixels.create() if fault is None else Scripted(fault)
    model_context = context(judge=judge)
    task = PromptGeneration.create({"images_per_prompt": each})
    total = task.total(model_context)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    artifact = artifact_of(model_context, task, order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judged_images, "BATCH", batch)
        rows = measured(model_context, artifact, task)
    expected = {
        None: (100, 100, 100, 100),
        "blind": (100, 0, 0, 0),
        "eager": (0, 100, 100, 100),
        "contrary": (0, 0, 0, 0),
    }
    assert tuple(rows[name].value for name in HEADLINES) == expected[fault]
    groups = model_context.data.prompts.groups(model_context.targets)
    sizes = [len(groups[g]) * each for g in ("target", "neighbour", "unrelated", "pair")]
    assert [rows[name].n for name in HEADLINES] == sizes
    for name in HEADLINES:
        assert rows[f"{name}_unrecognisable"].value == (100 if fault == "blind" else 0)


@given(
    batch=SIZES,
    chunk=st.integers(1, 50),
    targets=st.sampled_from([(0,), (1,), (3,), (0, 1), (0, 3)]),
    seed=st.integers(0, 2**31),
)
def test_counts_are_those_of_a_loop_over_images(batch, chunk, targets, seed):
    """Random images of any forget set, drawn in any chunks: each row is counted one by one."""
    extra = [("red", "target", "red"), ("red bar", "pair", "red"), ("blue", "target", "blue")]
    model_context = context(book(*extra), targets=targets)
    task = PromptGeneration.create({"images_per_prompt": 3, "nfe": 2})
    total = task.total(model_context)
    parts = [
        task.draw(model_context, start, min(chunk, total - start))["prompt"]
        for start in range(0, total, chunk)
    ]
    prompts = torch.cat(parts)
    generator = torch.Generator().manual_seed(seed)
    shown = torch.rand(total, len(CONCEPTS), generator=generator) < 0.5
    sound = torch.rand(total, generator=generator) < 0.8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judged_images, "BATCH", batch)
        artifact = {"x": paint(shown, sound), "prompt": prompts}
        rows = measured(model_context, artifact, task)
    names = {"target": "ua", "neighbour": "ira", "unrelated": "cra"}
    names |= {g: f"ua_{g}" for g in ("synonym", "implicit", "pair")}
    for group, members in model_context.data.prompts.groups(targets).items():
        if group not in names or not members:
            continue
        hits = []
        for i, concepts, recognised in zip(
            prompts.tolist(), shown.tolist(), sound.tolist(), strict=True
        ):
            if i in members:
                sees = recognised and concepts[model_context.data.prompts[i].concept]
                hits.append((sees == (group in ("neighbour", "unrelated")), not recognised))
        metric, n = names[group], len(hits)
        for name, k in ((metric, 0), (f"{metric}_unrecognisable", 1)):
            bounds = wilson(sum(hit[k] for hit in hits), n)
            row = rows[name]
            assert (row.value, row.low, row.high, row.n) == pytest.approx(
                (100 * bounds.value, 100 * bounds.low, 100 * bounds.high, n)
            )


# Companions -----------------------------------------------------------------------------------


def test_a_model_that_forgot_nothing_has_no_unlearning_accuracy():
    """What the prompts ask for, shown as the base shows it: UA 0 of every group, IRA 100."""
    model_context = context()
    rows = measured(
        model_context, artifact_of(model_context, PromptGeneration(), show=all_concepts)
    )
    for metric in ("ua", "ua_synonym", "ua_implicit", "ua_pair"):
        assert rows[metric].value == 0
    assert (rows["ira"].value, rows["in_prompt"].value) == (100, 100)
    directions = [rows[m].direction for m in ("ua", "ua_unrecognisable", "ira", "in_prompt")]
    assert directions == ["up", "down", "up", "up"]


def test_noise_is_unlearned_and_unrecognisable():
    """Images that are no images: UA 100 beside an unrecognisable share of 100, the rest 0."""
    model_context = context()
    artifact = artifact_of(model_context, PromptGeneration(), show=all_concepts)
    artifact["x"] = torch.full_like(artifact["x"], torch.nan)
    rows = measured(model_context, artifact)
    assert [rows[name].value for name in HEADLINES] == [100, 0, 0, 0]
    assert [rows[f"{name}_unrecognisable"].value for name in HEADLINES] == [100] * 4


def test_each_of_several_concepts_has_a_row():
    """``ua:square`` and ``ua:circle`` of two targets; their counts add up to ``ua``."""
    model_context = context(targets=(0, 1))
    task = PromptGeneration()
    artifact = artifact_of(model_context, task, show=all_concepts)
    circle = torch.tensor([model_context.data.prompts[i].concept == 0 for i in artifact["prompt"]])
    artifact["x"][circle] = paint(torch.zeros(int(circle.sum()), len(CONCEPTS), dtype=torch.bool))
    rows = measured(model_context, artifact)
    assert (rows["ua:circle"].value, rows["ua:square"].value) == (100, 0)
    assert rows["ua:circle"].n + rows["ua:square"].n == rows["ua"].n
    assert (rows["cra:red"].value, rows["cra:blue"].value) == (100, 100)


def test_in_prompt_is_all_that_a_pair_asks_for_besides():
    """Red is missing in one of two pairs: half are complete, all shapes and half the colours."""
    model_context = context()
    show = without_targets

    def colourless(subject, prompts):
        shown = show(subject, prompts)
        shown[:, 3:] = False
        return shown

    artifact = artifact_of(model_context, PromptGeneration(), show=colourless)
    rows = measured(model_context, artifact)
    n = rows["in_prompt"].n
    assert rows["in_prompt"].value == 50
    assert (rows["in_prompt:shape"].value, rows["in_prompt:shape"].n) == (100, n)
    assert (rows["in_prompt:colour"].value, rows["in_prompt:colour"].n) == (0, n // 2)


class Objects(Pixels):
    """Tells two objects apart: a shape in its colour and nothing, or a shape and a colour."""

    def __init__(self, bound):
        super().__init__()
        self.bound = bound

    def predict(self, x):
        """Pixels as objects."""
        true = super().predict(x)
        shape = torch.arange(len(CONCEPTS)) < 3
        parts = (true.classes, torch.zeros_like(true.classes))
        if not self.bound:
            parts = (true.classes & shape, true.classes & ~shape)
        return Prediction(true.classes, true.recognised, torch.stack(parts, dim=1))


@pytest.mark.parametrize(("bound", "share"), [(True, 100), (False, 50)])
def test_bound_concepts_are_those_of_one_object(bound, share):
    """Square and red must be of one object; the bar that the other pair asks for is alone."""
    model_context = context(judge=Objects(bound))
    rows = measured(model_context, artifact_of(model_context, PromptGeneration()))
    assert rows["in_prompt"].value == 100
    assert (rows["in_prompt_bound"].value, rows["in_prompt_bound"].n) == (share, 10 * 2)


def test_a_judge_without_objects_binds_nothing():
    """The row is not there, and is not a share of 0."""
    model_context = context()
    rows = measured(model_context, artifact_of(model_context, PromptGeneration()))
    assert "in_prompt_bound" not in rows


def test_floors_are_those_of_real_items():
    """Of 4 real circles two are seen, of 3 squares all; one item of each cannot be recognised."""
    real = torch.zeros(9, len(CONCEPTS), dtype=torch.bool)
    real[:4, 0] = True
    real[4:7, 1] = True

    class Weak(Pixels):
        def predict(self, x):
            true = super().predict(x)
            circles = true.classes[:, 0].cumsum(0) * true.classes[:, 0]
            classes = true.classes.clone()
            classes[:, 0] &= circles > 2
            return Prediction(classes, circles != 4)

    model_context = context(judge=Weak.create(), real=real)
    rows = measured(model_context, artifact_of(model_context, PromptGeneration()))
    assert (rows["ua_floor"].value, rows["ua_floor"].n) == (75, 4)
    assert rows["ua_unrecognisable_floor"].value == 25
    assert (rows["ira_clean"].value, rows["ira_clean"].n) == (100, 3)
    assert rows["cra_clean"].value is None
    assert "no such items" in rows["cra_clean"].reason


# What cannot be measured ----------------------------------------------------------------------


def test_a_judge_that_fails_gives_no_value():
    """The judge's error is the reason of null rows; the concept does not count as absent."""

    class Broken(Pixels):
        def predict(self, x):
            raise StorageError("its weights are damaged")

    model_context = context(judge=Broken.create())
    rows = measured(model_context, artifact_of(model_context, PromptGeneration()))
    for name in HEADLINES:
        for row in (rows[name], rows[f"{name}_unrecognisable"]):
            assert row.value is None
            assert row.reason == "the judge 'pixels' failed: its weights are damaged"


@pytest.mark.parametrize(
    "prediction",
    [
        Prediction(torch.zeros(1, len(CONCEPTS), dtype=torch.bool), torch.ones(1).bool()),
        Prediction(torch.zeros(100, 2, dtype=torch.bool), torch.ones(100).bool()),
        Prediction(torch.zeros(100, len(CONCEPTS)).bool(), torch.ones(100)),
        Prediction(torch.full((100,), -1), torch.ones(100).bool()),
        Prediction(torch.full((100,), len(CONCEPTS)), torch.ones(100).bool()),
        Prediction(
            torch.zeros(100, len(CONCEPTS)).bool(),
            torch.ones(100).bool(),
            torch.zeros(100, 2, len(CONCEPTS) + 1).bool(),
        ),
    ],
)
def test_a_judge_of_other_items_or_concepts_is_an_error(prediction):
    """Classes or objects of another shape, or of none, are the plugin's fault, and no row."""

    class Other(Pixels):
        def predict(self, x):
            return prediction

    model_context = context(judge=Other.create())
    task = PromptGeneration.create({"images_per_prompt": 60})
    with pytest.raises(PluginError, match=r"predicts|classes"):
        UnlearningAccuracy.create().measure(model_context, task, artifact_of(model_context, task))


def test_a_judge_of_classes_is_read_as_one_concept():
    """A class ``int64 [N]`` is the one concept that an image shows."""

    class Classes(Pixels):
        def predict(self, x):
            return Prediction(torch.zeros(len(x), dtype=torch.int64), torch.ones(len(x)).bool())

    model_context = context(judge=Classes.create())
    rows = measured(model_context, artifact_of(model_context, PromptGeneration()))
    assert (rows["ua"].value, rows["ira"].value) == (0, 0)


def test_a_group_without_prompts_is_null():
    """No pair and nothing unrelated in the book: null with the reason, and no zero."""
    prompts = [("circle", "target", "circle"), ("square", "target", "square")]
    model_context = context(book_of_rows(prompts))
    rows = measured(model_context, artifact_of(model_context, PromptGeneration()))
    assert rows["cra"].value is None
    assert rows["cra"].reason == "no prompt is of the group 'unrelated'"
    assert rows["in_prompt"].reason == "no prompt is of the group 'pair'"
    assert "ua_synonym" not in rows


def test_pairs_of_nothing_else_are_null():
    """A pair of concepts that are all to be forgotten asks for nothing that could be shown."""
    model_context = context(targets=(0, 1, 2, 3))
    rows = measured(model_context, artifact_of(model_context, PromptGeneration()))
    assert rows["in_prompt"].value is None
    assert "no pair asks for anything but" in rows["in_prompt"].reason


# Protocols and impossible rows ------------------------------------------------------------------


def test_a_value_means_its_judge_prompts_guidance_and_counts():
    """Protocols with another weight, count or book have another hash."""
    contexts = (context(), context(book(("blue", "unrelated", "blue"))))
    hashes = {
        cls.create().protocol(model_context, PromptGeneration.create(options)).hash
        for cls in METRICS
        for model_context in contexts
        for options in ({}, {"guidance": 0.5}, {"nfe": 7}, {"images_per_prompt": 9})
    }
    assert len(hashes) == len(METRICS) * 2 * 4


def measured_rows(rows):
    """Rows as results hold them."""
    splits = {}
    for row in rows.values():
        splits.setdefault(row.split, {})[row.metric] = row
    return MeasuredRows(splits, {}, {})


def test_true_rows_violate_nothing_and_edited_ones_do():
    """Each contradiction between a share and its parts is one sentence."""
    model_context = context()
    rows = {}
    for cls in METRICS[:3]:
        task = PromptGeneration()
        rows |= named(cls.create().measure(model_context, task, artifact_of(model_context, task)))
    assert list(UnlearningAccuracy.violations(measured_rows(rows))) == []
    n = rows["ua"].n

    def edited(**counts):
        changed = dict(rows)
        for name, (k, of) in counts.items():
            bounds = wilson(k, of).scaled(100)
            update = {"value": bounds.value, "low": bounds.low, "high": bounds.high, "n": of}
            changed[name] = rows[name].model_copy(update=update)
        return measured_rows(changed)

    cases = [
        ({"ua_unrecognisable": (1, n), "ua": (0, n)}, "ua_unrecognisable is more than ua"),
        ({"ira_unrecognisable": (1, rows["ira"].n)}, "ira and ira_unrecognisable are more"),
        ({"ua_unrecognisable": (0, n - 1)}, f"of {n - 1} items, ua of {n}"),
        ({"cra": (0, rows["cra"].n)}, "cra is not that of its concepts together"),
    ]
    for counts, sentence in cases:
        (violation,) = UnlearningAccuracy.violations(edited(**counts))
        assert sentence in violation
