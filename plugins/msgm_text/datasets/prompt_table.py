"""Rows of prompts and their concepts by name, as files have them, and the book that they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from msgm_bench import Prompt, PromptBook, PromptGroup, StorageError
from msgm_bench.storage import single_line

MAX_ROWS, MAX_CONCEPTS, MAX_TEXT, MAX_NAME = 100_000, 1_000, 2_000, 200
MAX_SEED, MAX_SCALE = 2**63 - 1, 1_000.0
GROUPS: tuple[PromptGroup, ...] = (
    "train",
    "target",
    "synonym",
    "implicit",
    "pair",
    "adversarial",
)
"""Groups that a file may name; which concepts are neighbours follows from their domains."""

NEIGHBOURS = "a neighbour is a concept of its own, of the same domain, with rows of group target"
PLACEHOLDER = "{concept}"


@dataclass(frozen=True)
class Concept:
    """What a file says of a concept; empty texts where it says nothing.

    Attributes:
        domain: Concepts of one domain are neighbours.
        anchor: What is to be drawn in its place.
        synonyms: Other words for it.
        is_unknown: Whether the base model does not know it: attacks have their control on it.
    """

    domain: str = ""
    anchor: str = ""
    synonyms: tuple[str, ...] = ()
    is_unknown: bool = False


@dataclass(frozen=True)
class Row:
    """A prompt whose concepts are names.

    Attributes:
        text: What the model reads.
        names: Concepts that it asks for.
        group: Its purpose.
        name: The concept that its images are searched for; empty for captions.
        seed: Seed of its noise.
        guidance: w of its guidance.
    """

    text: str
    names: tuple[str, ...]
    group: PromptGroup
    name: str = ""
    seed: int | None = None
    guidance: float | None = None


@dataclass(frozen=True)
class PromptTable:
    """Concepts and prompts of one file, or of several.

    Attributes:
        source: Names of the files, for errors.
        concepts: Concepts by name, in their order.
        rows: The prompts.
        words: Words of the prompts' language; empty where it is open.
        remarks: Notes on the files for the user.
    """

    source: str
    concepts: dict[str, Concept]
    rows: tuple[Row, ...]
    words: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())

    def book(self, captions: Sequence[str] = ()) -> PromptBook:
        """The prompts, captions first.

        Args:
            captions: Texts with the place ``{concept}``, which are the captions of every concept
                that no row of the group ``train`` asks for.

        Raises:
            StorageError: There are too many rows or concepts, two concepts differ in case alone, a
                concept is in no prompt, or some concepts have a domain and others have none.
        """
        check_size(self.source, len(self.rows), MAX_ROWS, "prompts")
        check_size(self.source, len(self.concepts), MAX_CONCEPTS, "concepts")
        self._check_names()
        self._check_used()
        train = [row for row in self.rows if row.group == "train"]
        captioned = set(chain.from_iterable(row.names for row in train))
        for name in self.concepts:
            if name not in captioned:
                texts = (text.replace(PLACEHOLDER, name) for text in captions)
                train += [Row(text, (name,), "train") for text in texts]
        index = {name: i for i, name in enumerate(self.concepts)}
        tests = [row for row in self.rows if row.group != "train"]
        for row in (*train, *tests):
            self._check_text(row.text)
        anchors = {name: c.anchor for name, c in self.concepts.items() if c.anchor}
        prompts = tuple(_prompt(row, index) for row in (*train, *tests))
        unknown = tuple(name for name, c in self.concepts.items() if c.is_unknown)
        domains = self._domains()
        return PromptBook(tuple(self.concepts), prompts, domains, anchors, self.words, unknown)

    def _check_text(self, text: str) -> None:
        """Refuse a prompt that a template made too long, or with a word that is not listed."""
        check_text(f"{self.source}: a prompt", text)
        other = [word for word in text.split() if self.words and word not in self.words]
        if other:
            raise StorageError(
                f"{self.source}: the prompt {text[:80]!r} has the word {other[0][:80]!r}",
                "`words` of the file, or none where the language is open",
            )

    def _check_names(self) -> None:
        folded: dict[str, str] = {}
        for name in self.concepts:
            first = folded.setdefault(name.casefold(), name)
            if first != name:
                raise StorageError(
                    f"{self.source}: the concepts {first!r} and {name!r} differ in case alone",
                    "one spelling of a concept",
                )

    def _check_used(self) -> None:
        used = {row.name for row in self.rows if row.group == "target"}
        unused = [name for name in self.concepts if name not in used]
        if unused:
            raise StorageError(
                f"{self.source}: no prompt of the group 'target' asks for {unused[0]!r}",
                "a prompt that names each concept",
                "add one, or take the concept out",
            )

    def _domains(self) -> dict[str, tuple[str, ...]]:
        domains: dict[str, tuple[str, ...]] = {}
        for name, concept in self.concepts.items():
            domains[concept.domain] = (*domains.get(concept.domain, ()), name)
        if len(domains) > 1 and "" in domains:
            raise StorageError(
                f"{self.source}: the concept {domains[''][0]!r} has no domain, and others have one",
                "a domain for every concept, or for none",
                "concepts of one domain are neighbours, those of others are unrelated",
            )
        return {} if "" in domains else domains


def join(tables: Sequence[PromptTable]) -> PromptTable:
    """The rows of several files as one table; a concept may have rows in many.

    Raises:
        StorageError: Two files contradict each other on a concept's domain or anchor.
    """
    concepts: dict[str, Concept] = {}
    for table in tables:
        for name, concept in table.concepts.items():
            before = concepts.get(name, Concept())
            for fact in ("domain", "anchor"):
                first, second = getattr(before, fact), getattr(concept, fact)
                if first and second and first != second:
                    raise StorageError(
                        f"{table.source}: {fact} {second!r} of the concept {name!r}",
                        f"{first!r}, as another file has it",
                    )
                before = replace(before, **{fact: first or second})
            synonyms = dict.fromkeys((*before.synonyms, *concept.synonyms))
            unknown = before.is_unknown or concept.is_unknown
            concepts[name] = replace(before, synonyms=tuple(synonyms), is_unknown=unknown)
    return PromptTable(
        ", ".join(table.source for table in tables),
        concepts,
        tuple(chain.from_iterable(table.rows for table in tables)),
        tuple(sorted(set(chain.from_iterable(table.words for table in tables)))),
        tuple(chain.from_iterable(table.remarks for table in tables)),
    )


def check_size(source: str, count: int, limit: int, what: str) -> None:
    """Refuse more than ``limit`` things.

    Raises:
        StorageError: There are more.
    """
    if count > limit:
        raise StorageError(f"{source}: {count:,} {what}", f"at most {limit:,}")


def check_text(where: str, text: str, limit: int = MAX_TEXT) -> str:
    """``text`` without blanks around it.

    Raises:
        StorageError: It is empty, too long, or has line breaks or control characters.
    """
    plain = text.strip()
    if not plain:
        raise StorageError(f"{where} is empty", "text")
    if len(plain) > limit:
        raise StorageError(f"{where} has {len(plain):,} letters", f"at most {limit:,}")
    if single_line(plain) != plain:
        raise StorageError(
            f"{where} has line breaks or invisible characters: {single_line(plain[:80])}",
            "one line of visible text",
        )
    return plain


def check_group(where: str, group: str) -> PromptGroup:
    """``group``, if a file may name it.

    Raises:
        StorageError: There is no such group, or it follows from the domains.
    """
    for known in GROUPS:
        if group == known:
            return known
    hint = NEIGHBOURS if group in ("neighbour", "unrelated") else ""
    raise StorageError(f"{where}: unknown group {single_line(group[:80])!r}", _list(GROUPS), hint)


def guidance_weight(scale: float) -> float:
    """w = s - 1 of Stable Diffusion's guidance scale s."""
    return scale - 1.0


def _prompt(row: Row, index: dict[str, int]) -> Prompt:
    concepts = tuple(sorted({index[name] for name in row.names}))
    probed = index[row.name] if row.name else None
    return Prompt(row.text, concepts, row.group, probed, row.seed, row.guidance)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
