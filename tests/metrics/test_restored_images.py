"""Accuracy, PSNR and SSIM of restored images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contexts import context, perfect
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from msgm_builtin.metrics.accuracy import Accuracy
from msgm_builtin.metrics.image_quality import PSNR, SSIM, psnr, ssim
from msgm_builtin.tasks.inpainting import InpaintingTask
from msgm_builtin.tasks.reconstruction import Reconstruction


def pictures(channels, size, count=4):
    """Smooth images and noisy, shifted, brightened copies of them, float64."""
    generator = torch.Generator().manual_seed(size)
    x = torch.rand(count, channels, size, size, generator=generator, dtype=torch.float64)
    x = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)
    noise = 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return x, (x.roll(1, dims=-1) * 0.9 + 0.05 + noise).clamp(0, 1)


def only(rows, metric, split="retain"):
    """The row."""
    (row,) = [row for row in rows if (row.metric, row.split) == (metric, split)]
    return row


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 11), (3, 32)])
def test_psnr_is_that_of_scikit_image(channels, size):
    """Per image, to 1e-7 relative, on images that differ in shape, level and noise."""
    x, y = pictures(channels, size)
    expected = [
        peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1.0)
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(psnr(y, x).numpy(), expected, rtol=1e-7)
    assert len(set(expected)) == len(expected)


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 11), (3, 32)])
def test_ssim_is_that_of_scikit_image(channels, size):
    """Per image, to 1e-9, with uniform windows of 7 pixels that lie within the image."""
    x, y = pictures(channels, size)
    expected = [
        structural_similarity(
            a.numpy(),
            b.numpy(),
            win_size=7,
            data_range=1.0,
            channel_axis=0,
            use_sample_covariance=False,
        )
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(ssim(y, x).numpy(), expected, atol=1e-9)
    assert 0.1 < min(expected) < max(expected) < 0.95


def test_quality_rows_are_means_over_retain_images():
    """Only D_g enters; the value is the mean over images; the interval holds it; up is good."""
    model_context, task = context(), InpaintingTask.create({"count": 12})
    artifact = {"x": perfect(model_context, task)["x"] + 0.03}
    artifact["x"][12:] = 0.0
    artifact["x"][0] += 0.03
    for metric, function in ((PSNR(), psnr), (SSIM(), ssim)):
        (row,) = metric.measure(model_context, task, artifact)
        pair = (
            model_context.model.codec.decode(artifact["x"][:12]),
            model_context.visible(model_context.retain)[:12],
        )
        assert row.value == pytest.approx(float(function(*pair).mean()))
        assert row.low < row.value < row.high
        assert (row.split, row.n, row.direction) == ("retain", 12, "up")
    assert row.protocol == "ssim/uniform-7/inpainting@1"


def test_quality_without_a_finite_value_is_null():
    """An image restored exactly has no finite PSNR, one that is NaN no SSIM: null, with why."""
    model_context, task = context(), Reconstruction.create({"count": 4})
    artifact = perfect(model_context, task)
    (row,) = PSNR().measure(model_context, task, artifact)
    assert (row.value, row.reason) == (None, "4 of 4 images have no finite value")
    artifact["x"][1] = torch.nan
    (row,) = SSIM().measure(model_context, task, artifact)
    assert (row.value, row.reason) == (None, "1 of 4 images have no finite value")


def test_accuracy_counts_images_that_are_judged_as_they_are_labelled():
    """Three of ten retain images and all but one forget image spoiled: 70 % and 10 %."""
    model_context, task = context(), InpaintingTask.create({"count": 10})
    artifact = perfect(model_context, task)
    artifact["x"][[1, 4, 8]] = 1 - artifact["x"][[1, 4, 8]]
    artifact["x"][11:] = 1 - artifact["x"][11:]
    rows = Accuracy().measure(model_context, task, artifact)
    assert only(rows, "acc").value == pytest.approx(70)
    assert only(rows, "acc", "forget").value == pytest.approx(10)
    assert only(rows, "acc_clean").value == only(rows, "acc_clean", "forget").value == 100
    assert only(rows, "acc").low == pytest.approx(39.68, abs=0.01)
    assert [only(rows, "acc", s).direction for s in ("retain", "forget")] == ["up", "down"]
    assert {row.unit for row in rows} == {"%"}


def test_accuracy_takes_no_image_that_is_not_finite():
    """A judge may find a class in NaN; it does not count."""
    model_context, task = context(), InpaintingTask.create({"count": 5})
    artifact = perfect(model_context, task)
    artifact["x"][0, 0, 0, 0] = torch.nan
    assert only(Accuracy().measure(model_context, task, artifact), "acc").value == pytest.approx(80)


def test_protocols_of_two_tasks_differ():
    """Rows of inpainting and of reconstruction never share an id, nor do biased draws."""
    model_context = context()
    biased = InpaintingTask.create({"corrector_steps": 0})
    ids = [
        Accuracy().protocol(model_context, t).id
        for t in (InpaintingTask(), biased, Reconstruction())
    ]
    assert len(set(ids)) == 3
    assert ids[1] == "acc/judge/inpainting predictor-only (biased)@1"
