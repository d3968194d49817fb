"""What a method says of itself is checked when it registers."""

from __future__ import annotations

import pytest
from matching import Match

from msgm_bench.errors import PluginError
from msgm_bench.registry import registry

SOURCE = """
from msgm_bench import LossMethod, hookimpl, dsm_loss


class Typo(LossMethod):
    \"\"\"Trains where its author does not think it does.\"\"\"

    name = "typo"
    regimes = ("fine-tune",)

    def loss(self, model, batches, step):
        return dsm_loss(model, batches.retain)


@hookimpl
def register_methods():
    return [Typo]
"""


def method(**attributes):
    """A method with these attributes."""
    return type("Mine", (Match,), {"name": "mine", **attributes})


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"regimes": ("fine-tune",)}, "'fine-tune' among its regimes (did you mean 'finetune'?)"),
        ({"regimes": ("retrain", "tune")}, "allowed: retrain, finetune"),
        ({"regimes": "finetune"}, "regimes = 'finetune'"),
        ({"regimes": ()}, "has no regime"),
        ({"needs": frozenset({"retains"})}, "'retains' among its needs (did you mean 'retain'?)"),
        ({"needs": None}, "needs = None"),
        ({"needs": {"D_f"}}, "allowed: all, retain, forget, base"),
        ({"needs": frozenset({"all"})}, "needs all of D and nothing else"),
        ({"needs": frozenset({"all", "base"})}, "needs all of D and nothing else"),
        ({"trains_base": True, "regimes": ("finetune",)}, "trains the base model, from finetune"),
        ({"trains_base": True, "needs": frozenset({"retain", "base"})}, 'no "base" among'),
        (
            {"unsupported_tasks": {"likelihood": ""}},
            "why it does not support 'likelihood'",
        ),
        ({"presets": {"quick": {"fine_tuning": {}}}}, "did you mean 'finetuning'"),
        ({"presets": {"quick": {"finetuning": {"epochs": 3}}}}, "has no option 'epochs'"),
        ({"presets": {"paper": {"training": {"steps": 0}}}}, "'steps' of training = 0"),
        ({"presets": {"quick": {"method": {"alpha": 1}}}}, "mine has no option 'alpha'"),
        ({"presets": {"paper": {"training": {"continue_optimizer": True}}}}, "in its finetuning"),
    ],
)
def test_words_that_mean_nothing_are_refused(attributes, words):
    """With the word, what is allowed, and the nearest word that means something."""
    with pytest.raises(PluginError) as caught:
        method(**attributes).validate()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"needs": frozenset({"all", "forget"})},
        {"needs": frozenset({"base"}), "regimes": ("finetune", "retrain")},
        {"needs": frozenset({"all"}), "baseline": True, "trains_base": True},
        {"presets": {"of-my-own": {"finetuning": {"ema_decay": 0.0}}}},
        {"unsupported_tasks": {"likelihood": "it is a generator"}},
    ],
)
def test_what_makes_sense_is_taken(attributes):
    """All of D beside D_f, a baseline of all of D, and a preset of a name of one's own."""
    method(**attributes).validate()


def test_a_typo_quarantines_its_plugin(third_party):
    """The registry lists it as broken, with what is allowed, and goes on without it."""
    third_party("third-party-typo", SOURCE, "methods.typo")
    assert "typo" not in registry().names("methods")
    (broken,) = [b for b in registry().broken if b.provenance.entry_point == "methods.typo"]
    assert "did you mean 'finetune'" in broken.reason
    assert "ort" in registry().names("methods")
