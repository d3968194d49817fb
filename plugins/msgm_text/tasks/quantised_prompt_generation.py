"""Images of prompts, drawn by copies of a model whose weights are rounded to a few bits."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from msgm_bench import Task, hookimpl
from msgm_builtin.tasks.quantised_generation import (
    NFE,
    SAMPLER,
    BitsOptions,
    QuantisedGeneration,
    QuantisedTask,
)
from msgm_text.tasks.prompt_generation import PromptGeneration
from msgm_text.tasks.prompt_task import PromptTaskOptions


class QuantisedPromptGenerationOptions(BitsOptions, PromptTaskOptions):
    """Bits, sampler, guidance and numbers of images."""

    batch_size: int = Field(100, ge=1, description="images drawn at once and stored together")
    images_per_group: int | None = Field(
        100,
        ge=1,
        description="most images of a group of prompts, spread evenly over it; empty: no limit",
    )
    sampler: str = Field(SAMPLER, description="name of a sampler")
    nfe: int = Field(
        NFE, ge=1, description="most evaluations of eps_hat an image; two passes with guidance"
    )


class QuantisedPromptGeneration(QuantisedTask[QuantisedPromptGenerationOptions]):
    """Images of prompts of the model and of copies with weights of 8 and of 4 bits.

    As ``quantised_generation``, text encoder included where it is a part of the network; the noise
    is that of ``prompt_generation``.
    """

    name = "quantised_prompt_generation"
    citation = QuantisedGeneration.citation
    drawing = PromptGeneration
    track = "text"


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Quantised copies of text-to-image models."""
    return [QuantisedPromptGeneration]
