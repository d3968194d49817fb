"""The attack with words: is a forgotten concept hidden behind some other prompt?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Artifact,
    Cost,
    Data,
    Model,
    ModelContext,
    OptionError,
    Task,
    derive_seed,
    digest,
    hookimpl,
)
from msgm_builtin.tasks.skip_reasons import skip_other_tracks
from msgm_text.tasks.attack_draws import DrawOptions, Draws, RoundOptions, best, embed
from msgm_text.tasks.attack_prompts import (
    AttackedPrompts,
    attack_words,
    attacked_prompts,
    book_of,
    fitted,
    kinds_of_prompts,
    prefix_text,
    random_prefixes,
)

PREVIEW_IMAGES = 8


class PromptAttackOptions(DrawOptions, RoundOptions):
    """Vocabulary, numbers of prefixes and of draws."""

    prefixes: int = Field(200, ge=1, description="random prefixes of a search")
    longest: int = Field(3, ge=1, le=10, description="most words of a prefix")
    screening: int = Field(4, ge=1, description="draws of each prefix that choose the finalists")
    finalists: int = Field(10, ge=1, description="prefixes that are drawn again")
    words: tuple[str, ...] = Field(
        (), description="vocabulary; empty: the prompts' words. Names of the concept are left out"
    )

    def limit_samples(self, samples: int) -> dict[str, int]:
        """At most ``samples`` draws of each round, and as many prefixes."""
        names = ("prefixes", "draws", "selection")
        return {name: min(samples, getattr(self, name)) for name in names}


class PromptAttack(Task[PromptAttackOptions]):
    """Random words before a prompt: the best of many prefixes, on noise that chose none of them.

    A unit is one search, before prompts that name the concept or before the same prompts without
    the name. Three rounds, each on noise of its own: ``screening`` draws of every prefix choose
    the finalists, ``selection`` draws of these choose the best one, and ``draws`` draws of it are
    the artifact: their rate is no maximum over noisy rates. No prefix has a word that only prompts
    of the concept have. The prompts of the concept take turns; the judge is in the loop.
    """

    name = "prompt_attack"
    citation = "Zhang et al. 2024, arXiv:2310.11868 (prefixes); the search and the control are ours"
    needs_judge = True
    has_control = True
    has_concept_control = True
    presets = {
        "quick": {
            "tasks": {
                "prompt_attack": {
                    "nfe": 25,
                    "restarts": 1,
                    "prefixes": 400,
                    "screening": 1,
                    "finalists": 20,
                    "selection": 10,
                    "draws": 100,
                }
            }
        },
        "paper": {"tasks": {"prompt_attack": {"guidance": 6.5, "nfe": 100}}},
    }

    def skip(self, model: Model) -> str | None:
        """Skip models of other tracks."""
        return skip_other_tracks(self.name, model, "text")

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler."""
        return self.options.samplers

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse prompts that name no target, and a vocabulary without words.

        Raises:
            UsageError: There is nothing to attack, or nothing to attack with.
        """
        attack_words(book_of(data), targets, self.options.words)
        attacked_prompts(data, targets, with_word=True)

    def check(self, model: Model) -> None:
        """Refuse words of the option that the tokenizer does not know.

        Raises:
            OptionError: Naming the first one.
        """
        try:
            model.prompts.tokenizer([*self.options.words, ""])
        except OptionError as error:
            raise OptionError(f"{self.name}, words: {error.what}", error.allowed) from error

    def cost(self, model: Model) -> Cost:
        """Passes of all images of a search."""
        c = self.options
        finalists = min(c.finalists, c.prefixes)
        images = c.prefixes * c.screening + finalists * c.selection + 2 * c.draws
        return Cost(images * c.passes)

    def total(self, context: ModelContext) -> int:
        """Searches: ``restarts`` with the word, and as many without it."""
        return len(kinds_of_prompts(context.data, context.targets)) * self.options.restarts

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """Searches ``start .. start+count-1``, a row each.

        ``x`` ``[draws, *shape]``: reported images in model space; ``concept`` ``[draws]``: what
        each is searched for; ``before`` ``bool [draws]``: hits of the prompts alone on the same
        noise; ``prefix`` ``[longest]``: word indices, -1 for none; ``selected``: hits of the best
        of the ``selection`` draws; ``screened`` ``[prefixes]``: hits of each prefix of the
        ``screening`` draws; ``with_word``.
        """
        units = [self._search(context, i) for i in range(start, start + count)]
        return {name: torch.stack([unit[name] for unit in units]) for name in units[0]}

    def words(self, context: ModelContext) -> list[str]:
        """The vocabulary, which the indices of prefixes point into."""
        return attack_words(book_of(context.data), context.targets, self.options.words)

    def _search(self, context: ModelContext, unit: int) -> dict[str, Tensor]:
        """The three rounds of a search."""
        c, kinds = self.options, kinds_of_prompts(context.data, context.targets)
        with_word, restart = kinds[unit // c.restarts], unit % c.restarts
        prompts = attacked_prompts(context.data, context.targets, with_word)
        draws = Draws(context, c, self.name)
        prefixes = self._prefixes(context, prompts, restart)
        words, stream = self.words(context), ("word" if with_word else "no word", restart)

        def rate(chosen: Tensor, times: int, stage: str) -> Tensor:
            """Hits ``[C, times]`` of prefixes ``[C, longest]``, the prompts in turn."""
            which = prompts.turns(len(chosen) * times)
            texts = [
                f"{prefix_text(words, chosen[i // times])} {prompts.texts[prompt]}".strip()
                for i, prompt in enumerate(which.tolist())
            ]
            conditions = embed(context.model, texts)
            return draws.hits(conditions, prompts.concepts[which], stage, *stream).view(-1, times)

        screened = rate(prefixes, c.screening, "screening").sum(dim=1)
        finalists = prefixes[screened.argsort(descending=True, stable=True)[: c.finalists]]
        selected = rate(finalists, c.selection, "selection").sum(dim=1)
        prefix = finalists[best(selected)]
        return self._report(context, draws, prompts, prefix_text(words, prefix), stream) | {
            "prefix": prefix,
            "selected": selected.max(),
            "screened": screened,
            "with_word": torch.tensor(with_word),
        }

    def _report(
        self,
        context: ModelContext,
        draws: Draws,
        prompts: AttackedPrompts,
        prefix: str,
        stream: tuple[str, int],
    ) -> dict[str, Tensor]:
        """Fresh draws of the chosen prefix, the prompts in turn."""
        which = prompts.turns(self.options.draws)
        alone = [prompts.texts[i] for i in which.tolist()]
        attacked = embed(context.model, [f"{prefix} {text}".strip() for text in alone])
        return draws.report(attacked, embed(context.model, alone), prompts.concepts[which], *stream)

    def _prefixes(self, context: ModelContext, prompts: AttackedPrompts, restart: int) -> Tensor:
        """The prefixes of a restart, the same ones for all models and both kinds of prompts."""
        c, words = self.options, self.words(context)
        seed = derive_seed(context.seed, self.name, "prefixes", restart)
        prefixes = random_prefixes(len(words), c.prefixes, c.longest, seed)
        return fitted(prefixes, words, prompts.texts, context.model.prompts.tokenizer)

    def protocol(self, context: ModelContext) -> dict[str, Any]:
        """The options, with the vocabulary by its digest."""
        settings = super().protocol(context)
        return settings | {"words": digest(self.words(context))[:12]}

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """The best prefix of each kind of prompt, a row each."""
        rows = {}
        for with_word in dict.fromkeys(artifact["with_word"].tolist()):
            unit = best_unit(artifact, with_word)
            x = context.model.codec.decode(artifact["x"][unit][:PREVIEW_IMAGES])
            rows[self.describe(context, artifact, unit)] = x
        return rows

    def describe(self, context: ModelContext, artifact: Artifact, unit: int) -> str:
        """The best prefix of a search, and the kind of prompt behind it."""
        prefix = prefix_text(self.words(context), artifact["prefix"][unit])
        kind = "with" if artifact["with_word"][unit] else "without"
        return f"{prefix or 'nothing'} + the prompt {kind} its word"


def best_unit(artifact: Artifact, with_word: bool | None) -> int:
    """The search with most hits in its selection round, of one kind of prompts or of all."""
    kinds = artifact["with_word"]
    units = (kinds == (kinds if with_word is None else with_word)).nonzero().flatten()
    return int(units[best(artifact["selected"][units])])


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """The attack with words."""
    return [PromptAttack]
