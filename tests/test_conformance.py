"""The conformance kit passes what is sound, and names what is not: methods and their options."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field

from msgm_bench import Batches, CountOptions, LossMethod, Options, Task, dsm_loss
from msgm_bench.testing import check_method, check_plugin
from msgm_builtin.methods.baselines import Finetune, Standard, Unseen
from msgm_builtin.methods.esd import ESD
from msgm_builtin.methods.msgm import Obtuse, Orthogonal
from msgm_builtin.methods.sfd import SFD

SOUND = [Obtuse, Orthogonal, Unseen, Finetune, Standard, ESD, SFD]


@pytest.mark.parametrize("method", SOUND)
def test_methods_conform(method):
    """In every regime, on both tracks, killed and resumed; others have a test of their own."""
    check_method(method)


class Sound(LossMethod):
    """Descends the loss on D_g and climbs the loss on D_f, up to a ceiling."""

    name = "sound"
    regimes = ("finetune",)
    needs = frozenset({"retain", "forget"})
    weight = 0.1

    def loss(self, model, batches, step):
        """L_g - weight min(L_f, 2)."""
        ascent = dsm_loss(model, batches.forget).clamp(max=2.0)
        return dsm_loss(model, batches.retain) - self.weight * ascent


class Deaf(Sound):
    """D_f's loss, times nothing."""

    weight = 0.0


class WrongSign(Sound):
    """Descends on D_f, too."""

    weight = -0.1


class DeafBesideAll(Sound):
    """Reads D_f, and nothing comes of it; D, in which D_f is, it trains on."""

    needs = frozenset({"all", "forget"})

    def loss(self, model, batches, step):
        """The loss on D, and nothing of D_f's."""
        return dsm_loss(model, batches.all) - 0.0 * dsm_loss(model, batches.forget).clamp(max=2.0)


class Idle(Sound):
    """Declares D_g, and does not use it."""

    def loss(self, model, batches, step):
        """A bounded ascent on D_f."""
        return -dsm_loss(model, batches.forget).clamp(max=2.0)


class Late(Sound):
    """From step 50 on it needs what it gathered before, which no checkpoint holds."""

    def update(self, session, step):
        """The loss grows with what was gathered after step 50."""
        self.gathered = getattr(self, "gathered", 0) + (step >= 50)
        loss = dsm_loss(session.model, session.batch("retain", step))
        loss = loss - 0.1 * dsm_loss(session.model, session.batch("forget", step))
        session.minimise(loss * (1 + self.gathered))
        return loss.detach()


class Chance(Sound):
    """Draws from a generator that nobody seeds."""

    def loss(self, model, batches, step):
        """A loss with a random weight."""
        return random.random() * super().loss(model, batches, step)


class RoundTheSession(Sound):
    """Moves weights by ``data``, which no version counter sees."""

    def update(self, session, step):
        """A step of the session, and one of its own."""
        loss = super().update(session, step)
        for weight in session.model.parameters():
            weight.data.mul_(0.999)
        return loss


class RoundTheSessionBySet(Sound):
    """Puts other storage under its weights before the session steps."""

    def update(self, session, step):
        """The same by ``set_``."""
        with torch.no_grad():
            for weight in session.model.parameters():
                weight.data = weight.data * 0.999
        return super().update(session, step)


class OwnDescent(Sound):
    """SGD of its own: the session never steps."""

    def update(self, session, step):
        """Down the loss, by hand."""
        drawn = {split: session.batch(split, step) for split in ("retain", "forget")}
        loss = self.loss(session.model, Batches(self.name, drawn), step)
        gradients = torch.autograd.grad(loss, list(session.model.parameters()))
        for weight, gradient in zip(session.model.parameters(), gradients, strict=True):
            weight.data.sub_(0.01 * gradient)
        return loss.detach()


class DeclaredDescent(OwnDescent):
    """SGD of its own, which it declares, and an inner loop by hand, which is undone."""

    def update(self, session, step):
        """A look ahead, and the same step in an edit."""
        with session.inner_loop():
            for weight in session.model.parameters():
                weight.data.mul_(0.9)
        with session.edit(), torch.enable_grad():
            return super().update(session, step)


class Undermining(Sound):
    """Moves the base model, which others compare with."""

    needs = frozenset({"retain", "forget", "base"})

    def update(self, session, step):
        """A step, and the base follows."""
        loss = super().update(session, step)
        for weight in session.base.parameters():
            weight.data.mul_(0.999)
        return loss


class Trespassing(Sound):
    """Reads a split that it does not declare."""

    needs = frozenset({"retain"})

    def loss(self, model, batches, step):
        """Needs no D_f."""
        return dsm_loss(model, batches.retain)

    def update(self, session, step):
        """Reads it all the same."""
        session.items("forget")
        return super().update(session, step)


class Forgetful(LossMethod):
    """Counts what no checkpoint holds, and takes conditional models only."""

    name = "forgetful"
    needs = frozenset({"retain"})

    def skip(self, model, regime):
        """Conditional models only."""
        return None if model.conditioning else "it needs a class"

    def update(self, session, step):
        """A step that a resumed training does not repeat."""
        self.taken = getattr(self, "taken", 0) + 1
        loss = dsm_loss(session.model, session.batch("retain", step))
        session.minimise(loss * self.taken)
        return loss.detach()

    def loss(self, model, batches, step):
        """Not used."""


class Nowhere(Forgetful):
    """Skips everything."""

    name = "nowhere"

    def skip(self, model, regime):
        """Always."""
        return "it likes nothing"


class RoundTheCount(Sound):
    """Calls ``forward`` of its network, which counts no pass."""

    def update(self, session, step):
        """One more evaluation than is counted."""
        batch = session.batch("retain", step)
        self.enter(session.model.network, batch.x_t, batch.t, batch.condition)
        return super().update(session, step)

    def enter(self, network, *inputs):
        """By the method that ``nn.Module`` calls."""
        network.forward(*inputs)


class RoundTheCountByCopy(RoundTheCount):
    """The same of a copy."""

    def enter(self, network, *inputs):
        """A copy counts as the network does, unless its layers are called by themselves."""
        twin = copy.deepcopy(network)
        twin(*inputs)
        twin.layers[0](torch.zeros(1, 17))


class Explosive(Sound):
    """Its weights leave the finite numbers."""

    def loss(self, model, batches, step):
        """Infinite from the second step on."""
        return super().loss(model, batches, step) * (float("inf") if step else 1.0)


@pytest.mark.parametrize("method", [Sound, DeclaredDescent])
def test_sound_methods_conform(method):
    """The one that the defects below are planted in, and one that declares moves of its own."""
    check_method(method)


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (Deaf, r"sound \(finetune\): what D_f shows does not change the weights"),
        (DeafBesideAll, r"sound \(finetune\): the forget set does not change the weights"),
        (Idle, r"what D_g shows does not change the weights.*or take it out of needs"),
        (WrongSign, r"class-conditional\): D_f is learned, not forgotten.*is a sign wrong\?"),
        (Late, r"a resumed training ends elsewhere: killed after step 55, it lost"),
        (Chance, "the same seed ends elsewhere"),
        (RoundTheSession, "sound: moves weights round the session"),
        (RoundTheSessionBySet, "sound: moves weights round the session"),
        (OwnDescent, "sound: moves weights round the session"),
        (RoundTheCount, "sound: goes round the counting of passes"),
        (RoundTheCountByCopy, "sound: goes round the counting of passes"),
        (Undermining, "sound: moves the weights of the base model"),
        (Trespassing, r"sound \(finetune\): method 'sound' reads the split 'forget'"),
        (Explosive, r"sound \(finetune\): .*not finite"),
        (Forgetful, r"\(retrain, class-conditional\): a resumed training ends.*after step 3"),
        (Nowhere, "skips the models of all tracks"),
    ],
)
def test_defects_of_methods_are_named(method, sentence):
    """Each planted defect is found, with a sentence that says what is wrong."""
    with pytest.raises(AssertionError, match=sentence):
        check_method(method)


# What a class says of itself ---------------------------------------------------------------


class SoundOptions(Options):
    """Sound options."""

    weight: float = Field(1.0, gt=0, description="of the loss")


def variant(base=Sound, **attributes):
    """A class with a docstring and these attributes."""
    return type("Variant", (base,), {"__doc__": "A variant."} | attributes)


class Open(Options):
    """Takes any key."""

    model_config = ConfigDict(extra="allow")


class Silent(Options):
    """An option without words."""

    weight: float = Field(1.0)


class Beyond(Options):
    """A default that its bounds refuse."""

    weight: float = Field(-1.0, gt=0, description="of the loss")


class Restless(Options):
    """A default that changes."""

    seed: float = Field(default_factory=random.random, description="drawn anew")


def test_sound_classes_pass():
    """Options, presets, two regimes, and D beside D_f, which is how some methods measure."""
    check_plugin(
        variant(
            options_type=SoundOptions,
            presets={"quick": {"method": {"weight": 2.0}, "training": {"steps": 10}}},
            regimes=("retrain", "finetune"),
            needs=frozenset({"all", "forget"}),
        )
    )


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        (variant(name=3), "the name of Variant is 3"),
        (variant(name="Bad Name"), "the name of Variant is 'Bad Name'"),
        (variant(name="x" * 65), "at most 64"),
        (variant(__doc__=None), "the class has no docstring of its own"),
        (variant(__doc__="word " * 30), "its summary is longer than a line"),
        (variant(options_type=BaseModel), "the options of 'sound' are"),
        (variant(options_type=Open), "its options take any key"),
        (variant(options_type=Silent), "option 'weight' has no description"),
        (variant(options_type=Beyond), "a default that its bounds refuse.*'weight'"),
        (variant(options_type=Restless), "the defaults of its options change"),
        (variant(presets={"quick": {"method": {"wait": 1}}}), "preset 'quick'.*no option 'wait'"),
        (variant(presets={"quick": {"training": {"step": 1}}}), "preset 'quick'.*'step'"),
        (variant(presets={"quick": {"steps": 1}}), "preset 'quick'"),
        (variant(regimes=("fine-tune",)), "'fine-tune' among its regimes.*did you mean 'finetune'"),
        (variant(regimes=()), "has no regime"),
        (variant(regimes="finetune"), "a collection of words"),
        (variant(needs=frozenset({"forgotten"})), "'forgotten' among its needs"),
        (variant(needs=frozenset({"all"})), "needs all of D and nothing else"),
        (variant(needs=frozenset({"all", "base"})), "needs all of D and nothing else"),
    ],
)
def test_defects_of_classes_are_named(cls, sentence):
    """Each is found before anything is trained."""
    with pytest.raises(AssertionError, match=sentence):
        check_plugin(cls)


def test_presets_of_tasks_are_those_of_tasks():
    """A task's preset is looked at where tasks have their options."""

    class Lonely(Task[CountOptions]):
        """A task."""

        name = "lonely"
        presets = {"quick": {"tasks": {"lonely": {"cuont": 3}}}}

        def total(self, context):
            """None."""
            return 0

        def draw(self, context, start, count):
            """Nothing."""
            return {}

    with pytest.raises(AssertionError, match=r"preset 'quick'.*did you mean 'count'"):
        check_plugin(Lonely)
