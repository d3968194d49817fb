"""Libraries that take seconds to import, imported by the first test that uses them."""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """A module, imported at the first look at one of its public attributes.

    pytest looks at underscored ones of whatever it collects.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        """The module's attribute."""
        if attribute.startswith(("_", "pytest_")):
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)
