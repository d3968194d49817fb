"""Evidence of text metrics: rows follow from it, and a stranger's is refused where none do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from prompt_contexts import CONCEPTS, Pixels, book, context, paint

from msgm_bench import Evidence, MsgmBenchError, StorageError
from msgm_bench.evaluation.evidence import differences
from msgm_bench.storage.tensors import pack_tensors, unpack_tensors
from msgm_text.metrics.attack_success import EmbeddingAttackSuccess, PromptAttackSuccess
from msgm_text.metrics.concept_accuracy import (
    CrossDomainRetainAccuracy,
    InDomainRetainAccuracy,
    UnlearningAccuracy,
)
from msgm_text.metrics.drift import DriftMetric
from msgm_text.metrics.in_prompt import InPromptAccuracy
from msgm_text.metrics.prompt_evidence import name_tensor, names_of
from msgm_text.metrics.relearning_steps import RelearningSteps
from msgm_text.tasks.drift import Drift
from msgm_text.tasks.prompt_generation import PromptGeneration

ACCURACIES = (
    UnlearningAccuracy,
    InDomainRetainAccuracy,
    CrossDomainRetainAccuracy,
    InPromptAccuracy,
)
TASK = PromptGeneration.create({"images_per_prompt": 3})


def of_strangers(evidence, **changes):
    """The evidence as a file holds it, with other tensors."""
    tensors = unpack_tensors(pack_tensors(evidence.tensors), "evidence")
    return replace(evidence, tensors=tensors | changes)


def random_images(model_context):
    """Images that show any concepts, some of them unrecognisable."""
    prompts = TASK.items(model_context)[:, 0]
    generator = torch.Generator().manual_seed(1)
    shape = (len(prompts), len(CONCEPTS))
    shown = torch.rand(shape, generator=generator) < 0.5
    sound = torch.rand(len(prompts), generator=generator) < 0.8
    return {"x": paint(shown, sound), "prompt": prompts}


@pytest.mark.parametrize("targets", [(0,), (0, 1), (3,)])
@pytest.mark.parametrize("cls", ACCURACIES, ids=lambda cls: cls.name)
def test_accuracies_follow_from_judged_concepts(cls, targets):
    """Every row and no other, of forget sets of one concept, of two and of another domain."""
    extra = [("red", "target", "red"), ("red bar", "pair", "red"), ("blue", "target", "blue")]
    model_context = context(book(*extra), targets=targets)
    artifact, metric = random_images(model_context), cls.create()
    rows = metric.measure(model_context, TASK, artifact)
    evidence = of_strangers(metric.gather(model_context, TASK, artifact))
    assert list(differences(cls, evidence, rows)) == []
    assert [row.key for row in cls.recompute(evidence)] == [row.key for row in rows]


def test_what_has_no_value_has_no_evidence():
    """A judge that fails, and a group without prompts, give null rows and nothing to ship."""

    class Broken(Pixels):
        def predict(self, x):
            raise StorageError("its weights are damaged")

    model_context = context(judge=Broken.create())
    artifact = random_images(model_context)
    for cls in ACCURACIES:
        assert cls.create().evidence(model_context, TASK, artifact) == {}


def accuracy_evidence(cls, **changes):
    """Evidence of random images with some tensors changed."""
    model_context = context()
    shown = cls.create().gather(model_context, TASK, random_images(model_context))
    return of_strangers(shown, **changes)


@pytest.mark.parametrize(
    ("cls", "changes", "reason"),
    [
        (UnlearningAccuracy, {"target": torch.zeros(2, 5).bool()}, r"of \[2, 6\] images"),
        (UnlearningAccuracy, {"target_concept": torch.full((6,), 5)}, "the concepts 5 to 5"),
        (UnlearningAccuracy, {"target_concept": torch.full((6,), -1)}, "the concepts -1 to -1"),
        (UnlearningAccuracy, {"targets": torch.tensor([9])}, "the concepts 9 to 9"),
        (UnlearningAccuracy, {"concepts": name_tensor(["a"])}, r"of \[1, 5\] images"),
        (UnlearningAccuracy, {"concepts": torch.full((5, 2), 300)}, "holds no bytes"),
        (UnlearningAccuracy, {"forget_carried": torch.zeros(1, 5).bool()}, "images"),
        (InPromptAccuracy, {"pair_wanted": torch.zeros(6, 4).bool()}, r"of \[4, 5\] images"),
        (InPromptAccuracy, {"domains": torch.zeros(3, 5).bool()}, r"of \[2, 3\] images"),
        (InPromptAccuracy, {"pair_objects": torch.zeros(6, 2, 4).bool()}, r"of \[4, 5\] images"),
    ],
)
def test_concepts_that_cannot_be_are_refused(cls, changes, reason):
    """Lengths, indices and names belong together."""
    with pytest.raises(MsgmBenchError, match=reason):
        cls.recompute(accuracy_evidence(cls, **changes))


def test_names_survive_as_bytes():
    """Any text of any length; a byte that is none of UTF-8 cannot stand for a name."""
    names = ["a", "Van Gogh’s style", "", "円"]
    evidence = Evidence("t", "p@1", {}, (), {"names": name_tensor(names)})
    assert names_of(evidence, "names") == names
    evidence = replace(evidence, tensors={"names": torch.tensor([[255, 0]])})
    assert names_of(evidence, "names") == ["\ufffd"]
    assert names_of(replace(evidence, tensors={"names": name_tensor([])}), "names") == []


def test_drift_follows_from_the_squares_of_items():
    """Groups are shipped by name; an item that is no number leaves its groups without a value."""
    model_context = context()
    model_context = replace(model_context, base=model_context.model)
    task = Drift.create({"images_per_prompt": 3, "nfe": 4})
    artifact = task.draw(model_context, 0, task.total(model_context))
    artifact["drift"] = torch.rand(len(artifact["drift"]))
    metric = DriftMetric.create()
    for broken in (None, torch.nan, torch.inf):
        if broken is not None:
            artifact["drift"][0] = artifact["base"][0] = broken
        rows = metric.measure(model_context, task, artifact)
        evidence = of_strangers(metric.gather(model_context, task, artifact))
        assert list(differences(DriftMetric, evidence, rows)) == []
        group = model_context.data.prompts[int(artifact["prompt"][0])].group
        null = {row.metric for row in rows if row.value is None}
        pair = {f"drift_{group}", f"drift_relative_{group}"}
        assert null == (pair if broken is not None else set())
    with pytest.raises(MsgmBenchError, match=r"of \[2, \d+\] items"):
        DriftMetric.recompute(of_strangers(evidence, base=torch.ones(2)))
    with pytest.raises(MsgmBenchError, match="the groups of 1 items"):
        DriftMetric.recompute(of_strangers(evidence, group=torch.zeros(1, dtype=torch.int64)))


def searches(prefix=""):
    """Two searches with the word and two without it, of five draws."""
    hits = torch.arange(5) < torch.tensor([5, 1, 4, 2])[:, None]
    return {
        f"{prefix}hits": hits,
        f"{prefix}with_word": torch.tensor([True, True, False, False]),
        f"{prefix}selected": torch.tensor([1, 7, 9, 3]),
    }


def test_the_best_search_is_chosen_by_its_selection_again():
    """Of each kind that with most selected hits, however many it reports; the control likewise."""
    tensors = searches() | searches("control_") | {"before": torch.zeros(4, 5).bool()}
    tensors |= {f"{p}screened": torch.ones(4, 3).long() for p in ("", "control_")}
    settings = {"prompt_attack": {"screening": 2}}
    evidence = Evidence("prompt_attack", "asr/fresh-draws@1", settings, ("a",), tensors)
    values = {row.metric: row.value for row in PromptAttackSuccess.recompute(evidence)}
    expected = {"asr": 80, "asr_with_word": 20, "asr_without_word": 80, "asr_mean": 50}
    assert {name: values[name] for name in expected} == expected
    assert {name: values[f"{name}_control"] for name in expected} == expected
    alone = {name: x for name, x in tensors.items() if not name.startswith("control_")}
    rows = {
        row.metric: row for row in PromptAttackSuccess.recompute(replace(evidence, tensors=alone))
    }
    assert rows["asr_control"].value is None
    assert "no model that never saw" in rows["asr_mean_control"].reason


def test_searches_that_cannot_be_are_refused():
    """Searches are of one number, and complete."""
    tensors = searches() | {"before": torch.zeros(4, 5).bool()}
    tensors |= {"steps": torch.tensor([[5, 10]] * 4), "rates": torch.rand(3, 2)}
    settings = {"embedding_attack": {"selection": 4}}
    name = "asr_embedding/fresh-draws@1"
    evidence = Evidence("embedding_attack", name, settings, ("a",), tensors)
    with pytest.raises(MsgmBenchError, match=r"of \[3, 4\] items"):
        EmbeddingAttackSuccess.recompute(evidence)
    del tensors["rates"]
    with pytest.raises(MsgmBenchError, match=r"'rates' .* is missing"):
        EmbeddingAttackSuccess.recompute(evidence)


def test_the_steps_of_relearning_follow_from_hits():
    """Half of the base's 80 % is there after 20 steps on the most items, 8, and not after 10."""
    units = {
        "hits": torch.arange(5) < torch.tensor([4, 0, 5, 5, 1, 2])[:, None],
        "of_base": torch.arange(6) == 0,
        "items": torch.tensor([0, 0, 4, 4, 8, 8]),
        "steps": torch.tensor([0, 0, 10, 20, 10, 20]),
    }
    evidence = Evidence("relearning", "relearning/judge@1", {}, ("a",), units)
    values = {row.metric: row.value for row in RelearningSteps.recompute(evidence)}
    assert (values["relearn_steps"], values["relearn_steps_control"]) == (20, None)
    assert (values["relearned:base"], values["relearned:4:10"]) == (80, 100)
    assert (values["relearned:0:0"], values["relearned:8:20"]) == (0, 40)
    with pytest.raises(MsgmBenchError, match=r"of \[2, 6\] units"):
        RelearningSteps.recompute(of_strangers(evidence, steps=torch.zeros(2).long()))
