"""Images of prompts: the task of the text-to-image track."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    Conditioned,
    ModelContext,
    PromptBook,
    Task,
    derive_seed,
    hookimpl,
)
from msgm_text.tasks.prompt_noise import PromptNoise
from msgm_text.tasks.prompt_sets import book_of, even_choice
from msgm_text.tasks.prompt_task import PromptTask, PromptTaskOptions, conditions

PREVIEW_PROMPTS, PREVIEW_IMAGES = 3, 4  # of a group, and of a prompt, in a picture


class PromptGeneration(PromptTask[PromptTaskOptions]):
    """Images of the prompts that test a forgotten concept: its own, its neighbours', others.

    Item i's noise depends on (seed, i) alone, so that all methods of a board draw from the same;
    a prompt that states a seed has that noise in every run (``PromptNoise``), and one that states
    a guidance is drawn with it. Captions (the group ``train``) are not drawn.
    """

    name = "prompt_generation"
    citation = "Ho and Salimans 2022, arXiv:2207.12598, equation 6 (guidance)"
    presets = {
        "quick": {
            "tasks": {
                "prompt_generation": {"images_per_prompt": 300, "images_per_group": 300, "nfe": 25}
            }
        },
        "paper": {"tasks": {"prompt_generation": {"guidance": 6.5, "nfe": 100}}},
    }

    def guidance(self, book: PromptBook, prompts: Sequence[int]) -> Tensor:
        """w of each of ``prompts``, ``float32 [N]``: its own, or the option's."""
        own = [book[i].guidance for i in prompts]
        return torch.tensor([self.options.guidance if w is None else w for w in own])

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """``x``: images in model space; ``prompt``: index of each in the book; ``w``; ``nfe``."""
        book, items = book_of(context.data), self.items(context)[start : start + count]
        prompts, repetitions = items.T.tolist()
        seeds = [book[i].seed for i in prompts]
        noise = PromptNoise(
            derive_seed(context.seed, self.name), start, seeds, repetitions, context.device
        )
        w = self.guidance(book, prompts)
        guided = bool(self.guidance(book, self.items(context)[:, 0].tolist()).any())
        condition = conditions(context.model, [book[i].text for i in prompts], context.device)
        model = Conditioned(context.model, condition, w.to(context.device) if guided else 0.0)
        sampler = context.create("samplers", *self.uses()["samplers"])
        samples = sampler.sample(model, noise)
        nfe = torch.full((count,), samples.nfe * (2 if guided else 1))
        return {"x": samples.x, "prompt": items[:, 0], "w": w, "nfe": nfe}

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """A row of images for each of a few prompts of every group."""
        if len(context.model.shape) != 3:
            return {}
        book, rows = book_of(context.data), {}
        for group, prompts in book.groups(context.targets).items():
            drawn = [i for i in prompts if bool((artifact["prompt"] == i).any())]
            for i in even_choice(drawn, PREVIEW_PROMPTS):
                x = artifact["x"][artifact["prompt"] == i][:PREVIEW_IMAGES]
                x = context.model.codec.decode(x.to(context.device))
                rows[f"{group}: {book[i].text}"] = x.cpu()
        return rows


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Images of prompts."""
    return [PromptGeneration]
