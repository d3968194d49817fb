"""Inpainting and reconstruction as tasks: what they draw, refuse and call themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from contexts import STD, Exact, context, perfect

from msgm_bench import (
    DiscreteDDPM,
    IdentityCodec,
    Model,
    OptionError,
    UniformDequantization,
    registry,
)
from msgm_builtin.metrics.accuracy import Accuracy
from msgm_builtin.tasks.inpainting import InpaintingTask, mask
from msgm_builtin.tasks.reconstruction import Reconstruction

SMALL = {"count": 5, "nfe": 20}
PARTIAL = {"variant": "partial"}


def drawn(task, model_context, chunk):
    """The artifact, drawn ``chunk`` items at a time."""
    total = task.total(model_context)
    parts = [task.draw(model_context, s, min(chunk, total - s)) for s in range(0, total, chunk)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def test_known_pixels_are_the_originals():
    """Outside of the upper half every restored pixel is the centre of the original's bin."""
    model_context, task = context(), InpaintingTask.create(SMALL)
    x = drawn(task, model_context, 10)["x"]
    original = perfect(model_context, task)["x"]
    assert torch.equal(x[:, :, 4:], original[:, :, 4:])
    assert (x[:, :, :4] - original[:, :, :4]).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_retain_comes_first():
    """The artifact holds at most ``count`` items of D_g, then of D_f, in the order of the data."""
    model_context, task = context(), InpaintingTask.create(SMALL)
    lower = drawn(task, model_context, 10)["x"][:, :, 4:]
    levels = (lower * 17 - 0.5).round().to(torch.uint8)
    expected = torch.cat([model_context.retain.x[:5], model_context.forget.x[:5]])[:, :, 4:]
    assert torch.equal(levels, expected)


@pytest.mark.parametrize("cls", [InpaintingTask, Reconstruction])
def test_chunks_change_nothing(cls):
    """Drawing three items at a time gives the tensors of drawing all at once."""
    model_context, task = context(), cls.create(SMALL)
    whole, parts = drawn(task, model_context, 10), drawn(task, model_context, 3)
    assert torch.equal(whole["x"], parts["x"])
    assert whole["nfe"].tolist() == [20 if cls is InpaintingTask else 19] * 10


def test_drawn_region_has_the_law_of_the_data():
    """With independent pixels the drawn ones follow N(m, s^2), whatever is known."""
    model_context = context(test=400)
    task = InpaintingTask.create({"count": 300, "nfe": 400, "box": (2, 2, 5, 4)})
    x = drawn(task, model_context, 400)["x"][:, :, 2:7, 2:6]
    assert float(x.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(x.std()) == pytest.approx(0.2, abs=0.01)


def test_noise_stays_without_denoising():
    """``denoise=False`` keeps the last noise on unknown pixels, and only there."""
    model_context = context()
    clean, noisy = (
        drawn(InpaintingTask.create(SMALL | {"denoise": flag}), model_context, 10)["x"]
        for flag in (True, False)
    )
    assert torch.equal(clean[:, :, 4:], noisy[:, :, 4:])
    assert not torch.equal(clean[:, :, :4], noisy[:, :, :4])


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 4), (0, 0, 4, 0), (-1, 0, 4, 4), (5, 0, 4, 4), (0, 6, 2, 3), (0, 0, 8, 8)]
)
def test_mask_must_lie_in_the_image(box):
    """A box that is empty, outside or everything is refused before training, with the size."""
    with pytest.raises(OptionError, match="8x8"):
        InpaintingTask.create({"box": box}).check_data(context().data, (3,))


def test_box_is_what_is_drawn():
    """The mask is 0 inside the box and 1 elsewhere."""
    known = mask((1, 8, 8), (1, 2, 3, 4))
    assert int((known == 0).sum()) == 12
    assert float(known[0, 1:4, 2:6].sum()) == 0


REGIONS = {"a": (0, 1, 2, 3), "c": (4, 2, 2, 6), "d": (1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("options", "targets", "expected"),
    [
        ({}, (3,), (1, 2, 3, 4)),
        ({"region": "feature"}, (3,), (1, 2, 3, 4)),
        ({"region": "upper-half"}, (3,), (0, 0, 4, 8)),
        ({}, (0, 2), (0, 1, 6, 7)),
        ({}, (1,), (0, 0, 4, 8)),
        ({}, (1, 3), (0, 0, 4, 8)),
        ({"box": (5, 5, 1, 1)}, (3,), (5, 5, 1, 1)),
    ],
)
def test_region_is_the_features_where_it_is_known(options, targets, expected):
    """The box of what is to be forgotten, or the smallest around several; else the upper half."""
    model_context = context()
    data = replace(model_context.data, regions=REGIONS)
    assert InpaintingTask.create(options).box(data, targets) == expected
    if not options:
        assert InpaintingTask.create().box(model_context.data, targets) == (0, 0, 4, 8)


def test_region_is_inpainted_previewed_and_named():
    """What changes, what the picture leaves grey and what the protocol says are one box."""
    model_context, task = context(), InpaintingTask.create(SMALL)
    model_context = replace(model_context, data=replace(model_context.data, regions=REGIONS))
    x, original = drawn(task, model_context, 10)["x"], perfect(model_context, task)["x"]
    changed = (x != original).any(dim=0)[0].nonzero()
    assert changed.amin(dim=0).tolist() == [1, 2]
    assert changed.amax(dim=0).tolist() == [3, 5]
    picture = task.preview(model_context, perfect(model_context, task))["retain: input"]
    assert (picture[:, :, 1:4, 2:6] == 0.5).all()
    settings = task.protocol(model_context)
    assert settings["box"] == [1, 2, 3, 4]
    assert "region" not in settings
    assert InpaintingTask.create(SMALL | {"box": (1, 2, 3, 4)}).protocol(context()) == settings


def test_a_feature_without_a_region_is_refused():
    """The error names what has no region, and those that have."""
    data = replace(context().data, regions=REGIONS)
    task = InpaintingTask.create({"region": "feature"})
    with pytest.raises(OptionError, match=r"the dataset names no region of b\nallowed: a, c, d"):
        task.check_data(data, (1, 3))


def test_budget_counts_corrector_steps():
    """``nfe`` evaluations are shared by predictor and corrector; one too few is refused."""
    task = InpaintingTask.create({"nfe": 11, "corrector_steps": 4})
    assert task.solver(torch.zeros(1, 1, 8, 8), (0, 0, 4, 8)).steps == 2
    with pytest.raises(OptionError, match="budget"):
        InpaintingTask.create({"nfe": 1}).check(context().model)


def test_predictor_only_is_labelled():
    """Without corrector steps the label says that the draws are biased."""
    assert InpaintingTask.create().label == "inpainting"
    assert "predictor-only (biased)" in InpaintingTask.create({"corrector_steps": 0}).label


@pytest.mark.parametrize("cls", [InpaintingTask, Reconstruction])
def test_points_are_skipped(cls):
    """Both tasks are for images, and say so."""
    process = context().model.process
    points = Model(Exact(process), process, IdentityCodec(), (2,))
    assert "images" in cls.create().skip(points)
    assert cls.create().skip(context().model) is None


def test_reconstruction_goes_through_the_latent():
    """The image is the exact flow of the perturbed latent: for N(m, s^2), of a G = s / sigma_T.

    VE's z is 8 wide, so that sigma(0.02) = 0.011 on it moves a pixel by s/8 of that: 0.0003.
    """
    model_context, task = context(), Reconstruction.create({"count": 5, "nfe": 800})
    move = drawn(task, model_context, 10)["x"] - perfect(model_context, task)["x"]
    none = drawn(Reconstruction.create({"count": 5, "nfe": 800, "t": 0.0}), model_context, 10)["x"]
    noise = drawn(task, model_context, 10)["x"] - none
    sigma = float(model_context.model.process.marginal(torch.tensor(0.02))[1])
    assert float(noise.std()) == pytest.approx(sigma * STD / 8.0, rel=0.1)
    assert float(move.abs().max()) < 0.005


def test_the_latent_is_the_default_and_half_of_the_budget_is_each_way():
    """400 evaluations: 100 steps of 2 up, 100 steps and the denoising one down."""
    model_context, task = context(), Reconstruction.create({"count": 2})
    assert task.options.variant == "latent"
    assert task.start == 1.0
    assert set(drawn(task, model_context, 4)["nfe"].tolist()) == {200 + 199}
    with pytest.raises(OptionError, match="nfe = 3"):
        Reconstruction.create({"nfe": 3}).check(model_context.model)


def test_exponential_encoding_is_exact_in_a_tenth_of_the_budget():
    """Of N(m, s^2) the image comes back, in 40 evaluations each way; the protocol says how."""
    model_context, adams = context(), {"encoder": "adams", "sampler": "deis", "nfe": 80}
    task = Reconstruction.create({"count": 5, **adams})
    artifact = drawn(task, model_context, 10)
    assert set(artifact["nfe"].tolist()) == {80}
    assert float((artifact["x"] - perfect(model_context, task)["x"]).abs().max()) < 0.005
    settings = [t.protocol(model_context) for t in (task, Reconstruction.create())]
    assert [s.get("encoder") for s in settings] == ["adams", None]


def test_the_variants_have_protocols_of_their_own():
    """The latent is version 2 of the name under which partial was version 1."""
    model_context = context()
    ids = {
        variant: Accuracy().protocol(model_context, Reconstruction.create({"variant": variant})).id
        for variant in ("latent", "partial")
    }
    assert ids == {
        "latent": "acc/judge/reconstruction@2",
        "partial": "acc/judge/reconstruction partial@1",
    }


def test_partial_reconstruction_is_near_and_not_equal():
    """From t = 0.02 of a VE process (sigma 0.011) an image comes back within its noise."""
    model_context, task = context(), Reconstruction.create(SMALL | PARTIAL)
    error = (
        (drawn(task, model_context, 10)["x"] - perfect(model_context, task)["x"])
        .square()
        .mean()
        .sqrt()
    )
    sigma = float(model_context.model.process.marginal(torch.tensor(0.02))[1])
    assert 0.5 * sigma < float(error) < 1.5 * sigma


def test_partial_reconstruction_from_far_forgets_the_image():
    """From t = 1 nothing of the image is left: what comes back is a sample."""
    model_context, task = context(), Reconstruction.create(SMALL | PARTIAL | {"t": 1.0, "nfe": 60})
    x, original = drawn(task, model_context, 10)["x"], perfect(model_context, task)["x"]
    correlation = torch.corrcoef(torch.stack([x.flatten(), original.flatten()]))[0, 1]
    assert abs(float(correlation)) < 0.15
    assert float(x.mean()) == pytest.approx(0.5, abs=0.05)


def test_reconstruction_time_must_be_sampled():
    """A time at which the sampler stops anyway is refused."""
    with pytest.raises(OptionError, match="t = 1e-05"):
        Reconstruction.create(PARTIAL | {"t": 1e-5}).check(context().model)


@pytest.mark.parametrize("sampler", ["heun", "em", "pc", "ancestral", "ddim"])
def test_every_sampler_starts_from_the_middle(sampler):
    """Started from x_t at t = 0.05, each sampler ends nearer to x0 than from the prior."""
    process = DiscreteDDPM()
    model_context = context(process=process)
    options = {"count": 20, "nfe": 50, "t": 0.05, "sampler": sampler}
    task = Reconstruction.create(PARTIAL | options)
    x, original = drawn(task, model_context, 40)["x"], perfect(model_context, task)["x"]
    far = drawn(Reconstruction.create({**task.options.model_dump(), "t": 1.0}), model_context, 40)[
        "x"
    ]
    near, other = ((v - original).square().mean() for v in (x, far))
    assert float(near) < 0.8 * float(other)


def test_the_default_budget_suits_the_discrete_grid():
    """DDPM has 20 steps up to t = 0.02: the default budget passes, 21 evaluations do not."""
    model = discrete(1000)
    task = Reconstruction.create(PARTIAL | {"sampler": "ancestral"}).with_model_defaults(model)
    sampler = registry.registry().create("samplers", *task.uses()["samplers"])
    sampler.check(model, task.start)
    longer = registry.registry().create("samplers", "ancestral", {"nfe": 21})
    with pytest.raises(OptionError, match="at most 20"):
        longer.check(model, task.start)
    longer.check(model)


def discrete(steps):
    """A model on a DDPM grid."""
    process = DiscreteDDPM(steps)
    return Model(Exact(process), process, UniformDequantization(17), (1, 8, 8))


@pytest.mark.parametrize(
    ("steps", "t", "nfe"), [(1000, 0.02, 20), (4000, 0.02, 20), (400, 0.02, 8), (100, 0.1, 10)]
)
@pytest.mark.parametrize("name", ["heun", "em", "ancestral", "ddim"])
def test_the_default_budget_is_what_a_coarse_grid_has(steps, t, nfe, name):
    """20 evaluations, or one for each grid time up to t; every sampler takes that many."""
    model = discrete(steps)
    task = Reconstruction.create(PARTIAL | {"sampler": name, "t": t}).with_model_defaults(model)
    assert task.options.nfe == nfe
    registry.registry().create("samplers", *task.uses()["samplers"]).check(model, task.start)


def test_an_explicit_budget_stays():
    """The budget of the options is not lowered in silence: it is refused, or used."""
    task = Reconstruction.create(PARTIAL | {"nfe": 20}).with_model_defaults(discrete(100))
    assert task.options.nfe == 20
    assert Reconstruction.create(PARTIAL).with_model_defaults(context().model).options.nfe == 20
    assert Reconstruction.create().with_model_defaults(context().model).options.nfe == 400


def test_pictures_show_both_splits():
    """A picture has the original, what is given of it and the restored image of each split."""
    model_context, task = context(), InpaintingTask.create(SMALL)
    rows = task.preview(model_context, perfect(model_context, task))
    assert list(rows) == [
        f"{s}: {what}" for s in ("retain", "forget") for what in ("original", "input", "restored")
    ]
    assert torch.equal(rows["forget: original"], model_context.visible(model_context.forget)[:5])
    assert torch.equal(rows["retain: input"][:, :, 4:], rows["retain: original"][:, :, 4:])
    assert set(rows["retain: input"][:, :, :4].flatten().tolist()) == {0.5}
    assert "retain: input" not in Reconstruction.create(SMALL).preview(
        model_context, perfect(model_context, task)
    )
