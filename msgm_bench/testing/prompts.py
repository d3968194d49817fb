"""What a book of prompts keeps: rows that mean something, for every concept that it names."""

from __future__ import annotations

from itertools import chain

import torch

from msgm_bench.api import PROMPT_GROUPS, Examples, Prompt, PromptBook
from msgm_bench.errors import UsageError
from msgm_bench.testing.checks import in_one_line


def check_book(name: str, book: PromptBook) -> None:
    """Rows are of known groups and concepts; domains and anchors name concepts; all are tested.

    Raises:
        AssertionError: They are not; names the row or the concept.
    """
    for row, prompt in enumerate(book):
        _check_prompt(f"{name}: prompt {row} ({prompt.text!r:.60})", prompt, book)
    for what, names in (("domains", chain(*book.domains.values())), ("anchors", book.anchors)):
        other = sorted(set(names) - set(book.concepts))
        assert not other, f"{name}: its {what} name {other[0]!r}, which is no concept"
    for concept in range(len(book.concepts)):
        try:
            book.groups([concept])
        except UsageError as error:
            raise AssertionError(f"{name}: {in_one_line(error)}") from error


def _check_prompt(label: str, prompt: Prompt, book: PromptBook) -> None:
    named = {*prompt.concepts, *(() if prompt.concept is None else (prompt.concept,))}
    assert named <= set(range(len(book.concepts))), f"{label}: concepts {sorted(named)}"
    assert prompt.group in PROMPT_GROUPS, f"{label}: group {prompt.group!r}"
    caption = prompt.group == "train"
    assert caption or prompt.concept is not None, f"{label} tests no concept"
    assert not caption or prompt.concept is None, f"{label} is a caption that tests a concept"
    other = sorted(set(prompt.text.split()) - set(book.words)) if book.words else []
    assert not other, f"{label}: {other[0]!r} is no word of the book"


def check_captions(label: str, book: PromptBook, items: Examples) -> None:
    """Each item has a caption, which asks for nothing but concepts that the item carries.

    Raises:
        AssertionError: It has not; names the first such item.
    """
    assert items.c is not None, f"{label}: items have no captions (Examples.c)"
    assert items.c.dtype == torch.int64, f"{label}: captions are {items.c.dtype}, not int64"
    assert items.c.shape == (len(items),), f"{label}: {len(items.c)} captions of {len(items)} items"
    within = (items.c >= 0) & (items.c < len(book))
    assert bool(within.all()), f"{label}: captions beyond the {len(book)} prompts"
    concepts = torch.zeros(len(book), len(book.concepts), dtype=torch.bool)
    for row, prompt in enumerate(book):
        concepts[row, list(prompt.concepts)] = True
    captions = torch.tensor([prompt.group == "train" for prompt in book], dtype=torch.bool)
    right = captions[items.c] & (~concepts[items.c] | items.y).all(dim=1)
    wrong = (~right).nonzero().flatten().tolist()
    assert not wrong, f"{label}: item {wrong[0]} does not show what its caption asks for" + (
        f" ({book[int(items.c[wrong[0]])].text!r:.60})"
    )
