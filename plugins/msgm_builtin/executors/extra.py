"""The libraries of executors that are extras."""

from __future__ import annotations

import importlib
from typing import Any

from msgm_bench import UsageError


def require(library: str, executor: str) -> Any:
    """The module ``library``, which the executor's extra of the same name brings.

    Raises:
        UsageError: It is not installed.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the executor {executor!r} needs {library}, which is not installed here",
            hint=f"pip install 'msgm-bench[{executor}]'",
        ) from error
