"""The prompts that a task draws, and how many images of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import Data, IncompatibleError, Options, PromptBook

T = TypeVar("T")


class GroupOptions(Options):
    """Numbers of images."""

    images_per_prompt: int = Field(
        10, ge=1, description="number of images of a prompt, from noise of their own"
    )
    images_per_group: int | None = Field(
        None,
        ge=1,
        description="most images of a group of prompts, spread evenly over it; empty: no limit",
    )

    def limit_samples(self, samples: int) -> dict[str, int]:
        """At most ``samples`` of each group."""
        return {"images_per_group": min(samples, self.images_per_group or samples)}


def book_of(data: Data) -> PromptBook:
    """The prompts of ``data``.

    Raises:
        IncompatibleError: The data have none.
    """
    if data.prompts is None:
        raise IncompatibleError(
            "images of prompts for data without prompts", "datasets with prompts, such as scenes"
        )
    return data.prompts


def prompt_items(book: PromptBook, targets: Sequence[int], options: GroupOptions) -> Tensor:
    """The prompt and the repetition of each image, ``int64 [N, 2]``, group by group.

    A group of R prompts has n = min(R images_per_prompt, images_per_group) images: the prompts in
    turn, again and again, or n of them evenly spaced where n < R.

    Raises:
        UsageError: No prompt names a target, or none asks for something to be kept.
    """
    items = []
    for prompts in book.groups(targets).values():
        n = len(prompts) * options.images_per_prompt
        n = min(n, options.images_per_group or n)
        chosen = even_choice(prompts, n)
        items += [[chosen[j % len(chosen)], j // len(chosen)] for j in range(n)]
    return torch.tensor(items)


def even_choice(values: Sequence[T], count: int) -> Sequence[T]:
    """``count`` of ``values``, evenly spaced and in their order; all of fewer."""
    if len(values) <= count:
        return values
    return [values[k * len(values) // count] for k in range(count)]
