"""What may be tuned: choices follow their distributions, and every value is one that is allowed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matching import Match
from pydantic import Field

from msgm_bench import LinearRange, LogRange, Multiples, OneOf, Options, PluginError, parse_options
from msgm_bench.api.search_space import TRAINING
from msgm_bench.experiment.components import parse_settings, preset_of
from msgm_bench.registry import registry

SHARES = st.floats(0, 1, exclude_max=True)


class TunedOptions(Options):
    """Two options with bounds."""

    weight: float = Field(1.0, ge=0, le=10, description="a weight")
    every: int = Field(4, ge=1, description="steps")


def method(**attributes):
    """A method with these attributes and these options."""
    members = {"name": "mine", "options_type": TunedOptions, **attributes}
    return type("Mine", (Match,), members)


@given(u=SHARES)
def test_quantiles_are_those_of_the_distributions(u):
    """Uniform in the number, in its logarithm, or over the list, to three digits."""
    assert LinearRange(-2.0, 6.0).at(u, None) == pytest.approx(-2 + 8 * u, rel=6e-3, abs=1e-9)
    assert LogRange(1e-4, 1e2).at(u, None) == pytest.approx(10 ** (6 * u - 4), rel=6e-3)
    assert Multiples(0.1, 10.0).at(u, 5e-4) == pytest.approx(5e-4 * 10 ** (2 * u - 1), rel=6e-3)
    assert OneOf(("a", "b", "c")).at(u, None) == "abc"[math.floor(3 * u)]


@given(u=SHARES, v=SHARES)
def test_integers_stay_integers_and_order_is_kept(u, v):
    """A range of integers has integers; a larger share has no smaller value."""
    for choices in (LinearRange(1, 9), LogRange(1, 64), Multiples(0.5, 8.0)):
        a, b = choices.at(u, 4), choices.at(v, 4)
        assert type(a) is int
        assert (a <= b) == (u <= v) or a == b


@given(u=SHARES)
def test_every_value_of_every_method_is_allowed(u):
    """Options and settings of training validate at any share of any space, in any preset."""
    for entry in registry().entries("methods"):
        for preset in ("quick", "full", "paper"):
            settings = parse_settings(preset_of(entry.cls, preset))
            own = {
                k: v for k, v in settings.method.items() if k in entry.cls.options_type.model_fields
            }
            defaults = parse_options(entry.cls, own)
            budget = settings.budget(finetune=True)
            for key, choices in entry.cls.search_space.items():
                if key.startswith(TRAINING):
                    name = key.removeprefix(TRAINING)
                    value = choices.at(u, getattr(budget, name))
                    assert getattr(settings.budget(True, stated={name: value}), name) == value
                else:
                    value = choices.at(u, getattr(defaults, key))
                    parsed = parse_options(entry.cls, own | {key: value})
                    assert getattr(parsed, key) == value


def test_all_methods_but_baselines_have_a_space():
    """Equal tuning needs something to tune; baselines train as their presets say."""
    for entry in registry().entries("methods"):
        assert bool(entry.cls.search_space) != entry.cls.baseline, entry.cls.name


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        (
            {"search_space": {"wieght": LogRange(0.1, 1.0)}},
            "did you mean 'weight'",
        ),
        ({"search_space": {"weight": LogRange(0.1, 20.0)}}, "'weight' of mine = 20.0"),
        ({"search_space": {"every": OneOf((0, 1))}}, "'every' of mine = 0"),
        ({"search_space": {"weight": 0.5}}, "'weight' is 0.5"),
        (
            {"search_space": {"training.steps": LogRange(10, 20)}},
            "'training.steps': no such",
        ),
        ({"search_space": {"training.learning_rate": LinearRange(-1.0, 1.0)}}, "'learning_rate'"),
        ({"search_space": ["weight"]}, "allowed: a mapping"),
        (
            {
                "search_space": {"weight": Multiples(0.5, 2.0)},
                "presets": {"quick": {"method": {"weight": 0.0}}},
            },
            "multiples of a positive number",
        ),
        (
            {
                "search_space": {"weight": LogRange(0.5, 2.0)},
                "baseline": True,
                "needs": frozenset({"retain"}),
            },
            "a baseline with a search space",
        ),
        (
            {
                "search_space": {"training.learning_rate": Multiples(0.5, 2.0)},
                "closed_form": True,
                "regimes": ("finetune",),
            },
            "it has none",
        ),
    ],
)
def test_a_space_of_what_cannot_be_is_refused(attributes, words):
    """Unknown options, values out of bounds, steps, and multiples of nothing, when it registers."""
    with pytest.raises(PluginError) as caught:
        method(**attributes).validate()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearRange(1.0, 1.0),
        lambda: LinearRange(0.0, math.inf),
        lambda: LogRange(0.0, 1.0),
        lambda: Multiples(-1.0, 1.0),
        lambda: OneOf((1,)),
    ],
)
def test_choices_without_a_choice_are_refused(make):
    """An empty range, an infinite one, a logarithm of nothing, a list of one."""
    with pytest.raises(PluginError):
        make()
