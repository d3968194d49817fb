"""Noise sensitivity of text-to-image models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import Conditioned, Data, Model, ModelContext, Task, hookimpl
from msgm_builtin.tasks.noise_sensitivity import NoiseSensitivity
from msgm_builtin.tasks.skip_reasons import skip_other_tracks
from msgm_text.tasks.prompt_sets import book_of
from msgm_text.tasks.prompt_task import conditions


class PromptNoiseSensitivity(NoiseSensitivity):
    """Images of the prompts for D_f by many samplers, to see whether one undoes the forgetting.

    The settings are those of ``noise_sensitivity``, and the prompts take turns; what prompts
    state of seeds and guidance has no part in it.
    """

    name = "prompt_noise_sensitivity"
    has_prompts = True
    presets = {
        "quick": {"tasks": {"prompt_noise_sensitivity": {"sampler": "ddim", "nfe": 25}}},
        "full": {"tasks": {"prompt_noise_sensitivity": {"sampler": "ddim", "nfe": 50}}},
        "paper": {
            "tasks": {"prompt_noise_sensitivity": {"sampler": "ddim", "nfe": 100, "guidance": 6.5}}
        },
    }

    def skip(self, model: Model) -> str | None:
        """Skip models of other tracks."""
        return skip_other_tracks(self.name, model, "text")

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse prompts that ask for no target.

        Raises:
            UsageError: The prompts are such, or there are none.
        """
        book_of(data).groups(targets)

    def conditioned(
        self, context: ModelContext, guidance: float | None, first: int, count: int
    ) -> tuple[Model, dict[str, Tensor]]:
        """The model for the prompts of these images; ``y``: the concepts that they name."""
        book = book_of(context.data)
        rows = torch.tensor(book.groups(context.targets)["target"])
        prompts = [book[i] for i in rows[torch.arange(first, first + count) % len(rows)].tolist()]
        embedded = conditions(context.model, [prompt.text for prompt in prompts], context.device)
        y = torch.tensor([prompt.concept for prompt in prompts], device=context.device)
        return Conditioned(context.model, embedded, guidance or 0.0), {"y": y}


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Noise sensitivity of text-to-image models."""
    return [PromptNoiseSensitivity]
