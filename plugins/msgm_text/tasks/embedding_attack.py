"""The attack with learned embeddings, which nothing but its control makes meaningful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor

from msgm_bench import (
    Artifact,
    Cost,
    Data,
    Model,
    ModelContext,
    Task,
    derive_seed,
    hookimpl,
)
from msgm_builtin.tasks.skip_reasons import skip_other_tracks
from msgm_text.tasks.attack_draws import DrawOptions, Draws, RoundOptions, embed, increasing
from msgm_text.tasks.attack_images import concept_images
from msgm_text.tasks.attack_prompts import (
    attacked_prompts,
    book_of,
    kinds_of_prompts,
)
from msgm_text.tasks.prompt_attack import PREVIEW_IMAGES, best_unit
from msgm_text.tasks.soft_prefix import SoftPrefix


class EmbeddingAttackOptions(DrawOptions, RoundOptions):
    """Length of the prefix, optimiser and budgets."""

    tokens: int = Field(3, ge=1, le=16, description="k, learned embeddings before the prompt")
    steps: tuple[int, ...] = Field(
        (10, 20, 40), min_length=1, description="increasing numbers of steps after which it draws"
    )
    learning_rate: float = Field(0.01, gt=0, description="Adam's step size")
    weight_decay: float = Field(0.1, ge=0, description="Adam's penalty on the embeddings")
    images: int = Field(64, ge=1, description="images of the concept, of which it learns")
    images_a_step: int = Field(32, ge=1, description="images of a step")

    _increasing = field_validator("steps")(increasing)

    def limit_samples(self, samples: int) -> dict[str, int]:
        """At most ``samples`` images and draws of each round."""
        return {
            name: min(samples, getattr(self, name)) for name in ("draws", "selection", "images")
        }


class EmbeddingAttack(Task[EmbeddingAttackOptions]):
    """k embeddings of words before the prompt, learned from images of the concept by Adam.

        v* = argmin_v E w(t) |eps_hat(x_t, t, c(v + prompt)) - eps|^2 / D    over x0 in D_f

    The loss is the model's own, and no judge is in the loop. It starts at k random words of the
    model's vocabulary. The images are held-out items of D_f, each before the prompt that asks for
    what it shows; where the data have none, the base model draws them. A unit is one search:
    after each number of ``steps``, ``selection`` draws are judged, and after the last ``draws``
    others are the artifact. Such an attack also draws what a model never saw: see its control.
    """

    name = "embedding_attack"
    citation = "Zhang et al. 2024, arXiv:2310.11868, equation 5; the control is ours"
    needs_base = True
    needs_judge = True
    has_control = True
    presets = {
        "quick": {
            "tasks": {
                "embedding_attack": {
                    "nfe": 25,
                    "restarts": 1,
                    "selection": 20,
                    "draws": 100,
                    "steps": (10, 30, 100),
                    "learning_rate": 0.05,
                    "weight_decay": 0.0,
                }
            }
        },
        "paper": {"tasks": {"embedding_attack": {"guidance": 6.5, "nfe": 100, "images_a_step": 1}}},
    }

    def skip(self, model: Model) -> str | None:
        """Skip models of other tracks."""
        return skip_other_tracks(self.name, model, "text")

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler."""
        return self.options.samplers

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse prompts that name no target.

        Raises:
            UsageError: There is nothing to attack.
        """
        book_of(data)
        attacked_prompts(data, targets, with_word=True)

    def cost(self, model: Model) -> Cost:
        """Passes of all images of a search; a step costs three passes an image."""
        c = self.options
        drawn = len(c.steps) * c.selection + 2 * c.draws
        return Cost(drawn * c.passes + 3 * c.images_a_step * max(c.steps))

    def total(self, context: ModelContext) -> int:
        """Searches: ``restarts`` with the word, and as many without it."""
        return len(kinds_of_prompts(context.data, context.targets)) * self.options.restarts

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """Searches ``start .. start+count-1``, a row each.

        ``x`` ``[draws, *shape]``: reported images in model space; ``concept`` ``[draws]``: what
        each is searched for; ``before`` ``bool [draws]``: hits of the prompts alone on the same
        noise; ``embedding`` ``[k, d_w]``; ``steps`` ``[S]`` and ``rates`` ``[S]``: shares of hits
        among the ``selection`` draws after them, ``selected``: hits after the last; ``with_word``.
        """
        units = [self._search(context, i) for i in range(start, start + count)]
        return {name: torch.stack([unit[name] for unit in units]) for name in units[0]}

    def _search(self, context: ModelContext, unit: int) -> dict[str, Tensor]:
        """The learned embeddings of a search and their draws."""
        c, kinds = self.options, kinds_of_prompts(context.data, context.targets)
        with_word, restart = kinds[unit // c.restarts], unit % c.restarts
        prompts = attacked_prompts(context.data, context.targets, with_word)
        draws = Draws(context, c, self.name)
        stream = ("word" if with_word else "no word", restart)
        seed = derive_seed(context.seed, self.name, *stream)
        prefix = SoftPrefix(
            context.model, prompts.texts, c.tokens, seed, c.learning_rate, c.weight_decay
        )
        images, which = concept_images(context, draws, prompts, c.images)
        chosen, last, hits = prompts.turns(c.selection), prompts.turns(c.draws), []
        for done, steps in zip((0, *c.steps), c.steps, strict=False):
            prefix.learn(images, which, range(done, steps), c.images_a_step)
            conditions = attacked(prefix, chosen)
            hits.append(draws.hits(conditions, prompts.concepts[chosen], "selection", *stream))
        alone = embed(context.model, [prompts.texts[i] for i in last.tolist()])
        counts = torch.stack(hits).sum(dim=1)
        report = draws.report(attacked(prefix, last), alone, prompts.concepts[last], *stream)
        return report | {
            "embedding": prefix.v.detach().clone(),
            "steps": torch.tensor(c.steps),
            "rates": counts / c.selection,
            "selected": counts[-1],
            "with_word": torch.tensor(with_word),
        }

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """The best search of each kind of prompt, a row each."""
        rows = {}
        for with_word in dict.fromkeys(artifact["with_word"].tolist()):
            unit = best_unit(artifact, with_word)
            x = context.model.codec.decode(artifact["x"][unit][:PREVIEW_IMAGES])
            kind = "with" if with_word else "without"
            rows[f"embeddings + the prompt {kind} its word"] = x
        return rows


@torch.no_grad()
def attacked(prefix: SoftPrefix, which: Tensor) -> Tensor:
    """Conditions of the prompts ``which [N]`` under attack, ``[N, L, d]``."""
    return prefix.conditions(which)


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """The attack with learned embeddings."""
    return [EmbeddingAttack]
