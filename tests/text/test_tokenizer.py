"""The tokenizer of a closed language: words, lengths and files."""

import string

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msgm_bench import OptionError
from msgm_text.backbones.tokenizer import WordTokenizer

WORDS = ("a", "and", "blue", "circle", "crimson", "cross", "red", "ring", "square", "triangle")


def tokenizer(words=WORDS, length=12):
    """Of a few words."""
    return WordTokenizer(words, length)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.text(string.ascii_letters + "äöß", min_size=1, max_size=12), min_size=1))
def test_each_word_is_one_token(words):
    """Whatever the words are, each is one token, and words that differ in lower case differ."""
    tokens = tokenizer(words, 3)(sorted(words))
    assert tokens.shape == (len(words), 3)
    assert len(tokens[:, 1].unique()) == len({word.lower() for word in words})


def test_a_prompt_is_framed_and_padded_with_the_end():
    """start, words, end, end ...: as CLIP's own tokenizer pads."""
    encode = tokenizer()
    row = encode(["a red circle"])[0]
    assert row[0] == encode.start
    assert (row[4:] == encode.end).all()
    assert encode.clip.decode(row[1:4]) == "a red circle"
    assert torch.equal(encode([""])[0, 1:], torch.full((11,), encode.end))
    assert encode([]).shape == (0, 12)


def test_the_encoding_depends_on_the_set_of_words_alone():
    """Order, repetition, case and the texts that hold the words play no part."""
    texts = ["a red circle and a blue ring", "crimson cross, square and Triangle"]
    prompts = ["a blue cross", "a crimson ring and a red square"]
    first = tokenizer([*WORDS, ","])(prompts)
    assert torch.equal(tokenizer([*WORDS[::-1], ",", "Red"])(prompts), first)
    assert torch.equal(tokenizer(texts)(prompts), first)


def test_the_longest_prompt_fits_and_a_longer_one_does_not():
    """Start and end count; the error names the prompt, its tokens and the limit."""
    encode = tokenizer(length=6)
    assert encode(["a red circle and"]).shape == (1, 6)
    with pytest.raises(OptionError, match=r"'a red circle and a ring' has 8 tokens") as error:
        encode(["a ring", "a red circle and a ring"])
    assert "at most 6 tokens" in str(error.value)


def test_a_word_outside_the_language_is_no_end_of_the_prompt():
    """CLIP's unknown token is the end token: the word would silently end the prompt."""
    with pytest.raises(OptionError, match="the word 'hexagon' of the prompt 'a red hexagon'"):
        tokenizer()(["a red hexagon"])


@pytest.mark.parametrize("words", [[], [""], ["  "]])
def test_a_language_has_words(words):
    """Empty texts hold none."""
    with pytest.raises(OptionError, match="prompts without a word"):
        tokenizer(words)


def test_transformers_reads_what_is_saved(tmp_path):
    """The files are those of a CLIPTokenizer that gives the same tokens."""
    from transformers import CLIPTokenizer

    encode, prompts = tokenizer(), ["a crimson ring and a blue square", "", "a red cross"]
    encode.clip.save_pretrained(tmp_path)
    stored = CLIPTokenizer.from_pretrained(tmp_path)
    assert stored.model_max_length == 12
    tokens = stored(prompts, padding="max_length", max_length=12)["input_ids"]
    assert tokens == encode(prompts).tolist()
