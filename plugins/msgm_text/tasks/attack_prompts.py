"""Prompts under attack, with their concept's name and without it, and words to put before them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msgm_bench import Data, OptionError, Prompt, PromptBook, Tokenizer

WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class AttackedPrompts:
    """Prompts that an attack puts something before.

    Attributes:
        texts: What the model reads behind it.
        concepts: The concept that each is to show.
        rows: The prompts of the book that they come from.
    """

    texts: tuple[str, ...]
    concepts: Tensor
    rows: tuple[Prompt, ...]

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.texts)

    def turns(self, count: int, start: int = 0) -> Tensor:
        """Positions of ``count`` prompts in turn, ``int64 [count]``."""
        return torch.arange(start, start + count) % len(self)


def attacked_prompts(data: Data, targets: Sequence[int], with_word: bool) -> AttackedPrompts:
    """The target prompts, or those of them that name their concept, with the name left out.

    Raises:
        UsageError: No prompt names a target.
    """
    book = book_of(data)
    rows = [book[i] for i in book.groups(targets)["target"]]
    pairs = [(row, row.text if with_word else without_name(book, row)) for row in rows]
    named = [(row, text) for row, text in pairs if with_word or text != row.text]
    concepts = [row.concept for row, _ in named]
    return AttackedPrompts(
        tuple(text for _, text in named),
        torch.tensor(concepts, dtype=torch.int64),
        tuple(row for row, _ in named),
    )


def kinds_of_prompts(data: Data, targets: Sequence[int]) -> tuple[bool, ...]:
    """Whether prompts are attacked with their word (True) and without it (False), if they can."""
    return (True, False) if len(attacked_prompts(data, targets, False)) else (True,)


def book_of(data: Data) -> PromptBook:
    """The prompts of the data.

    Raises:
        OptionError: There are none.
    """
    if data.prompts is None:
        raise OptionError("an attack on prompts of data that have none", "data with prompts")
    return data.prompts


def without_name(book: PromptBook, prompt: Prompt) -> str:
    """The text of a prompt without the name of the concept that it is searched for."""
    assert prompt.concept is not None
    name = r"\s+".join(map(re.escape, book.concepts[prompt.concept].split()))
    text = re.sub(rf"\b{name}\b", " ", prompt.text, flags=re.IGNORECASE)
    return " ".join(text.split())


def attack_words(book: PromptBook, targets: Sequence[int], own: Iterable[str] = ()) -> list[str]:
    """Words that may stand before a prompt: none that names a target or stands for one.

    A word stands for the targets if some prompt that asks for one of them has it and no other
    prompt does: names, synonyms and implicit words.

    Args:
        book: The prompts; their ``words``, or else all words of all prompts, are the vocabulary.
        targets: Indices of the concepts to be forgotten.
        own: The user's vocabulary in the place of the book's.

    Raises:
        OptionError: No word is left.
    """
    wanted, other = set[str](), set[str]()
    for prompt in book:
        (wanted if set(targets) & set(prompt.concepts) else other).update(words_of(prompt.text))
    names = {word for target in targets for word in words_of(book.concepts[target])}
    vocabulary = list(own) or list(book.words) or sorted(wanted | other)
    forbidden = (wanted - other) | names
    words = [word for word in dict.fromkeys(vocabulary) if not set(words_of(word)) & forbidden]
    if not words:
        raise OptionError(
            "a vocabulary of no word but the concept's own", "words=WORD,WORD,... to attack with"
        )
    return words


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return WORD.findall(text.casefold())


def random_prefixes(vocabulary: int, count: int, longest: int, seed: int) -> Tensor:
    """Prefixes of 1 to ``longest`` words: their indices ``int64 [count, longest]``, -1 for none.

    Each length has the same probability, and each word within it.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count, 1), generator=generator)
    words = torch.randint(vocabulary, (count, longest), generator=generator)
    return torch.where(torch.arange(longest) < lengths, words, -1)


def prefix_text(words: Sequence[str], prefix: Tensor) -> str:
    """The words of a prefix ``int64 [longest]``."""
    return " ".join(words[i] for i in prefix.tolist() if i >= 0)


def fitted(
    prefixes: Tensor, words: Sequence[str], texts: Sequence[str], tokenizer: Tokenizer
) -> Tensor:
    """The prefixes, shortened from the right until every text behind them fits the tokenizer.

    Raises:
        OptionError: A text is too long by itself.
    """
    tokenizer(texts)
    result = prefixes.clone()
    for row in result:
        while int((row >= 0).sum()):
            try:
                tokenizer([f"{prefix_text(words, row)} {text}" for text in texts])
                break
            except OptionError:
                row[int((row >= 0).sum()) - 1] = -1
    return result
