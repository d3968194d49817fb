"""Errors of the paper, each with a computation that shows it on the spot."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from msgm_bench import UnknownNameError
from msgm_paper.findings.finding import Finding

MODULES = (  # a module each with `find`, in the order of the list
    "sign",
    "frontier",
    "fid",
    "psnr",
    "reconstruction",
    "sums",
    "ties",
    "contradictions",
)
ALL = "all"


def find(name: str = ALL) -> list[Finding]:
    """Compute the finding ``name``, or all of them.

    Raises:
        UnknownNameError: There is none of this name.
    """
    if name not in (ALL, *MODULES):
        raise UnknownNameError("finding", name, MODULES)
    chosen: Sequence[str] = MODULES if name == ALL else (name,)
    return [importlib.import_module(f"{__name__}.{module}").find() for module in chosen]
