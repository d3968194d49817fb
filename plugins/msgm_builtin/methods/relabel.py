"""Conditions in the place of forgotten ones: classes and captions of D_g, or anchors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import Batch, Data, PromptBook, Prompts, Session
from msgm_builtin.methods.anchors import anchored_prompts, texts_with_anchors
from msgm_builtin.methods.labels import label_tensor


def anchors_of(session: Session, anchor: str, required: bool) -> Prompts | None:
    """The model's prompts with anchors in those of D_f; None where the data name none.

    Raises:
        OptionError: None are named, and they are ``required``.
    """
    if required or has_anchors(session.prompt_book, session.forget_concepts, anchor):
        return anchored_prompts(session, session.model, anchor)
    return None


def has_anchors(book: PromptBook, targets: Sequence[int], anchor: str) -> bool:
    """Whether ``anchor``, or the prompts for each of the targets, name one."""
    return bool(anchor) or all(book.concepts[c] in book.anchors for c in targets)


def relabelling_texts(data: Data, targets: Sequence[int], anchor: str, required: bool) -> list[str]:
    """The texts of the prompts of ``anchors_of`` in the place of those of D_f."""
    if data.prompts is None or not (required or has_anchors(data.prompts, targets, anchor)):
        return []
    return texts_with_anchors(data, targets, anchor)


def random_retain_class(session: Session, step: int, loop: str) -> Tensor:
    """One class or caption of D_g for a whole batch, uniform, ``int64 [1]``."""
    u = session.noise("class", loop, step, count=1).uniform(())
    retain = label_tensor(session.retain_labels, u.device)
    return retain[(u * len(retain)).long()]


def random_retain_classes(session: Session, step: int, y: Tensor) -> Tensor:
    """A class or caption of D_g for each item, uniform, ``int64 [N]``."""
    retain = label_tensor(session.retain_labels, y.device)
    u = session.noise("class", step, count=len(y)).uniform(())
    return retain[(u * len(retain)).long()]


def next_retain_classes(session: Session, y: Tensor) -> Tensor:
    """The first class of D_g after each of ``y``, past the last one the first, ``int64 [N]``."""
    retain = label_tensor(session.retain_labels, y.device)
    K = session.model.null(len(y), y.device)
    return retain[((retain - y[:, None] - 1) % K[:, None]).argmin(dim=1)]


@torch.no_grad()
def relabelled_eps(
    session: Session, batch: Batch, anchored: Prompts | None, step: int, loop: str
) -> Tensor:
    """eps_hat at the batch's x_t for its ``anchored`` prompts, or for one condition of D_g."""
    if anchored is None:
        c_r = random_retain_class(session, step, loop).expand(len(batch.y))
    else:
        c_r = anchored.embed(batch.y)
    return session.model.eps(batch.x_t, batch.t, c_r)
