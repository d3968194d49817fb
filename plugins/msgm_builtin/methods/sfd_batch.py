"""SFD's batches without data: labels, safe classes, weights, times and noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import Prompts, Session
from msgm_builtin.methods.anchors import anchored_prompts
from msgm_builtin.methods.labels import label_tensor
from msgm_builtin.methods.sfd_losses import GeneratorBatch
from msgm_builtin.methods.sfd_options import SFDOptions


def draw_batch(
    session: Session,
    c: SFDOptions,
    time_range: tuple[float, float],
    prompts: Prompts | None,
    *stream: int | str,
) -> GeneratorBatch:
    """A batch of the stream ``(step, network, ...)``; forgotten classes come first.

    Args:
        session: Labels, batch size and noise.
        c: The method's options.
        time_range: Ends of the distillation's times, as shares of the process's.
        prompts: Captions as phi reads them, those of D_f with an anchor; None for classes.
        *stream: Name of the draw; its first entry is the step.
    """
    N, (low, high) = session.batch_size, time_range
    noise = session.noise(*stream, count=N)
    n = min(max(1, round(c.forget_fraction * N)), N - 1)
    u, shape = noise.uniform((3,)), session.model.shape
    retain, forget, safe = (
        label_tensor(tuple(labels), u.device) for labels in class_roles(session, c.safe_class)
    )
    i_f = uniform_index(len(forget), u[:n, 0])
    s_f = retain[uniform_index(len(retain), u[:n, 1])] if c.safe_class == "random" else safe[i_f]
    label = torch.cat([forget[i_f], retain[uniform_index(len(retain), u[n:, 0])]])
    w = torch.full_like(u[:, 0], 1 / (N - n))
    is_second_stage = int(stream[0]) >= c.first_stage_fraction * session.total_steps
    w[:n].fill_(c.forget_weight / max(n, 1) if is_second_stage else 0.0)
    t = session.model.process.sample_times(low + (high - low) * u[:, 2])
    s = torch.cat([s_f, label[n:]]) if prompts is None else prompts.embed(label)
    return GeneratorBatch(label, s, w, t, noise.normal(shape), noise.normal(shape))


def safe_prompts(session: Session, c: SFDOptions) -> Prompts | None:
    """Captions as phi reads them: those of D_f with the overriding concept; None for classes."""
    phi = session.base
    if isinstance(phi.conditioning, Prompts) and c.safe_class == "next":
        return anchored_prompts(session, phi, c.override)
    return None


def class_roles(
    session: Session, safe_class: int | str
) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Labels of D_g, labels of D_f, and the safe class of each of these."""
    retain, forget = session.retain_labels, session.forget_labels
    if isinstance(safe_class, int):
        return retain, forget, [safe_class] * len(forget)
    K = len(retain) + len(forget)
    return retain, forget, [min(retain, key=lambda r: (r - f) % K) for f in forget]


def uniform_index(K: int, u: Tensor) -> Tensor:
    """One of 0 .. K-1 for each ``u [N]`` of U[0, 1), ``int64 [N]``."""
    return (u * K).long().clamp(max=K - 1)
