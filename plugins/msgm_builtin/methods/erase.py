"""The EraseDiff of MSGM's tables: uniform noise as the target on D_f."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from msgm_bench import Batches, Method, Session, hookimpl
from msgm_builtin.methods.msgm_base import MSGM


class Erase(MSGM):
    """The EraseDiff of MSGM's tables: draws eps_hat on D_f towards uniform noise.

    L = alpha L_g + (1 - alpha) L_f,    L_f = E |eps_hat - u|^2 / D    on D_f,    u ~ U[0, 1)

    ``--task erase`` of the MSGM authors' code; the method of the EraseDiff paper is ``erasediff``.
    Cost: one pass on D_g a step, one more on D_f at every ``forget_interval``-th.
    What differs from ``erasediff``: docs/methods/erase.md.
    """

    name = "erase"
    citation = "MSGM, arXiv:2412.07229, section 4.1 (EraseDiff); yunfengdiao/Moderated-... d48987f"

    def draw(self, session: Session, step: int) -> Batches:
        """Batches and u ``[N, *shape]``."""
        noise = session.noise("target", step, count=session.batch_size)
        u = noise.uniform(session.model.shape)
        return replace(super().draw(session, step), noise={"u": u})

    def target(self, batches: Batches) -> Tensor:
        """u ``[N, *shape]``."""
        return batches.noise["u"]

    def forget_loss(self, eps_hat: Tensor, eps: Tensor) -> Tensor:
        """E |eps_hat - u|^2 / D."""
        return (eps_hat - eps).square().mean()


@hookimpl
def register_methods() -> Sequence[type[Method]]:
    """Erase."""
    return [Erase]
