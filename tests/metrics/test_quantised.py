"""Quantised copies: the rounding, what they draw, and forgetting that the rounding undoes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from contexts import context
from torch import nn

from msgm_bench import (
    Evidence,
    MeasuredRows,
    Model,
    MsgmBenchError,
    OptionError,
    UniformDequantization,
    VarianceExploding,
)
from msgm_bench.testing import check_metric, check_task
from msgm_builtin.metrics.quantised import QuantisedAccuracy, QuantisedRatio
from msgm_builtin.tasks.generation import Generation
from msgm_builtin.tasks.quantised_generation import (
    QuantisedClassGeneration,
    QuantisedGeneration,
    quantised,
    rounded_to_nearest,
)

STD = 0.02


def weights(*shape, seed=0):
    """Normal weights whose channels differ in size."""
    w = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return w * torch.logspace(-3, 2, shape[0]).reshape(-1, *[1] * (len(shape) - 1))


# The rounding -----------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", [(6, 40), (5, 3, 3, 3)])
def test_weights_move_by_half_a_step_at_most(shape, bits):
    """|w - q| <= s/2 with s = max |w_c| / (2^(bits-1) - 1), on the grid of whole multiples of s."""
    w = weights(*shape)
    q = rounded_to_nearest(w, bits)
    most = 2 ** (bits - 1) - 1
    scale = w.flatten(1).abs().amax(dim=1) / most
    step = scale.reshape(-1, *[1] * (w.ndim - 1))
    assert bool(((w - q).abs() <= step * (0.5 + 1e-4)).all())
    k = q / step
    torch.testing.assert_close(k, k.round(), rtol=0, atol=1e-3)
    assert float(k.abs().max()) <= most + 1e-3
    torch.testing.assert_close(rounded_to_nearest(q, bits), q)


def test_the_rounding_is_torchs():
    """As torch's fake quantisation with these scales, per output channel."""
    w = weights(7, 4, 3, 3)
    scale = w.flatten(1).abs().amax(dim=1) / 127
    zero = torch.zeros(7, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(w, scale, zero, 0, -127, 127)
    torch.testing.assert_close(rounded_to_nearest(w, 8), expected)


def test_a_channel_of_zeros_stays():
    """Its step would be 0."""
    w = torch.zeros(2, 5)
    w[1, 0] = 3.0
    assert torch.equal(rounded_to_nearest(w, 4), w)


def test_the_model_stays_and_biases_are_copied():
    """Matrices and kernels of the copy are rounded, vectors are not, the model's are as before."""
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GroupNorm(1, 3), nn.Flatten(), nn.Linear(9, 4))
    model = Model(network, VarianceExploding(0.01, 8.0), UniformDequantization(17), (1, 8, 8))
    before = {name: p.clone() for name, p in network.named_parameters()}
    copy = quantised(model, 4)
    assert copy.process is model.process
    assert copy.codec is model.codec
    for name, p in copy.network.named_parameters():
        assert torch.equal(network.get_parameter(name), before[name])
        expected = rounded_to_nearest(before[name], 4) if p.ndim > 1 else before[name]
        assert torch.equal(p, expected)


# The task ---------------------------------------------------------------------------------


class Images(nn.Module):
    """The exact eps_hat of a narrow Gaussian around one image, a quadrant of 16 pixels a row."""

    def __init__(self, quadrants, process):
        super().__init__()
        self.quadrants, self.process = nn.Parameter(quadrants, requires_grad=False), process

    def forward(self, x_t, t, condition=None):
        """eps_hat = sigma (x_t - a m) / (a^2 s^2 + sigma^2)."""
        rows = self.quadrants.reshape(2, 2, 4, 4).permute(0, 2, 1, 3).reshape(1, 8, 8)
        a, sigma = (v.reshape(-1, 1, 1, 1) for v in self.process.marginal(t))
        return sigma * (x_t - a * rows) / (a**2 * STD**2 + sigma**2)


def hiding():
    """A model that draws class 0, and class 3 once its weights are of 4 bits.

    One pixel of 1.4 makes a step of 0.2, by which the other 15 of its quadrant fall from 0.49 to
    0.4: below the 0.48 of the fourth quadrant, whose own step divides it.
    """
    quadrants = torch.zeros(4, 16)
    quadrants[0], quadrants[3] = 0.49, 0.48
    quadrants[0, 0] = 1.4
    examined = context()
    process = examined.model.process
    model = Model(Images(quadrants, process), process, examined.model.codec, (1, 8, 8)).eval()
    return dataclasses.replace(examined, model=model)


def drawn(examined, **options):
    """The task and its artifact."""
    task = QuantisedGeneration.create({"count": 40, **options})
    return task, task.draw(examined, 0, task.total(examined))


def named(rows):
    """Rows by metric."""
    return {row.metric: row for row in rows}


def test_all_draw_from_the_noise_of_generation():
    """The model's samples and each copy's are those that ``generation`` draws of it."""
    examined = hiding()
    task, artifact = drawn(examined, bits=(8, 4))
    options = {"sampler": "dpmpp_2m_sde", "nfe": 32}
    for name, model in (("x", examined.model), ("x_int4", quantised(examined.model, 4))):
        seen = dataclasses.replace(examined, model=model)
        expected = Generation.create(options).draw(seen, 0, 40)["x"]
        torch.testing.assert_close(artifact[name], expected)
    assert artifact["nfe"].unique().tolist() == [96] == [task.cost(examined.model).nfe]
    rows = task.preview(examined, artifact)
    assert list(rows) == ["full precision: samples", "8 bits: samples", "4 bits: samples"]


def test_bits_are_different_numbers_from_2_to_16():
    """Others are refused."""
    for bits in ((8, 8), (1,), (17,), ()):
        with pytest.raises(OptionError, match="bits"):
            QuantisedGeneration.create({"bits": bits})


def test_tracks_have_tasks_of_their_own():
    """Each skips the models of the other, with a reason."""
    model = context().model
    assert QuantisedGeneration().skip(model) is None
    assert "quantised_class_generation is for class" in QuantisedClassGeneration().skip(model)


# The metrics ------------------------------------------------------------------------------


def test_forgetting_that_four_bits_undo_is_found_out():
    """UR is 0 as the model is and with 8 bits, and 100 % with 4."""
    examined = hiding()
    task, artifact = drawn(examined)
    rows = named(QuantisedRatio().measure(examined, task, artifact))
    assert rows["ur_unquantised"].value == rows["ur_int8"].value == 0
    assert (
        rows["ur_int8_change"].low < 0 == rows["ur_int8_change"].value < rows["ur_int8_change"].high
    )
    assert rows["ur_int4"].value == rows["ur_int4_change"].value == 100
    assert rows["ur_int4_change"].low > 85
    assert rows["unrecognisable_int4"].value == 0
    assert rows["ur_int4_change"].unit == "points"


def ratio_evidence(**changes):
    """Ten samples of the model and of a copy with 8 bits; class 1 is to be forgotten."""
    yes = torch.ones(10, dtype=torch.bool)
    tensors = {
        "bits": torch.tensor([8]),
        "targets": torch.tensor([1]),
        "y": torch.tensor([1] * 6 + [0] * 4),
        "samples": torch.tensor([1, 0, 0, 0, 0, 2, 0, 0, 2, 2]),
        "samples_int8": torch.tensor([1, 1, 1, 0, 0, 2, 0, 0, 0, 2]),
        **{f"{name}_recognised": yes for name in ("samples", "samples_int8")},
        **{f"{name}_finite": yes for name in ("samples", "samples_int8")},
    }
    return Evidence("quantised_generation", "q@1", {}, ("b",), tensors | changes)


def test_accuracies_by_hand():
    """Five of six do not show the class, three of six in the copy; two of four, three of four."""
    rows = named(QuantisedAccuracy.recompute(ratio_evidence()))
    assert rows["ua_unquantised"].value == pytest.approx(500 / 6)
    assert rows["ua_int8"].value == pytest.approx(50)
    assert rows["ua_int8_change"].value == pytest.approx(-200 / 6)
    assert (rows["ra_unquantised"].value, rows["ra_int8"].value) == (50, 75)
    assert rows["ra_int8_change"].value == 25
    assert rows["ua_unrecognisable_int8"].value == 0
    assert (rows["ua_int8"].n, rows["ra_int8"].n) == (6, 4)
    assert next(iter(rows)) == "ua_int8"


def test_ratios_by_hand():
    """One of ten, three of ten in the copy; what is not recognised does not count."""
    seen = torch.ones(10, dtype=torch.bool)
    seen[0] = False
    rows = named(QuantisedRatio.recompute(ratio_evidence(samples_int8_recognised=seen)))
    assert (rows["ur_unquantised"].value, rows["ur_int8"].value) == (10, 20)
    assert rows["ur_int8_change"].value == pytest.approx(10)
    assert rows["unrecognisable_int8"].value == 10


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bits": torch.zeros(0, dtype=torch.int64)}, "has no bits"),
        ({"bits": torch.tensor([4])}, "'samples_int4' .* is missing"),
        ({"samples_int8": torch.ones(9, dtype=torch.int64)}, "is of .9, 10. items"),
        ({"y": torch.zeros(10, dtype=torch.int64)}, "0"),
    ],
)
def test_evidence_that_cannot_be_is_refused(changes, reason):
    """Each number of bits has judged samples, as many as the model has."""
    with pytest.raises(MsgmBenchError, match=reason):
        QuantisedAccuracy.recompute(ratio_evidence(**changes))


@pytest.mark.parametrize(
    ("metric", "changes", "reason"),
    [
        ("ur_int8_change", {"value": 5.0}, "is not ur_int8 less ur_unquantised"),
        ("ur_int8", {"value": 31.0}, "no whole number"),
        ("unrecognisable_unquantised", {"value": None, "reason": "x"}, "has a value without"),
    ],
)
def test_rows_that_cannot_be_are_named(metric, changes, reason):
    """Honest rows contradict nothing, and a changed value does."""
    rows = named(QuantisedRatio.recompute(ratio_evidence()))
    assert not list(QuantisedRatio.violations(MeasuredRows({"samples": rows}, {}, {})))
    rows[metric] = rows[metric].model_copy(update=changes)
    violations = [*QuantisedRatio.violations(MeasuredRows({"samples": rows}, {}, {}))]
    assert any(reason in violation for violation in violations)


@pytest.mark.parametrize("task", [QuantisedGeneration, QuantisedClassGeneration])
def test_the_tasks_conform(task):
    """They keep what every task keeps, a kill included."""
    check_task(task)


@pytest.mark.parametrize("metric", [QuantisedRatio, QuantisedAccuracy])
def test_the_metrics_conform(metric):
    """They keep what every metric keeps."""
    check_metric(metric)
