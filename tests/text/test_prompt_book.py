"""Groups of prompts for a forget set."""

from __future__ import annotations

import pytest

from msgm_bench import OptionError, Prompt, PromptBook, UsageError

SHAPES, COLOURS = ("circle", "square"), ("red", "blue")
NAMES = (*SHAPES, *COLOURS)
CIRCLE, SQUARE, RED, BLUE = range(4)
ROWS = (
    Prompt("a red circle", (CIRCLE, RED), "train"),
    Prompt("a blue square", (SQUARE, BLUE), "train"),
    Prompt("a circle", (CIRCLE,), "target", CIRCLE),
    Prompt("a square", (SQUARE,), "target", SQUARE),
    Prompt("something red", (RED,), "target", RED),
    Prompt("a disc", (CIRCLE,), "synonym", CIRCLE),
    Prompt("a box", (SQUARE,), "synonym", SQUARE),
    Prompt("a circle and a square", (CIRCLE, SQUARE), "pair", CIRCLE),
    Prompt("a red circle", (CIRCLE, RED), "target", RED),
)
BOOK = PromptBook(NAMES, ROWS, {"shape": SHAPES, "colour": COLOURS}, {"circle": "square"})


def texts(groups, name):
    """Texts of a group."""
    return [ROWS[i].text for i in groups[name]]


def test_prompts_of_other_concepts_serve_as_what_is_to_be_kept():
    """In the same domain they are neighbours, else unrelated; none of them asks for the target."""
    groups = BOOK.groups([CIRCLE])
    assert texts(groups, "target") == ["a circle"]
    assert texts(groups, "neighbour") == ["a square"]
    assert texts(groups, "unrelated") == ["something red"]
    assert texts(groups, "synonym") == ["a disc"]
    assert texts(groups, "pair") == ["a circle and a square"]
    assert "train" not in groups


def test_a_group_is_that_of_the_forget_set():
    """The same book serves another target: colours are now the domain."""
    groups = BOOK.groups([RED])
    assert texts(groups, "target") == ["something red", "a red circle"]
    assert texts(groups, "neighbour") == []
    assert texts(groups, "unrelated") == ["a circle", "a square"]


def test_captions_are_split_by_what_they_ask_for():
    """D_f's captions ask for a target, D_g's for none."""
    assert BOOK.captions([CIRCLE]) == {"forget": (0,), "retain": (1,)}
    assert BOOK.captions([CIRCLE, BLUE]) == {"forget": (0, 1), "retain": ()}


def test_explicit_groups_stay_what_they_are():
    """A file of one concept names its neighbours and unrelated prompts itself."""
    rows = (
        Prompt("a van gogh", (0,), "target", 0),
        Prompt("a monet", (1,), "neighbour", 1),
        Prompt("a dog", (2,), "unrelated", 2),
    )
    groups = PromptBook(("van gogh", "monet", "dog"), rows).groups([0])
    assert {name: len(index) for name, index in groups.items() if index} == {
        "target": 1,
        "neighbour": 1,
        "unrelated": 1,
    }


def test_a_book_that_cannot_test_is_refused():
    """A concept in no prompt, and prompts that ask for nothing else, are errors."""
    with pytest.raises(UsageError, match="no prompt of the group 'target' asks for blue"):
        BOOK.groups([BLUE])
    lone = PromptBook(("circle",), (Prompt("a circle", (0,), "target", 0),))
    with pytest.raises(UsageError, match="what a method keeps cannot be measured"):
        lone.groups([0])


def test_anchors_by_name():
    """An anchor is the book's text; a concept without one is an error that names the remedy."""
    assert BOOK.anchor(CIRCLE) == "square"
    with pytest.raises(OptionError, match="no anchor for 'square'"):
        BOOK.anchor(SQUARE)


def test_a_digest_holds_every_field():
    """Two books that differ in one field of one prompt have two digests."""
    other = [
        (*ROWS[:-1], Prompt("a red circle", (CIRCLE, RED), "target", RED, seed=1)),
        (*ROWS[:-1], Prompt("a red circle", (CIRCLE, RED), "target", RED, guidance=2.0)),
        (*ROWS[:-1], Prompt("a red circle", (CIRCLE,), "target", RED)),
        ROWS[:-1],
    ]
    books = [PromptBook(NAMES, rows, BOOK.domains, BOOK.anchors) for rows in (ROWS, *other)]
    books += [PromptBook(NAMES, ROWS, BOOK.domains), PromptBook(NAMES, ROWS, {}, BOOK.anchors)]
    assert len({book.digest for book in books}) == len(books)
