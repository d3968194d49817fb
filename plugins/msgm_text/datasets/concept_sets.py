"""Concept files in YAML, and the sets that come with the package.

A file names concepts and the prompts that ask for them::

    concepts:
      Van Gogh:
        domain: style
        anchor: an artist
        synonyms: [Vincent]
        prompts:
          target: [a painting by Van Gogh, {text: Van Gogh's bedroom, seed: 3, guidance: 7.5}]
          implicit: [the starry night]
          pair: [{text: a Van Gogh of a dog, concepts: [dog]}]
      Monet: {domain: style}
      dog: {domain: object}
    templates:
      - {text: "a {object} painted by {style}", groups: [train, target], seeds: [1, 2]}
      - {text: "a photo of a {object}", groups: [target]}

``prompts`` are by group: ``train`` (captions), ``target``, ``synonym``, ``implicit``, ``pair``,
``adversarial``. A template stands for one prompt for every choice of a concept of each domain that
it names in braces; for the group ``target`` it probes each of these concepts, and with a synonym in
the place of the name it makes prompts of the group ``synonym``. Concepts of one domain are each
other's neighbours, those of another are unrelated. ``guidance`` is Stable Diffusion's scale
s = 1 + w. A ``seed`` names noise of this bench (``Noise``): the same number draws other noise in
other programs. ``words`` are the words of a closed language.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from msgm_bench import IncompatibleError, StorageError
from msgm_bench.storage import MIB, read_yaml, single_line
from msgm_bench.storage.cards import Card, parse_card
from msgm_text.datasets.prompt_table import (
    MAX_NAME,
    MAX_ROWS,
    MAX_SCALE,
    MAX_SEED,
    Concept,
    PromptTable,
    Row,
    check_group,
    check_size,
    check_text,
    guidance_weight,
)

SETS = Path(__file__).parent / "concept_sets_data"
LIMIT = MIB
SCHEMA = 'the schema is in docs/datasets.md, "Prompt files"'
_PLACE = re.compile(r"\{([^{}]*)\}")

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Scale = Annotated[float, Field(ge=0, le=MAX_SCALE)]


class PromptEntry(Card):
    """A prompt: its text alone, or text, further concepts, seed and guidance scale."""

    text: str
    concepts: tuple[str, ...] = ()
    seed: Seed | None = None
    guidance: Scale | None = None


class ConceptEntry(Card):
    """A concept."""

    domain: str = ""
    anchor: str | None = None
    synonyms: tuple[str, ...] = ()
    unknown: bool = False
    prompts: dict[str, tuple[PromptEntry, ...]] = {}


class TemplateEntry(Card):
    """A text with the names of domains in braces."""

    text: str
    groups: tuple[str, ...]
    seeds: tuple[Seed, ...] = ()
    guidance: Scale | None = None


class ConceptFile(Card):
    """A file of concepts."""

    concepts: dict[str, ConceptEntry]
    templates: tuple[TemplateEntry, ...] = ()
    words: tuple[str, ...] = ()


def packaged_sets() -> tuple[str, ...]:
    """Names of the sets that come with the package."""
    return tuple(sorted(path.stem for path in SETS.glob("*.yaml")))


def read_packaged_set(name: str) -> PromptTable:
    """A set that comes with the package."""
    return read_concept_file(SETS / f"{name}.yaml")


def read_concept_file(path: Path) -> PromptTable:
    """The concepts and prompts of a YAML file.

    Raises:
        StorageError: The file cannot be read, is no YAML, or names no concept, an unknown group,
            domain or concept, or an empty text.
        IncompatibleError: A field is unknown, missing or of the wrong type.
    """
    value, source = read_yaml(path, limit=LIMIT), single_line(path)
    if not isinstance(value, dict):
        raise StorageError(f"{source} holds {type(value).__name__}", "`concepts:`", SCHEMA)
    return parse_concepts(value, source)


def parse_concepts(value: Mapping[str, Any], source: str) -> PromptTable:
    """The content of a YAML file.

    Raises:
        MsgmBenchError: As ``read_concept_file``.
    """
    try:
        content = parse_card(_written_out(value), ConceptFile, source)
    except IncompatibleError as error:
        raise IncompatibleError(error.what, error.allowed, SCHEMA) from error
    if not content.concepts:
        raise StorageError(f"{source} names no concept", "one concept or more", SCHEMA)
    concepts = {name: _concept(source, name, c) for name, c in content.concepts.items()}
    rows = [
        *(row for name, c in content.concepts.items() for row in _rows(source, name, c, concepts)),
        *(row for i in range(len(content.templates)) for row in _expand(source, content, i)),
    ]
    words = tuple(check_text(f"{source}: a word", word, MAX_NAME) for word in content.words)
    return PromptTable(source, concepts, tuple(rows), tuple(sorted(set(words))))


def _written_out(value: Mapping[str, Any]) -> dict[str, Any]:
    """The content with ``{}`` for a concept without a value, and ``{text: ...}`` for a text."""
    concepts = value.get("concepts")
    if not isinstance(concepts, dict):
        return dict(value)
    return {**value, "concepts": {name: _written_out_concept(c) for name, c in concepts.items()}}


def _written_out_concept(concept: Any) -> Any:
    prompts = concept.get("prompts") if isinstance(concept, dict) else None
    if not isinstance(prompts, dict):
        return {} if concept is None else concept
    groups = {
        group: [{"text": entry} if isinstance(entry, str) else entry for entry in entries]
        if isinstance(entries, list)
        else entries
        for group, entries in prompts.items()
    }
    return {**concept, "prompts": groups}


def _concept(source: str, name: str, entry: ConceptEntry) -> Concept:
    where = f"{source}: concepts.{single_line(name[:80])}"
    if check_text(f"{source}: the name of a concept", name, MAX_NAME) != name:
        raise StorageError(f"{where} has blanks around its name", "the name alone")
    for synonym in entry.synonyms:
        check_text(f"{where}.synonyms", synonym, MAX_NAME)
    domain = entry.domain and check_text(f"{where}.domain", entry.domain, MAX_NAME)
    anchor = "" if entry.anchor is None else check_text(f"{where}.anchor", entry.anchor)
    return Concept(domain, anchor, entry.synonyms, entry.unknown)


def _rows(
    source: str, name: str, entry: ConceptEntry, concepts: Mapping[str, Concept]
) -> Iterator[Row]:
    """The prompts that a concept lists."""
    for key, prompts in entry.prompts.items():
        where = f"{source}: concepts.{name}.prompts"
        group = check_group(where, key)
        for i, prompt in enumerate(prompts):
            text = check_text(f"{where}.{group}.{i}", prompt.text)
            for other in prompt.concepts:
                if other not in concepts:
                    raise StorageError(
                        f"{where}.{group}.{i} asks for {single_line(other[:80])!r}, "
                        "which is no concept of the file",
                        "names under `concepts:`",
                    )
            w = None if prompt.guidance is None else guidance_weight(prompt.guidance)
            probed = "" if group == "train" else name
            yield Row(text, (name, *prompt.concepts), group, probed, prompt.seed, w)


def _expand(source: str, content: ConceptFile, number: int) -> Iterator[Row]:
    """The prompts of a template: one for every choice of a concept of each domain."""
    template, where = content.templates[number], f"{source}: templates.{number}"
    text = check_text(where, template.text)
    groups = [check_group(where, group) for group in template.groups]
    if not groups or not set(groups) <= {"train", "target"}:
        raise StorageError(f"{where}: groups {list(template.groups)}", "train, target")
    domains = _PLACE.findall(text)
    members = [[n for n, c in content.concepts.items() if c.domain == d] for d in domains]
    for domain, names in zip(domains, members, strict=True):
        if not domain or not names:
            raise StorageError(
                f"{where}: no concept has the domain {single_line(domain[:80])!r}",
                "domains of the file's concepts in braces",
            )
    if not domains or len(set(domains)) < len(domains):
        raise StorageError(f"{where} names no domain, or one twice", "`a photo of a {DOMAIN}`")
    count = math.prod(map(len, members)) * max(1, len(template.seeds)) * len(domains)
    check_size(where, count, MAX_ROWS, "prompts")
    for choice in itertools.product(*members):
        if "train" in groups:
            yield Row(_fill(text, domains, choice), choice, "train")
        if "target" in groups:
            yield from _probes(text, domains, choice, template, content)


def _probes(
    text: str,
    domains: list[str],
    names: tuple[str, ...],
    template: TemplateEntry,
    content: ConceptFile,
) -> Iterator[Row]:
    """A filled template as a prompt for each of its concepts, and for their synonyms."""
    w = None if template.guidance is None else guidance_weight(template.guidance)
    for i, name in enumerate(names):
        for seed in template.seeds or (None,):
            yield Row(_fill(text, domains, names), names, "target", name, seed, w)
            for synonym in content.concepts[name].synonyms:
                words = (*names[:i], synonym, *names[i + 1 :])
                yield Row(_fill(text, domains, words), names, "synonym", name, seed, w)


def _fill(text: str, domains: list[str], names: tuple[str, ...]) -> str:
    choice = dict(zip(domains, names, strict=True))
    return _PLACE.sub(lambda place: choice[place[1]], text)
