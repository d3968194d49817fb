"""Presets: what of them holds for text-to-image models alone."""

from __future__ import annotations

import pytest

from msgm_bench import Method, PluginError, RunSpec, on_track
from msgm_bench.experiment.plan import resolve


def plan(method, preset="paper", **changes):
    """The plan of a text-to-image run on scenes."""
    spec = {"dataset": "scenes", "forget": ["circle"], "backbone": "t2i", "text": True}
    spec |= {"dataset_params": {"train_size": 500, "test_size": 500}}
    return resolve(RunSpec(**spec | changes, method=method, preset=preset)).training


def test_the_part_for_prompts_takes_the_place_of_others():
    """Nested settings on top, where the model takes prompts, and none of them elsewhere."""
    preset = {"method": {"a": 1, "b": 2}, "text": {"method": {"b": 3}, "finetuning": {"steps": 7}}}
    assert on_track(preset, False) == {"method": {"a": 1, "b": 2}}
    assert on_track(preset, True) == {"method": {"a": 1, "b": 3}, "finetuning": {"steps": 7}}


def test_published_settings_of_text_to_image():
    """Steps, batch, learning rate and weights of each paper's text-to-image runs."""
    rgd = plan("rgd")
    assert (rgd.budget.steps, rgd.budget.batch_size, rgd.budget.learning_rate) == (100, 8, 1e-5)
    c = rgd.method.options
    assert (c.retain_weight, c.alpha, c.truncation, rgd.part) == (1.6, 1.5, "batch", "unet")
    salun = plan("salun")
    assert (salun.budget.batch_size, salun.budget.learning_rate) == (8, 1e-5)
    assert (salun.method.options.alpha, salun.method.options.mask_fraction) == (0.5, 0.5)
    sfd = plan("sfd")
    assert (sfd.budget.batch_size, sfd.budget.learning_rate) == (8, 1e-6)
    assert sfd.method.options.fake_learning_rate == 3e-6
    esd = plan("esd")
    assert (esd.budget.steps, esd.budget.batch_size, esd.budget.learning_rate) == (200, 1, 5e-5)
    assert esd.part == "cross"
    assert plan("ca").part == "cross_kv"


def test_a_wrong_part_for_prompts_is_refused_when_the_plugin_registers():
    """By its preset, as any other setting is."""

    class Wrong(Method):
        name = "wrong"
        citation = "none"
        regimes = ("finetune",)
        presets = {"quick": {"text": {"finetuning": {"stepz": 3}}}}

        def update(self, session, step):
            """Nothing."""

    with pytest.raises(PluginError, match="stepz"):
        Wrong.validate()
