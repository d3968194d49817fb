"""The noise prediction eps_hat: the interface of networks to samplers and likelihoods."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

EpsFn = Callable[[Tensor, Tensor], Tensor]
"""eps_hat(x_t [N, *item_shape], t [N]) -> [N, *item_shape], each row from its own row only."""


ConditionalEpsFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""eps_hat(x_t [N, *item_shape], t [N], condition [N]) -> [N, *item_shape], row by row."""


class CountedEps:
    """eps_hat with the number of its calls, `nfe`; t may be one time for the whole batch.

    Attributes:
        condition: Condition of each item of the next batch [N], or None.
    """

    def __init__(self, eps: EpsFn | ConditionalEpsFn, condition: Tensor | None = None) -> None:
        """Wrap eps with a counter at zero."""
        self._eps: Callable[..., Tensor] = eps
        self.condition = condition
        self.nfe = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return eps_hat(x, t) for x [N, *item_shape] and t [N] or a scalar of any dtype."""
        self.nfe += 1
        conditions = () if self.condition is None else (self.condition,)
        return self._eps(x, t.to(x).expand(x.shape[0]), *conditions)
