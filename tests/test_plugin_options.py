"""Options are the argument of a plugin's base, and batches are of the splits that are declared."""

from __future__ import annotations

from typing import Generic

import pytest
import torch
from pydantic import BaseModel, Field
from typing_extensions import TypeVar

from msgm_bench import (
    Batch,
    Batches,
    Executor,
    Judge,
    JudgeOptions,
    LossMethod,
    Method,
    Options,
    OptionsT,
    PluginError,
    Task,
    TaskOptions,
    Tracker,
)
from msgm_bench.registry import BASES


class Weight(Options):
    """One option."""

    weight: float = Field(1.0, gt=0, description="of the loss")


class Bounded(Weight):
    """Two options."""

    bound: float = Field(2.0, gt=0, description="of the loss")


WeightT = TypeVar("WeightT", bound=Weight, default=Weight, covariant=True)
PlainT = TypeVar("PlainT", bound=Weight)
Net = TypeVar("Net")


class Middle(Method[WeightT]):
    """Generic, with a default."""


class Undefaulted(Method[PlainT]):
    """Generic, with a bound only."""


class Mixin(Generic[Net]):
    """No plugin."""


class Two(Mixin[Net], Method[WeightT], Generic[Net, WeightT]):
    """Generic in a network, too: its first parameter is not the options."""


def derived(*bases):
    """A class with these bases, arguments included."""

    class Derived(*bases):
        """Derived."""

    return Derived


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (derived(Method), Options),
        (derived(LossMethod), Options),
        (derived(Tracker), Options),
        (derived(Judge), JudgeOptions),
        (derived(Task), TaskOptions),
        (derived(Method[Weight]), Weight),
        (derived(LossMethod[Weight]), Weight),
        (derived(Executor[Weight]), Weight),
        (derived(derived(Method[Weight])), Weight),
        (derived(Middle), Weight),
        (derived(Middle[Bounded]), Bounded),
        (derived(derived(Middle[Bounded])), Bounded),
        (derived(Undefaulted), Weight),
        (derived(Undefaulted[Bounded]), Bounded),
        (derived(Two[int, Bounded]), Bounded),
        (derived(Mixin[int], Method[Weight]), Weight),
        (derived(Mixin[int], derived(Method[Weight])), Weight),
    ],
)
def test_options_are_the_argument_of_the_base(cls, expected):
    """The argument for ``OptionsT``, wherever among the bases it stands; else the base's."""
    assert cls.options_type is expected


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_every_kind_takes_options(base):
    """All ten kinds are generic in their options, with a default of their own."""
    (parameter,) = base.__parameters__
    assert issubclass(base.options_type, Options)
    assert parameter.__bound__ is base.options_type
    mine = type("Mine", (base.options_type,), {"__doc__": "Mine.", "__module__": __name__})
    assert derived(base[mine]).options_type is mine


class Sound(Method[Weight]):
    """Sound."""

    name = "sound"

    def update(self, session, step):
        """Nothing."""
        return torch.zeros(())


def test_options_are_instances_of_their_class():
    """``create`` and a bare call fill ``self.options``, and a subclass inherits the class."""
    assert type(Sound().options) is Weight
    assert Sound.create({"weight": 3}).options.weight == 3.0
    assert type(derived(Sound)(Weight(weight=2.0)).options) is Weight


@pytest.mark.parametrize(
    ("base", "allowed"),
    [
        (Method[int], "a subclass of Options"),
        (Method[BaseModel], "a subclass of Options"),
        (Method["Weight"], "a subclass of Options"),
        (Middle[Options], "a subclass of Weight"),
        (Judge[Weight], "a subclass of JudgeOptions"),
        (Task[Weight], "a subclass of TaskOptions"),
    ],
)
def test_other_arguments_are_refused(base, allowed):
    """What is no subclass of the options that the bases use, before the class is registered."""
    cls = derived(base)
    cls.name = "mine"
    with pytest.raises(PluginError, match="the options of 'mine' are") as caught:
        cls.validate()
    assert allowed in str(caught.value)
    assert "class DerivedOptions(" in str(caught.value)


def test_options_of_another_kind_are_refused_in_a_subclass():
    """Options that a subclass names beside its base's must still hold what the base reads."""
    cls = derived(Sound)
    cls.options_type = Options
    with pytest.raises(PluginError, match="a subclass of Weight"):
        cls.validate()
    cls.options_type = Bounded
    cls.validate()


def test_the_variable_is_public():
    """An author of a generic base needs the variable that the bases take."""
    assert OptionsT.__default__ is Options


SPLITS = ("all", "retain", "forget")


@pytest.mark.parametrize("declared", [(), ("forget",), ("all", "retain"), SPLITS])
def test_batches_are_of_declared_splits(declared):
    """Each declared split has its batch; any other names method, split and needs."""
    drawn = {split: Batch(*[torch.zeros(1)] * 4, y=torch.zeros(1)) for split in declared}
    batches = Batches("mine", drawn)
    for split in SPLITS:
        if split in declared:
            assert getattr(batches, split) is drawn[split]
            continue
        with pytest.raises(PluginError) as caught:
            getattr(batches, split)
        assert f"method 'mine' reads the split {split!r}" in str(caught.value)
        assert f"it declares {', '.join(sorted(declared)) or 'none'}" in str(caught.value)
        assert f'"{split}"' in str(caught.value)
