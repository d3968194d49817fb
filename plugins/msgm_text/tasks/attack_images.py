"""Images of a concept that attacks learn from: held-out items, or what the base model draws."""

from __future__ import annotations

import torch
from torch import Tensor

from msgm_bench import Examples, Model, ModelContext
from msgm_text.tasks.attack_draws import Draws, embed
from msgm_text.tasks.attack_prompts import AttackedPrompts


def concept_images(
    context: ModelContext, draws: Draws, prompts: AttackedPrompts, count: int
) -> tuple[Tensor, Tensor]:
    """At most ``count`` images in model space, and the position of the prompt that asks for each.

    Held-out items of D_f that show what a prompt asks for and nothing else, or, if there are none,
    that show it among other things. Where the data have no items, the base draws the prompts in
    turn, with their concept's name.
    """
    if len(context.forget):
        asks = torch.zeros(len(prompts), len(context.data.classes), dtype=torch.bool)
        for i, row in enumerate(prompts.rows):
            asks[i, list(row.concepts)] = True
        item, which = matches(context.forget.y.cpu(), asks)
        item, which = item[:count], which[:count]
        codec = context.model.codec
        return codec.encode(context.forget.x[item.to(context.device)]), which
    which = prompts.turns(count)
    texts = [prompts.rows[i].text for i in which.tolist()]
    return base_images(context, draws, texts), which


def matches(visible: Tensor, asks: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of items and of a prompt that asks for what each shows.

    Args:
        visible: Concepts of items ``bool [N, A]``.
        asks: Concepts of prompts ``bool [T, A]``.
    """
    exact = (visible[:, None] == asks).all(dim=2)
    fits = exact if exact.any() else (visible[:, None] | ~asks).all(dim=2)
    item = fits.any(dim=1).nonzero().flatten()
    return item, fits[item].long().argmax(dim=1)


def training_items(
    context: ModelContext, draws: Draws, count: int, seed: int
) -> tuple[Examples, bool]:
    """Captioned items of D_f that an adversary trains on, and whether they are in model space.

    ``count`` training items by chance, or, where the data have none, images that the base draws of
    the target prompts in turn.
    """
    data = context.data
    _, forget = data.split(data.train, context.targets)
    if len(forget):
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(forget), generator=generator)[:count]
        return forget[chosen].to(context.device), False
    assert data.prompts is not None
    rows = torch.tensor(data.prompts.groups(context.targets)["target"])
    c = rows[torch.arange(count) % len(rows)]
    x = base_images(context, draws, [data.prompts[i].text for i in c.tolist()])
    y = torch.zeros(count, len(data.classes), dtype=torch.bool)
    for i, row in enumerate(c.tolist()):
        y[i, list(data.prompts[row].concepts)] = True
    return Examples(x, y, c).to(context.device), True


def base_images(context: ModelContext, draws: Draws, texts: list[str]) -> Tensor:
    """What the base model draws of ``texts``, in model space and within the bounds of the data."""
    base = context.base
    assert isinstance(base, Model)
    x = draws.images(embed(base, texts), "base", model=base)
    return x if base.codec.bounds is None else x.clamp(*base.codec.bounds)
