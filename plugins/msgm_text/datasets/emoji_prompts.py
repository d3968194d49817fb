"""Concepts of emoji: words of their names, and the prompts that test them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from msgm_bench import OptionError, Prompt, PromptBook
from msgm_text.datasets.emoji_names import Emoji

MIN_NAMES = 8
TESTS = 8


def check_concepts(concepts: Sequence[str], emoji: Sequence[Emoji]) -> None:
    """Refuse concepts that too few names have for a part to be held out.

    Raises:
        OptionError: Fewer than 8 captions have the word.
    """
    counts = Counter(word for item in emoji for word in set(item.words))
    for concept in concepts:
        if counts[concept] < MIN_NAMES:
            frequent = [word for word, count in counts.most_common() if count >= MIN_NAMES]
            raise OptionError(
                f"{counts[concept]} names of emoji have the word {concept!r:.40}",
                f"words of {MIN_NAMES} names or more, such as {', '.join(frequent[:20])}",
            )


def attributes(concepts: Sequence[str], emoji: Sequence[Emoji]) -> Tensor:
    """Concepts whose word the caption has, ``bool [N, A]``."""
    return torch.tensor([[concept in item.words for concept in concepts] for item in emoji])


def prompt_book(concepts: Sequence[str], emoji: Sequence[Emoji]) -> tuple[PromptBook, Tensor]:
    """The prompts, and the index of each emoji's caption ``int64 [N]``.

    A concept is tested by its word alone, and by up to seven captions that have it, evenly spaced
    in Unicode's order and without variants in skin tones.
    """
    texts = list(dict.fromkeys(item.caption for item in emoji))
    index = {text: i for i, text in enumerate(texts)}
    y = attributes(concepts, emoji)
    rows = [_prompt(text, concepts) for text in texts]
    for concept in range(len(concepts)):
        rows += _tests(concept, concepts, emoji)
    domains = _domains(concepts, emoji)
    book = PromptBook(
        concepts=tuple(concepts),
        prompts=tuple(rows),
        domains=domains,
        anchors=_anchors(concepts, domains, y),
        words=tuple(sorted({*concepts, *(word for text in texts for word in text.split())})),
    )
    return book, torch.tensor([index[item.caption] for item in emoji])


def _prompt(text: str, concepts: Sequence[str], concept: int | None = None) -> Prompt:
    words = text.split()
    named = tuple(i for i, name in enumerate(concepts) if name in words)
    return Prompt(text, named, "train" if concept is None else "target", concept)


def _plain(emoji: Sequence[Emoji], word: str) -> list[Emoji]:
    """Emoji with a word in the caption; variants in skin tones only if there are no others."""
    own = [item for item in emoji if word in item.words]
    return [item for item in own if not item.has_skin_tone] or own


def _tests(concept: int, concepts: Sequence[str], emoji: Sequence[Emoji]) -> Iterator[Prompt]:
    own = [item.caption for item in _plain(emoji, concepts[concept])]
    count = min(TESTS - 1, len(own))
    spaced = (own[i * len(own) // count] for i in range(count))
    for text in dict.fromkeys((concepts[concept], *spaced)):
        yield _prompt(text, concepts, concept)


def _domains(concepts: Sequence[str], emoji: Sequence[Emoji]) -> dict[str, tuple[str, ...]]:
    """Concepts of each group of emoji: the group of most of their names."""
    groups: dict[str, tuple[str, ...]] = {}
    for concept in concepts:
        counts = Counter(item.group for item in _plain(emoji, concept))
        group = counts.most_common(1)[0][0]
        groups[group] = (*groups.get(group, ()), concept)
    return groups


def _anchors(
    concepts: Sequence[str], domains: dict[str, tuple[str, ...]], y: Tensor
) -> dict[str, str]:
    """For each concept the most frequent other one, of its domain and never beside it if it can."""
    together = y.T.long() @ y.long()
    domain = {name: group for group, names in domains.items() for name in names}
    anchors = {}
    for i, name in enumerate(concepts):
        _, anchors[name] = max(
            ((domain[name] == domain[other], not together[i, j], int(together[j, j])), other)
            for j, other in enumerate(concepts)
            if j != i
        )
    return anchors
