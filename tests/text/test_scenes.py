"""Scenes: boards, captions and the prompts that test a concept."""

import pytest
import torch

from msgm_bench import OptionError
from msgm_bench.testing import check_dataset
from msgm_text.datasets.scenes import GRAIN, Scenes
from msgm_text.datasets.scenes_board import (
    COLOURS,
    CONCEPTS,
    OBJECTS,
    PALETTE,
    SHAPES,
    attributes,
    join_cells,
    paint,
    split_cells,
    templates,
)
from msgm_text.datasets.scenes_language import ANCHORS, IMPLICIT, SYNONYMS

PLACED = {"places": True}


def load(**options):
    """A small set of scenes."""
    return Scenes.create({"train_size": 1500, "test_size": 500, **options}).load()


@pytest.mark.parametrize("options", [{}, {"cell": 8}, {"pairs": 0.0}, {"pairs": 1.0}, PLACED])
def test_scenes_pass_the_kit(options):
    """Boards of both sizes, of one object and of two keep the contract."""
    check_dataset(Scenes, {"train_size": 1500, "test_size": 500, **options})


def test_a_cell_is_split_and_joined():
    """join_cells inverts split_cells, and the second cell is the board's top right."""
    x = torch.arange(2 * 3 * 64).reshape(2, 3, 8, 8)
    assert torch.equal(join_cells(split_cells(x)), x)
    assert torch.equal(split_cells(x)[:, 1], x[:, :, :4, 4:].flatten(2).mT)


def test_shapes_of_four_pixels():
    """The six shapes in a cell of four pixels, drawn by hand."""
    drawn = {
        "circle": ".##. #### #### .##.",
        "ring": ".##. #..# #..# .##.",
        "square": "#### #### #### ####",
        "bar": ".... #### #### ....",
        "triangle": "#... ##.. ###. ####",
        "cross": "#..# .##. .##. #..#",
    }
    for shape, rows in zip(SHAPES, templates(4), strict=True):
        assert " ".join("".join(".#"[p] for p in row) for row in rows.int()) == drawn[shape]


def test_paint_and_attributes_of_one_board():
    """A blue square top right and nothing else: its pixels, its two concepts."""
    board = torch.tensor([[-1, SHAPES.index("square") * 6 + COLOURS.index("blue"), -1, -1]])
    x = paint(board, 8)
    blue = (x == torch.tensor(PALETTE["blue"])[None, :, None, None]).all(dim=1)
    assert blue[0, :8, 8:].all()
    assert int(blue.sum()) == 64
    shown = [name for name, y in zip(CONCEPTS, attributes(board)[0], strict=True) if y]
    assert shown == ["square", "blue"]


def test_captions_ask_for_what_the_items_show():
    """Concepts of each item's caption are its attributes, and words of the text name them."""
    data = load()
    meanings = {name: {name} for name in CONCEPTS}
    meanings |= {synonym: {name} for name, synonym in SYNONYMS.items()}
    meanings |= {word: set(names) for names, word in IMPLICIT.items()}
    for part in (data.train, data.test):
        for y, c in zip(part.y, part.c.tolist(), strict=True):
            prompt = data.prompts[c]
            shown = {name for name, carries in zip(CONCEPTS, y.tolist(), strict=True) if carries}
            assert {CONCEPTS[concept] for concept in prompt.concepts} == shown
            words = [word for word in prompt.text.split() if word in meanings]
            assert set().union(*(meanings[word] for word in words)) == shown


def test_every_caption_has_an_item_and_no_text_stands_twice():
    """The captions are those of the items, each of them once."""
    data = load()
    used = torch.cat([data.train.c, data.test.c]).unique().tolist()
    captions = [i for i, prompt in enumerate(data.prompts) if prompt.group == "train"]
    assert used == captions
    texts = [data.prompts[i].text for i in captions]
    assert len(set(texts)) == len(texts)


def test_shares_of_pairs_synonyms_and_implicit_words():
    """Shares are as described, within five standard errors of 16,000 scenes."""
    data = Scenes().load()
    texts = [data.prompts[c].text.split() for c in data.train.c.tolist()]
    pairs = sum("and" in text for text in texts)
    assert pairs / len(texts) == pytest.approx(0.7, abs=0.02)
    singles = [text for text in texts if "and" not in text]
    implicit = sum(text[-1] in IMPLICIT.values() for text in singles)
    assert implicit / len(singles) == pytest.approx(0.3 * len(IMPLICIT) / OBJECTS, abs=0.02)
    synonym = sum(bool(set(text) & set(SYNONYMS.values())) for text in singles)
    assert synonym / (len(singles) - implicit) == pytest.approx(0.2, abs=0.025)


def test_most_pairs_differ_in_shape_or_colour_alone():
    """60 %, and 10 of the 35 others of an object among the pairs that differ in any way."""
    concepts = load(pairs=1.0).train.y.sum(dim=1)
    assert (concepts == 3).double().mean() == pytest.approx(0.6 + 0.4 * 10 / 35, abs=0.06)
    assert ((concepts == 3) | (concepts == 4)).all()


def test_items_are_the_painted_boards_within_the_grain():
    """An item's grey levels are within 4 of a painted board, and use all 9 deviations."""
    data = load(pairs=0.0)
    thing = torch.tensor([SHAPES.index("ring") * 6 + COLOURS.index("white")])
    shown = data.train.y[:, [SHAPES.index("ring"), 6 + COLOURS.index("white")]].all(dim=1)
    boards = torch.full((4, 4), -1).fill_diagonal_(int(thing))
    deviation = data.train.x[shown][:, None].float() - paint(boards, 4)
    nearest = deviation.abs().flatten(2).amax(dim=2).amin(dim=1)
    assert shown.any()
    assert (nearest <= GRAIN).all()
    centred = deviation[deviation.abs() <= GRAIN].unique()
    assert centred.tolist() == list(range(-GRAIN, GRAIN + 1))


def test_held_out_scenes_do_not_depend_on_the_number_of_training_scenes():
    """The two parts have streams of their own."""
    assert torch.equal(load().test.x, load(train_size=2000).test.x)


def test_options_are_in_the_name_of_the_protocol():
    """Values on other scenes are of another protocol."""
    assert Scenes().load().protocol == "scenes/drawn@1"
    assert load(cell=8).protocol == "scenes/drawn+cell=8+train_size=1500+test_size=500@1"


@pytest.mark.parametrize("target", CONCEPTS)
def test_every_concept_can_be_forgotten(target):
    """Prompts of each group, all in known words; what is kept asks for no target."""
    book = load().prompts
    index = CONCEPTS.index(target)
    groups = book.groups([index])
    sizes = {name: len(rows) for name, rows in groups.items()}
    implicit = sum(target in names for names in IMPLICIT)
    assert implicit >= 2
    assert sizes == {
        "target": 6,
        "synonym": 6,
        "implicit": implicit,
        "pair": 30,
        "neighbour": 30,
        "unrelated": 30,
        "adversarial": 0,
    }
    for name, rows in groups.items():
        kept = name in ("neighbour", "unrelated")
        assert all((index in book[i].concepts) is not kept for i in rows)
        assert all((target in book[i].text.split()) == (name in ("target", "pair")) for i in rows)
        assert all(set(book[i].text.split()) <= set(book.words) for i in rows)
    domain = book.domains["shape" if index < 6 else "colour"]
    assert all(CONCEPTS[book[i].concept] in domain for i in groups["neighbour"])
    assert not any(CONCEPTS[book[i].concept] in domain for i in groups["unrelated"])
    assert book.anchor(index) in set(domain) - {target}


def test_a_pair_asks_for_its_other_object_besides_the_concept():
    """Concepts of a pair without the tested one are those of one object: a shape and a colour."""
    book = load().prompts
    for prompt in book:
        if prompt.group == "pair":
            rest = sorted(set(prompt.concepts) - {prompt.concept})
            assert [CONCEPTS[i] in SHAPES for i in rest] == [True, False]


def test_anchors_are_of_the_same_domain():
    """A shape is replaced by a shape, a colour by a colour, and none by itself."""
    for name, anchor in ANCHORS.items():
        assert (name in SHAPES) == (anchor in SHAPES)
        assert name != anchor


def test_a_cell_of_another_size_is_an_error():
    """Between the two sizes there are no templates."""
    with pytest.raises(OptionError, match="4 or 8"):
        load(cell=6)
