"""msgm-bench: the benchmark for unlearning in score-based and diffusion models.

Everything that a plugin author or a script needs is importable from here; names are loaded on
first use, so that ``import msgm_bench`` costs nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msgm_bench.api import *  # noqa: F403
    from msgm_bench.diffusion import *  # noqa: F403
    from msgm_bench.errors import *  # noqa: F403
    from msgm_bench.evaluation.statistics import *  # noqa: F403
    from msgm_bench.experiment.spec import RunSpec as RunSpec
    from msgm_bench.hookspecs import Published as Published
    from msgm_bench.hookspecs import hookimpl as hookimpl
    from msgm_bench.runner import run as run
    from msgm_bench.runner import run_grid as run_grid
    from msgm_bench.storage import atomic_write as atomic_write

__version__ = "0.1.0"

# GNU OpenMP reads it once, when torch is loaded. By default idle threads spin for milliseconds,
# and on a busy machine two of them take 5 to 31 times the wall time of one.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "10000"

_HOMES = {
    "msgm_bench.hookspecs": ("hookimpl", "Published"),
    "msgm_bench.errors": (
        "MsgmBenchError",
        "UsageError",
        "OptionError",
        "UnknownNameError",
        "IncompatibleError",
        "PluginError",
        "DivergenceError",
        "StorageError",
    ),
    "msgm_bench.api": None,
    "msgm_bench.diffusion": None,
    "msgm_bench.evaluation.statistics": (
        "Interval",
        "bootstrap",
        "mean_interval",
        "median_interval",
        "paired_difference",
        "rogan_gladen",
        "rogan_gladen_interval",
        "seeds_interval",
        "wilson",
    ),
    "msgm_bench.experiment.spec": ("RunSpec",),
    "msgm_bench.runner": ("run", "run_grid"),
    "msgm_bench.storage": ("atomic_write",),
}


def _public() -> dict[str, str]:
    """Every public name, and the module that defines it."""
    return {
        name: home
        for home, names in _HOMES.items()
        for name in names or importlib.import_module(home).__all__
    }


def __getattr__(name: str) -> Any:
    """Import ``name`` from the module that defines it; ``__all__`` are all public names."""
    if name == "__all__":
        return sorted(_public())
    if not name.startswith("_"):
        for home, names in _HOMES.items():
            if names is not None and name not in names:
                continue
            module = importlib.import_module(home)
            if name in (names or module.__all__):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is loaded, and every public name."""
    return sorted({*globals(), *_public()})
