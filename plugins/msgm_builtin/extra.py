"""The libraries of plugins that are extras."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from msgm_bench import UsageError


def check_installed(library: str, kind: str, name: str) -> None:
    """Refuse to go on without ``library``, which the plugin's extra of the same name brings.

    Raises:
        UsageError: It is not installed.
    """
    if sys.modules.get(library) is None and importlib.util.find_spec(library) is None:
        raise UsageError(
            f"the {kind} {name!r} needs {library}, which is not installed here",
            hint=f"pip install 'msgm-bench[{name}]'",
        )


def require(library: str, kind: str, name: str) -> Any:
    """The module ``library``, which the plugin's extra of the same name brings.

    Raises:
        UsageError: It is not installed.
    """
    check_installed(library, kind, name)
    return importlib.import_module(library)
