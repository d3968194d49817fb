"""Prompts of a text-to-image dataset, and what each of them is for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

from msgm_bench.api.result import digest
from msgm_bench.errors import OptionError, UsageError, did_you_mean

PromptGroup = Literal[
    "train", "target", "synonym", "implicit", "pair", "neighbour", "unrelated", "adversarial"
]
PROMPT_GROUPS: tuple[PromptGroup, ...] = get_args(PromptGroup)
RETAIN_GROUPS: tuple[PromptGroup, ...] = ("neighbour", "unrelated")


@dataclass(frozen=True)
class Prompt:
    """A prompt, and the concept that its images are searched for.

    Attributes:
        text: What the model reads.
        concepts: Indices of the concepts that the text asks for.
        group: Its purpose: ``train``, a caption; ``target``, names its concept; ``synonym``,
            names it by another word; ``implicit``, asks for it without a name; ``pair``, names it
            beside other concepts; ``neighbour``, another concept of the same domain;
            ``unrelated``, a concept of another domain; ``adversarial``, written to bring it back.
        concept: Index of the concept that is searched for; None for captions.
        seed: Seed of its noise, where its source states one.
        guidance: w of its guidance, where its source states one.
    """

    text: str
    concepts: tuple[int, ...]
    group: PromptGroup
    concept: int | None = None
    seed: int | None = None
    guidance: float | None = None


@dataclass(frozen=True)
class PromptBook:
    """The prompts of a dataset: captions, and prompts that test a model.

    A prompt is known by its index: it is the condition that a text-to-image model takes. A row of
    the group ``target`` that names a concept to be kept serves as ``neighbour`` where both
    concepts share a domain, and as ``unrelated`` where they do not.

    Attributes:
        concepts: Names of the concepts, which are the attributes of the items.
        prompts: The prompts.
        domains: Names of the concepts of each domain (shapes, colours, styles).
        anchors: What is to be drawn in the place of a concept, by the concept's name.
        words: Words of the language that the prompts are written in, for tokenizers and attacks;
            empty where the language is open.
        unknown: Concepts that the base model does not know, on which attacks have their control
            where no model was trained without a concept; their prompts test nothing else.
    """

    concepts: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    domains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    anchors: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        """The prompts in their order."""
        return iter(self.prompts)

    def __getitem__(self, index: int) -> Prompt:
        """The prompt of an index."""
        return self.prompts[index]

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """What the model reads, by index."""
        return tuple(prompt.text for prompt in self.prompts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that the book holds."""
        rows = [[p.text, p.concepts, p.group, p.concept, p.seed, p.guidance] for p in self.prompts]
        parts = [self.concepts, rows, dict(self.domains), dict(self.anchors), self.words]
        return digest([*parts, self.unknown] if self.unknown else parts)

    @property
    def unknown_concepts(self) -> tuple[int, ...]:
        """Indices of ``unknown``."""
        return tuple(self.concepts.index(name) for name in self.unknown)

    def captions(self, targets: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Indices of the captions that ask for one of ``targets`` (``forget``), and of the rest."""
        rows = [(i, p) for i, p in enumerate(self.prompts) if p.group == "train"]
        wanted = set(targets)
        return {
            "retain": tuple(i for i, p in rows if not wanted & set(p.concepts)),
            "forget": tuple(i for i, p in rows if wanted & set(p.concepts)),
        }

    def groups(self, targets: Sequence[int]) -> dict[PromptGroup, tuple[int, ...]]:
        """Indices of the prompts of each group but ``train``, when ``targets`` are to be forgotten.

        Raises:
            UsageError: No prompt names a target, or none asks for something to be kept.
        """
        groups: dict[PromptGroup, list[int]] = {name: [] for name in PROMPT_GROUPS[1:]}
        for i, prompt in enumerate(self.prompts):
            group = self._group(prompt, set(targets))
            if group is not None:
                groups[group].append(i)
        names = ", ".join(self.concepts[target] for target in targets)
        if not groups["target"]:
            raise UsageError(
                f"no prompt of the group 'target' asks for {names}",
                "concepts that a prompt names",
                "add such prompts, or choose another --forget",
            )
        if not groups["neighbour"] and not groups["unrelated"]:
            raise UsageError(
                f"the prompts ask for nothing but {names}: what a method keeps cannot be measured",
                "prompts that ask for other concepts, too",
                "add concepts of the same domain (neighbours) or of another, with target prompts",
            )
        return {name: tuple(rows) for name, rows in groups.items()}

    def _group(self, prompt: Prompt, targets: set[int]) -> PromptGroup | None:
        """The group of a prompt when ``targets`` are to be forgotten; None: it tests nothing."""
        if prompt.group == "train" or prompt.concept is None:
            return None
        if prompt.concept in targets:
            return prompt.group if prompt.group not in RETAIN_GROUPS else "target"
        if self.concepts[prompt.concept] in self.unknown:
            return None
        if targets & set(prompt.concepts) or prompt.group not in ("target", *RETAIN_GROUPS):
            return None
        if prompt.group != "target" or not self.domains:
            return prompt.group if prompt.group != "target" else "neighbour"
        own = self._domain(prompt.concept)
        return "neighbour" if own in {self._domain(target) for target in targets} else "unrelated"

    def _domain(self, concept: int) -> str | None:
        name = self.concepts[concept]
        return next((domain for domain, names in self.domains.items() if name in names), None)

    def anchor(self, concept: int) -> str:
        """What is to be drawn in the place of a concept.

        Raises:
            OptionError: The book names no anchor for the concept.
        """
        name = self.concepts[concept]
        if name not in self.anchors:
            near = did_you_mean(name, list(self.anchors))
            raise OptionError(
                f"the prompts name no anchor for {name!r}{near}",
                "a concept's `anchor: TEXT` in a file of prompts, or the method's own option (-p)",
                "name what is to be drawn in its place",
            )
        return self.anchors[name]
