"""Prompts with an anchor in the place of a forgotten concept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from msgm_bench import OptionError, Prompt, PromptBook, Prompts
from msgm_bench.testing.toy_text import toy_captions, toy_prompts, toy_text_model
from msgm_builtin.methods.anchors import (
    anchored_prompts,
    anchored_texts,
    check_anchors,
    name_pattern,
)

BOOK = PromptBook(
    concepts=("circle", "square", "red", "Van Gogh"),
    prompts=(
        Prompt("a red circle", (0, 2), "train"),
        Prompt("a Circle and a square", (0, 1), "train"),
        Prompt("a tomato", (0, 2), "implicit", 0),
        Prompt("a red square", (1, 2), "train"),
        Prompt("a disc", (0,), "synonym", 0),
        Prompt("a van-gogh circles", (0, 3), "train"),
        Prompt("encircled", (1,), "train"),
    ),
    anchors={"circle": "square", "Van Gogh": r"\1 painting"},
)


class _Session:
    """What ``anchored_prompts`` reads of a session."""

    def __init__(self, book, concepts):
        self.prompt_book, self.forget_concepts = book, concepts


def test_names_are_replaced_as_words_whatever_their_case():
    """Other words, and prompts that ask for none of the targets, stay."""
    texts = anchored_texts(BOOK, [0])
    assert texts[0] == "a red square"
    assert texts[1] == "a square and a square"
    assert texts[3] == BOOK.texts[3]
    assert texts[6] == "encircled"


def test_a_prompt_without_the_name_becomes_one_with_the_anchors_concepts():
    """A tomato, red and circle, becomes the first prompt for red and square; else the anchor."""
    texts = anchored_texts(BOOK, [0])
    assert texts[2] == "a red square"
    assert texts[4] == "encircled"  # the first one that asks for the square alone
    assert anchored_texts(BOOK, [0], "hexagon")[2] == "hexagon"


def test_anchors_are_text_and_no_pattern():
    """A backslash in an anchor is a backslash; hyphens stand for spaces."""
    assert anchored_texts(BOOK, [3])[5] == r"a \1 painting circles"


def test_a_concept_without_anchor_is_an_error_unless_the_option_names_one():
    """The error names the concept."""
    with pytest.raises(OptionError, match="red"):
        anchored_texts(BOOK, [2])
    assert anchored_texts(BOOK, [2], "blue")[0] == "a blue circle"


@pytest.mark.parametrize("anchor", ["top", " TOP ", "  "])
def test_a_concept_is_not_its_own_anchor(anchor):
    """In the option and in the prompts alike; another text that has the name is an anchor."""
    data = toy_captions()
    with pytest.raises(OptionError, match="of the concept 'top'"):
        check_anchors(data, [0], anchor)
    book = replace(data.prompts, anchors={"top": anchor})
    with pytest.raises(OptionError, match="of the concept 'top'"):
        check_anchors(replace(data, prompts=book), [0])
    check_anchors(data, [0], "top hat")


@pytest.mark.parametrize(
    ("name", "text", "matches"),
    [
        ("van gogh", "by Van  Gogh.", True),
        ("van gogh", "vangogh", False),
        ("c++", "in c++ style", True),
        ("ring", "earring", False),
        ("snow_man", "a snow man", True),
    ],
)
def test_names_match_whole_words(name, text, matches):
    """Case, gaps and signs of names."""
    assert (name_pattern(name).search(text) is not None) == matches


def test_indices_and_the_null_condition_stay_those_of_the_model():
    """A caption of D_f embeds as its anchored text does; all others, and none, as themselves."""
    torch.manual_seed(0)
    model = toy_text_model().requires_grad_(False)
    book = toy_prompts()
    anchored = anchored_prompts(_Session(book, (0,)), model)
    assert isinstance(anchored, Prompts)
    K = len(book)
    own, other = model.prompts.embed(torch.arange(K + 1)), anchored.embed(torch.arange(K + 1))
    is_same = [torch.equal(a, b) for a, b in zip(own, other, strict=True)]
    assert is_same == [0 not in prompt.concepts for prompt in book] + [True]
    expected = model.prompts.embed_texts(["a middle light"])[0]
    torch.testing.assert_close(other[0], expected)
