"""The common part of tasks that draw images of the prompts that test a concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench import Cost, Data, Model, ModelContext, Task
from msgm_builtin.tasks.skip_reasons import skip_other_tracks
from msgm_text.tasks.prompt_sets import GroupOptions, book_of, prompt_items
from msgm_text.tasks.sampling_options import SamplingOptions


class PromptTaskOptions(GroupOptions, SamplingOptions):
    """Sampler, guidance and numbers of images."""

    batch_size: int = Field(100, ge=1, description="images drawn at once and stored together")
    guidance: float = Field(
        2.0,
        ge=0,
        description="w of (1 + w) eps(x, t, c) - w eps(x, t, null), of prompts that state none; "
        "Stable Diffusion's guidance_scale is 1 + w",
    )


PromptTaskOptionsT = TypeVar(
    "PromptTaskOptionsT", bound=PromptTaskOptions, default=PromptTaskOptions, covariant=True
)


class PromptTask(Task[PromptTaskOptionsT]):
    """A task of the text track with an item for each image of the prompts that test a concept."""

    def skip(self, model: Model) -> str | None:
        """Skip models of other tracks."""
        return skip_other_tracks(self.name, model, "text")

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse prompts that ask for no target, or for nothing else.

        Raises:
            UsageError: The prompts are such, or there are none.
        """
        book_of(data).groups(targets)

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler."""
        return self.options.samplers

    def cost(self, model: Model) -> Cost:
        """The sampler's budget, twice with guidance."""
        return Cost(self.options.nfe * (2 if self.options.guidance else 1))

    def total(self, context: ModelContext) -> int:
        """Number of images of all groups."""
        return len(self.items(context))

    def items(self, context: ModelContext) -> Tensor:
        """The prompt and the repetition of each image, ``int64 [N, 2]``, group by group."""
        return prompt_items(book_of(context.data), context.targets, self.options)


def conditions(model: Model, texts: Sequence[str], device: torch.device) -> Tensor:
    """What ``model`` takes for prompts: indices ``int64 [N]``, or embeddings ``float [N, L, d]``.

    Embeddings where a prompt is not in the model's table: it was trained with other prompts.

    Raises:
        OptionError: A prompt is too long for the model's tokenizer.
    """
    prompts = model.prompts
    if set(texts) <= set(prompts.texts):
        return torch.tensor(prompts.indices(texts), device=device)
    return torch.cat([prompts.embed_texts([text]) for text in texts]).to(device)
