"""The exact judge of scenes: clean boards, noise and images that are no scenes."""

import pytest
import torch

from msgm_bench import IncompatibleError
from msgm_bench.testing import check_judge
from msgm_builtin.datasets.digits import Digits
from msgm_text.datasets.scenes import Scenes
from msgm_text.datasets.scenes_board import (
    BACKGROUND,
    COLOURS,
    OBJECTS,
    SHAPES,
    attributes,
    paint,
    templates,
)
from msgm_text.judges.scenes import MIN_IOU, SceneJudge

CELL_SIZES = pytest.mark.parametrize("cell", [4, 8])
RED_CIRCLE, BLUE_SQUARE = 0, SHAPES.index("square") * 6 + COLOURS.index("blue")


def generator(seed=0):
    """Random numbers of a test."""
    return torch.Generator().manual_seed(seed)


def images(boards, cell=4):
    """Painted boards in [0, 1]."""
    return paint(torch.tensor(boards), cell) / 255


def held_out(cell):
    """Items and labels of 2,000 scenes."""
    return Scenes.create({"cell": cell, "train_size": 500}).load().test


def correct(prediction, y):
    """Share of the images that are recognised with all concepts right."""
    return float((prediction.recognised & (prediction.classes == y).all(dim=1)).double().mean())


@CELL_SIZES
def test_held_out_scenes_are_judged_without_an_error(cell):
    """The gate's quality is 1 on the scenes themselves."""
    data = Scenes.create({"cell": cell, "train_size": 500}).load()
    judge = SceneJudge()
    judge.fit(data, 0, torch.device("cpu"))
    assert judge.quality([0]) == 1.0
    assert judge.report["items"] == 2000


def test_the_judge_passes_the_kit():
    """The contract of judges, on scenes: there are no other data for it."""
    check_judge(SceneJudge, data=Scenes.create({"train_size": 500, "test_size": 500}).load())


@CELL_SIZES
def test_shapes_are_too_different_to_be_taken_for_each_other(cell):
    """IoU of two different shapes is below what an object needs."""
    flat = templates(cell).flatten(1).double()
    intersection = flat @ flat.T
    iou = intersection / (flat.sum(1)[:, None] + flat.sum(1) - intersection)
    assert iou.fill_diagonal_(0).max() < MIN_IOU - 0.04


@CELL_SIZES
def test_noise_of_25_grey_levels(cell):
    """At least 99.9 % of the scenes are judged right under Gaussian noise, clipped to [0, 255]."""
    part = held_out(cell)
    noise = 25 * torch.randn(part.x.shape, generator=generator())
    x = (part.x + noise).clamp(0, 255) / 255
    assert correct(SceneJudge().predict(x), part.y) >= 0.999


@CELL_SIZES
def test_uniform_noise_is_not_recognised(cell):
    """At most 0.3 % of 4,000 images of uniform noise look like scenes."""
    x = torch.rand(4000, 3, 2 * cell, 2 * cell, generator=generator())
    assert SceneJudge().predict(x).recognised.double().mean() <= 0.003


@CELL_SIZES
def test_flat_images_are_not_recognised(cell):
    """No flat image is a scene: neither a palette's colour, nor one of 4,000 random ones."""
    colours = torch.cat([torch.rand(4000, 3, generator=generator()), torch.tensor([BACKGROUND])])
    x = colours[:, :, None, None].expand(-1, -1, 2 * cell, 2 * cell)
    assert not SceneJudge().predict(x).recognised.any()
    assert not SceneJudge().predict(images([[BLUE_SQUARE] * 4], cell)).recognised.any()


def test_an_image_is_judged_as_the_same_in_any_batch():
    """Predictions of single images are those of the batch."""
    part = held_out(4)
    x = part.x[:50] / 255
    whole = SceneJudge().predict(x)
    single = [SceneJudge().predict(image[None]) for image in x]
    assert torch.equal(whole.classes, torch.cat([p.classes for p in single]))
    assert torch.equal(whole.recognised, torch.cat([p.recognised for p in single]))


@CELL_SIZES
def test_objects_are_bound(cell):
    """A red circle beside a blue square shows neither a blue circle nor a red square."""
    shown = SceneJudge().objects(images([[RED_CIRCLE, -1, -1, BLUE_SQUARE]], cell))[0]
    names = [(COLOURS[k], SHAPES[s]) for s, k in shown.nonzero().tolist()]
    assert names == [("red", "circle"), ("blue", "square")]


@CELL_SIZES
def test_each_object_is_seen_in_each_cell(cell):
    """All 144 boards of one object: the object, recognised, and nothing else."""
    boards = torch.full((4 * OBJECTS, 4), -1)
    things = torch.arange(4 * OBJECTS) // 4
    boards[torch.arange(4 * OBJECTS), torch.arange(4 * OBJECTS) % 4] = things
    judge, x = SceneJudge(), paint(boards, cell) / 255
    assert judge.predict(x).recognised.all()
    assert torch.equal(judge.objects(x).flatten(1).nonzero()[:, 1], things)
    assert (judge.objects(x).flatten(1).sum(dim=1) == 1).all()


@CELL_SIZES
def test_places_are_the_cells_that_show_an_object(cell):
    """All 16 sets of cells, all objects in each: the painted board's own attributes."""
    data = Scenes.create({"places": True, "cell": cell, "train_size": 500, "test_size": 500}).load()
    judge = SceneJudge()
    judge.restore(data, {}, torch.device("cpu"))
    occupied = (torch.arange(16)[:, None] >> torch.arange(4)) % 2 == 1
    things = (torch.arange(OBJECTS)[:, None, None] + 7 * torch.arange(4)) % OBJECTS
    boards = torch.where(occupied, things, -1).flatten(0, 1)
    prediction = judge.predict(paint(boards, cell) / 255)
    assert torch.equal(prediction.classes, attributes(boards, places=True))
    cells = boards.flatten()[:, None]
    shown = attributes(torch.cat([cells, torch.full((len(cells), 3), -1)], dim=1))
    assert torch.equal(prediction.objects[:, :, :12], shown.reshape(-1, 4, 12))
    places = torch.eye(4, dtype=torch.bool) & (boards >= 0)[..., None]
    assert torch.equal(prediction.objects[:, :, 12:], places)


@pytest.mark.parametrize("places", [False, True])
def test_the_judge_knows_places_of_data_that_have_them(places):
    """After ``fit`` and after ``restore``, with a quality of 1."""
    data = Scenes.create({"places": places, "train_size": 500, "test_size": 500}).load()
    judge, restored = SceneJudge(), SceneJudge()
    judge.fit(data, 0, torch.device("cpu"))
    restored.restore(data, {}, torch.device("cpu"))
    assert judge.quality([0]) == 1.0
    x = data.test.x[:20] / 255
    assert torch.equal(judge.predict(x).classes, data.test.y[:20])
    assert torch.equal(restored.predict(x).classes, data.test.y[:20])


def test_garbage_beside_an_object_is_not_recognised():
    """A cell of noise spoils the image, and the object beside it is still reported."""
    x = images([[RED_CIRCLE, -1, -1, -1]]).repeat(200, 1, 1, 1)
    x[:, :, 4:, 4:] = torch.rand(200, 3, 4, 4, generator=generator())
    prediction = SceneJudge().predict(x)
    assert prediction.recognised.double().mean() <= 0.02
    assert prediction.classes[:, SHAPES.index("circle")].all()


@pytest.mark.parametrize(("missing", "recognised"), [(1, True), (2, True), (3, False)])
def test_an_object_needs_four_fifths_of_its_pixels(missing, recognised):
    """A circle of twelve pixels is seen at IoU 11/12 and 10/12, and not at 9/12."""
    x = images([[RED_CIRCLE, -1, -1, -1]])
    rows, columns = templates(4)[0].nonzero()[:missing].T
    x[0, :, rows, columns] = torch.tensor(BACKGROUND)[:, None] / 255
    prediction = SceneJudge().predict(x)
    assert bool(prediction.recognised) is recognised
    assert bool(prediction.classes[0, 0]) is recognised


def test_a_circle_in_two_colours_is_no_object():
    """Pixels of another colour lower the IoU inside a shape, too."""
    x = images([[RED_CIRCLE, -1, -1, -1]])
    x[0, :, :2, :4] = images([[BLUE_SQUARE, -1, -1, -1]])[0, :, :2, :4]
    assert not SceneJudge().predict(x).recognised.any()


def test_other_data_are_refused():
    """Digits have no coloured shapes."""
    digits = Digits().load()
    with pytest.raises(IncompatibleError, match="scenes"):
        SceneJudge().check(digits)
