"""The conformance kit passes what is sound, and names what is not."""

from __future__ import annotations

import pytest

from msgm_backbones.ddpm import DDPM
from msgm_backbones.vesde import VESDE
from msgm_bench import LossMethod, noise_matching
from msgm_bench.testing import ToyBackbone, check_backbone, check_method
from msgm_methods.msgm import Obtuse
from msgm_methods.unseen import Unseen


@pytest.mark.parametrize("network", ["mlp", "unet"])
@pytest.mark.parametrize("backbone", [DDPM, VESDE])
def test_backbones_conform(backbone, network):
    """Both networks, on both tracks."""
    small = {"width": 16, "depth": 1, "channels": (8, 8), "layers": 1, "attention": ()}
    check_backbone(backbone, small | {"network": network})


@pytest.mark.parametrize("method", [Obtuse, Unseen])
def test_methods_conform(method):
    """In every regime, on both tracks, killed and resumed."""
    check_method(method)


class Deaf(ToyBackbone):
    """Says that it takes a class, and does not listen."""

    name = "deaf"

    def network(self, info, process):
        """The unconditional one."""
        network = super().network(info, process)
        network.label = None
        return network


def test_a_backbone_that_ignores_the_class_is_found():
    """Equal predictions for two classes are named."""
    with pytest.raises(AssertionError, match="deaf: classes 0 and 1 of 3 get one prediction"):
        check_backbone(Deaf)


class Forgetful(LossMethod):
    """Keeps a count that no checkpoint holds, and takes conditional models only."""

    name = "forgetful"
    needs = frozenset({"retain"})

    def skip(self, model, regime):
        """Conditional models only."""
        return None if model.classes else "it needs a class"

    def update(self, session, step):
        """A step that a resumed training does not repeat."""
        self.taken = getattr(self, "taken", 0) + 1
        loss = noise_matching(session.model, session.batch("retain", step))
        session.minimise(loss * self.taken)
        return loss.detach()

    def loss(self, model, retain, forget, step):
        """Not used."""


def test_the_conditional_track_is_checked_too():
    """A method that forgets on resume is found although it skips unconditional models."""
    with pytest.raises(AssertionError, match=r"\(retrain, class-conditional\): a resumed"):
        check_method(Forgetful)


class Nowhere(Forgetful):
    """Skips everything."""

    name = "nowhere"

    def skip(self, model, regime):
        """Always."""
        return "it likes nothing"


def test_a_method_must_run_somewhere():
    """One that skips both kinds of models was not checked at all."""
    with pytest.raises(AssertionError, match="skips unconditional and class-conditional"):
        check_method(Nowhere)
