"""Parts of a text-to-image network that may be trained alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import nn

PARTS: Mapping[str, str] = {
    "unet": r"unet\.",
    "text": r"text_encoder\.",
    "self": r"unet\..*\battn1\.",
    "cross": r"unet\..*\battn2\.",
    "cross_kv": r"unet\..*\battn2\.to_[kv]\.",
    "not_cross": r"unet\.(?!.*\battn2\.)",
}
"""Patterns of Stable Diffusion's parameter names, of a network with ``unet`` and ``text_encoder``.

ESD's variants (Gandikota et al. 2023, arXiv:2303.07345): x is ``cross``, x-strict ``cross_kv``,
u ``not_cross``. UCE edits ``cross_kv`` (Gandikota et al. 2024, arXiv:2308.14761).
"""


def named_parts(network: nn.Module) -> Mapping[str, Iterable[str]]:
    """Names of the parameters of ``network`` in each of ``PARTS``; parts without any are absent."""
    names = [name for name, _ in network.named_parameters()]
    parts = {part: [n for n in names if re.match(pattern, n)] for part, pattern in PARTS.items()}
    return {part: members for part, members in parts.items() if members}
