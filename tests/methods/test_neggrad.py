"""NegGrad's loss on numbers that can be checked by hand."""

from __future__ import annotations

import pytest
import torch
from toy_models import trainer_of

from msgm_bench import Batches, OptionError
from msgm_bench.testing import check_method
from msgm_builtin.methods.neggrad import NegGrad

ERROR = [[0.5, 3.0], [1.5, 0.1]]  # item means 1.75 and 0.8


@pytest.mark.parametrize(
    ("clipping", "max_error", "value", "slope"),
    [
        ("none", 1.0, 5.1 / 4, [[1, 1], [1, 1]]),
        ("pixel", 1.0, (0.5 + 1 + 1 + 0.1) / 4, [[1, 0], [0, 1]]),
        ("pixel", 2.0, (0.5 + 2 + 1.5 + 0.1) / 4, [[1, 0], [1, 1]]),
        ("item", 1.0, (1 + 0.8) / 2, [[0, 0], [1, 1]]),
        ("item", 2.0, (1.75 + 0.8) / 2, [[1, 1], [1, 1]]),
    ],
)
def test_clipping(clipping, max_error, value, slope):
    """Errors of pixels or of items past max_error count as max_error and have no gradient."""
    error = torch.tensor(ERROR, requires_grad=True)
    actual = NegGrad.create({"clipping": clipping, "max_error": max_error}).clipped_error(error)
    actual.backward()
    assert float(actual.detach()) == pytest.approx(value)
    torch.testing.assert_close(error.grad, torch.tensor(slope) / 4)


def test_loss_is_the_formula():
    """W L_r - L_f of predictions on both batches."""
    method = NegGrad.create({"retain_weight": 2.5, "clipping": "none"})
    trainer = trainer_of(method)
    retain, forget = trainer.batch("retain", 0), trainer.batch("forget", 0)
    A, b = trainer.parameters
    L_r, L_f = (
        (batch.x_t @ A.T + b - batch.eps).square().mean().item() for batch in (retain, forget)
    )
    loss = method.loss(trainer.model, Batches("neggrad", {"retain": retain, "forget": forget}), 0)
    assert float(loss.detach()) == pytest.approx(2.5 * L_r - L_f, rel=1e-5)


def test_ascent_alone_climbs_without_end_or_to_the_bound(tmp_path):
    """Unclipped, the error on D_f grows on; clipped, no pixel is pushed past max_error."""
    grown = {}
    for clipping in ("none", "pixel"):
        options = {"retain_weight": 0.0, "clipping": clipping, "max_error": 1.0}
        trainer = trainer_of(NegGrad.create(options), steps=100, learning_rate=0.2)
        log = trainer.run(tmp_path / clipping, lambda *_: None)
        grown[clipping] = log.rows[-1]["loss_forget"]
    assert grown["none"] > 100
    assert grown["pixel"] <= 1.0


@pytest.mark.parametrize(
    ("option", "value"), [("max_error", 0), ("retain_weight", -1), ("clipping", "x")]
)
def test_bad_options_are_named(option, value):
    """An option out of range is refused by name."""
    with pytest.raises(OptionError, match=f"option '{option}' of neggrad"):
        NegGrad.create({option: value})


@pytest.mark.parametrize("options", [{}, {"clipping": "item"}, {"clipping": "none"}])
def test_conformance(options):
    """Forget sets differ, resume is exact, nothing leaks."""
    check_method(NegGrad, options)
