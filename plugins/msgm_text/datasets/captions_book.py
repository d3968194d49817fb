"""The prompts of captioned images: what captions ask for, and what they are tested with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from msgm_bench import PromptBook, StorageError
from msgm_bench.storage import single_line
from msgm_text.datasets.captions_metadata import PHOTO, Caption
from msgm_text.datasets.concept_sets import read_packaged_set
from msgm_text.datasets.prompt_table import Concept, PromptTable, Row

PROMPTS = 20
"""Captions that test a concept of which no file has prompts, evenly spaced among its own."""


def named_concepts(captions: Sequence[Caption]) -> dict[str, Concept]:
    """The concepts that the metadata name, in the order of their names."""
    names = set(chain.from_iterable(caption.concepts or () for caption in captions))
    return dict.fromkeys(sorted(names), Concept())


def style_concepts(captions: Sequence[Caption]) -> dict[str, Concept]:
    """Styles and objects of UnlearnCanvas's folders, with its anchors where they are here, too.

    Raises:
        StorageError: A folder of styles and one of objects have the same name.
    """
    published = read_packaged_set("unlearncanvas").concepts
    pairs = [caption.concepts or () for caption in captions]
    styles = dict.fromkeys(names[0] for names in pairs if len(names) > 1)
    objects = dict.fromkeys(names[-1] for names in pairs)
    if both := styles.keys() & objects.keys():
        raise StorageError(f"{min(both)!r} is a style and an object", "a name for each")
    has_photos = any(len(names) == 1 for names in pairs)
    known = {*styles, *objects, *([PHOTO] * has_photos)}
    concepts = {}
    for domain, names in (("style", styles), ("object", objects)):
        for name in names:
            anchor = published.get(name, Concept()).anchor
            concepts[name] = Concept(domain, anchor if anchor in known else "")
    return concepts


def with_concepts(
    captions: Sequence[Caption], concepts: Mapping[str, Concept], source: str
) -> list[Caption]:
    """Captions with their concepts: those of the metadata, else those whose words are in the text.

    Args:
        captions: The captions.
        concepts: The concepts by name, with their synonyms.
        source: Where the captions are from, for errors.

    Raises:
        StorageError: Metadata name an unknown concept, or a concept is in no caption.
    """
    patterns = {
        name: re.compile(
            "|".join(rf"(?<!\w){re.escape(w.casefold())}(?!\w)" for w in (name, *c.synonyms))
        )
        for name, c in concepts.items()
    }
    complete = [replace(c, concepts=_concepts(c, patterns, source)) for c in captions]
    used = set(chain.from_iterable(caption.concepts or () for caption in complete))
    unused = [name for name in concepts if name not in used]
    if unused:
        raise StorageError(
            f"{source}: no caption asks for {single_line(unused[0])!r}",
            "concepts that captions name",
            "write it as the captions do, or add a column `concepts`",
        )
    return complete


def _concepts(
    caption: Caption, patterns: Mapping[str, re.Pattern[str]], source: str
) -> tuple[str, ...]:
    if caption.concepts is None:
        text = caption.text.casefold()
        return tuple(name for name, pattern in patterns.items() if pattern.search(text))
    unknown = [name for name in caption.concepts if name not in patterns]
    if unknown:
        raise StorageError(
            f"{source}: {single_line(caption.image)} shows {single_line(unknown[0])!r}, which is "
            "none of the concepts",
            ", ".join(list(patterns)[:40]),
        )
    return caption.concepts


def caption_book(
    captions: Sequence[Caption], table: PromptTable
) -> tuple[PromptBook, Tensor, Tensor]:
    """The book of captions and prompts, the items' labels ``bool [N, A]`` and captions ``[N]``.

    Args:
        captions: A caption of each item, with its concepts.
        table: Concepts, and prompts that test them; its own captions are left out.

    Raises:
        StorageError: As ``PromptTable.book``.
    """
    keys = dict.fromkeys((c.text, tuple(sorted(c.concepts or ()))) for c in captions)
    train = tuple(Row(text, names, "train") for text, names in keys)
    tests = [row for row in table.rows if row.group != "train"]
    tested = {row.name for row in tests if row.group == "target"}
    for name in table.concepts:
        if name not in tested:
            tests += _targets(name, train)
    book = replace(table, rows=(*train, *tests)).book()
    position = {key: i for i, key in enumerate(keys)}
    c = torch.tensor([position[c.text, tuple(sorted(c.concepts or ()))] for c in captions])
    y = torch.zeros(len(book), len(book.concepts), dtype=torch.bool)
    for i in range(len(train)):
        y[i, list(book[i].concepts)] = True
    return book, y[c], c


def _targets(name: str, train: Sequence[Row]) -> list[Row]:
    """Prompts that probe a concept: some of the captions that ask for it."""
    own = [row for row in train if name in row.names]
    count = min(PROMPTS, len(own))
    chosen = (own[i * len(own) // count] for i in range(count))
    return [Row(row.text, row.names, "target", name) for row in chosen]
