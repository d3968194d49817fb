"""The difference of two shares of the same items."""

from __future__ import annotations

import math

from scipy import stats
from torch import Tensor

from msgm_bench import Interval, MsgmBenchError

Z = float(stats.norm.ppf(0.975))


def paired_share_difference(a: Tensor, b: Tensor) -> Interval:
    r"""Share of mask ``a [N]`` less that of ``b [N]``, over the same items, with its 95 % interval.

    With r items in a alone and s in b alone the value is (r - s)/N, and the ends are, within
    [-1, 1],

    .. math:: p - q \pm z \sqrt{\frac{p + q - (p - q)^2}{N + 2}}, \qquad
        p = \frac{r + 1}{N + 2}, \quad q = \frac{s + 1}{N + 2}.

    Raises:
        MsgmBenchError: The masks are empty, or not of the same items.

    Source: Bonett and Price 2012, Journal of Educational and Behavioral Statistics 37:479.
    """
    N = len(a)
    if a.shape != b.shape or not N:
        raise MsgmBenchError(f"shares of {N} and of {len(b)} items", "the same items, one at least")
    r, s = int((a & ~b).sum()), int((b & ~a).sum())
    p, q = (r + 1) / (N + 2), (s + 1) / (N + 2)
    spread = Z * math.sqrt((p + q - (p - q) ** 2) / (N + 2))
    value, low, high = (r - s) / N, max(-1.0, p - q - spread), min(1.0, p - q + spread)
    return Interval(value, min(low, value), max(high, value))
