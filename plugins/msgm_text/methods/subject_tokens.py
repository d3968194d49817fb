"""Embeddings of the tokens that name concepts in prompts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from msgm_bench import Prompt, PromptBook, Prompts
from msgm_builtin.methods.anchors import anchored_text, name_pattern

TokenChoice = Literal["last", "all"]
BLOCK = 32  # prompts that are encoded at once


def concept_prompts(book: PromptBook) -> list[Prompt]:
    """The name of each concept as a prompt."""
    return [Prompt(name, (i,), "target", i) for i, name in enumerate(book.concepts)]


def erased_tokens(
    prompts: Prompts,
    book: PromptBook,
    rows: Sequence[Prompt],
    targets: Collection[int],
    anchor: str,
    choice: TokenChoice,
) -> tuple[Tensor, Tensor]:
    """c and c* ``float64 [M, d]``: tokens of ``targets`` in ``rows``, and of their anchors.

    The last token of each name (``last``), or all from there to the end of the row of tokens.

    Raises:
        OptionError: A concept has no anchor, or a prompt is too long with it.
    """
    anchored = [anchored_text(book, row, targets, anchor) for row in rows]
    E, E_star = embeddings(prompts, [row.text for row in rows]), embeddings(prompts, anchored)
    c, c_star = [], []
    for n, row in enumerate(rows):
        for subject in subjects(book, row, targets):
            i = last_token(prompts, subject.text)
            j = last_token(prompts, anchored_text(book, subject, targets, anchor))
            count = 1 if choice == "last" else E.shape[1] - max(i, j)
            c.append(E[n, i : i + count])
            c_star.append(E_star[n, j : j + count])
    return torch.cat(c), torch.cat(c_star)


def preserved_tokens(
    prompts: Prompts, book: PromptBook, rows: Sequence[Prompt], choice: TokenChoice
) -> Tensor:
    """c ``float64 [M, d]`` of ``rows``: the last token of each name, or all of all tokens.

    With ``all`` the empty prompt is one of the rows.
    """
    texts = [row.text for row in rows]
    if choice == "all":
        return embeddings(prompts, [*texts, ""]).flatten(0, 1)
    E = embeddings(prompts, texts)
    c = [
        E[n, last_token(prompts, subject.text)]
        for n, row in enumerate(rows)
        for subject in subjects(book, row, row.concepts)
    ]
    return torch.stack(c) if c else E.new_zeros(0, E.shape[-1])


def subjects(book: PromptBook, prompt: Prompt, concepts: Collection[int]) -> list[Prompt]:
    """The prompt as far as each name of ``concepts`` in it; as it is where it names none."""
    ends = {}
    for concept in (c for c in prompt.concepts if c in concepts):
        match = name_pattern(book.concepts[concept]).search(prompt.text)
        if match is not None:
            ends[concept] = match.end()
    parts = [
        replace(prompt, text=prompt.text[:end], concepts=tuple(c for c in ends if ends[c] <= end))
        for end in sorted(set(ends.values()))
    ]
    return parts or [prompt]


def last_token(prompts: Prompts, text: str) -> int:
    """Position of the last token of ``text``, before what ends and fills up a row of tokens."""
    empty, tokens = prompts.tokens[-1], prompts.tokenizer([text])[0]
    first = int((tokens != empty).nonzero()[0])  # where the empty prompt has its end
    ends = (tokens[first:] == empty[first]).nonzero()
    return first + int(ends[0]) - 1 if len(ends) else len(tokens) - 1


@torch.no_grad()
def embeddings(prompts: Prompts, texts: Sequence[str]) -> Tensor:
    """Embeddings ``float64 [N, L, d]`` of prompts, encoded in blocks."""
    blocks = [texts[i : i + BLOCK] for i in range(0, len(texts), BLOCK)] or [[""]]
    rows = torch.cat([prompts.embed_texts(block).double() for block in blocks])
    return rows[: len(texts)]
