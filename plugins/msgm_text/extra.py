"""The libraries of the extra ``[text]``, which the plugins import when they need them."""

from __future__ import annotations

import importlib.util

from msgm_bench import UsageError

LIBRARIES = ("transformers", "tokenizers", "peft")


def require_text() -> None:
    """Refuse to go on without the libraries of the extra ``[text]``.

    Raises:
        UsageError: One of them is not installed.
    """
    absent = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if absent:
        raise UsageError(
            f"text-to-image models need {', '.join(absent)}, not installed here",
            hint="pip install 'msgm-bench[text]'",
        )
