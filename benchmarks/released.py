"""Released code of others, from a checkout that the user names; none of it is here."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor, nn

from msgm_bench import Model

LABELS = 999  # the largest time label of score_sde's VP models


class Score(nn.Module):
    """A model as score_sde calls its VP networks: ``(x_t, 999 t) -> eps_hat``."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """eps_hat."""
        eps: Tensor = self.model.network(x, labels.to(torch.float32) / LABELS)
        return eps


def score_sde(folder: Path) -> SimpleNamespace:
    """Modules of a checkout of github.com/yang-song/score_sde_pytorch.

    Raises:
        SystemExit: The folder is no such checkout.
    """
    names = {
        "losses": "losses",
        "likelihood": "likelihood",
        "sampling": "sampling",
        "sde_lib": "sde_lib",
        "ema": "models.ema",
    }
    return SimpleNamespace(**dict(zip(names, modules(folder, *names.values()), strict=True)))


def pytorch_fid(folder: Path | None) -> ModuleType:
    """``fid_score`` of a checkout of github.com/mseitzer/pytorch-fid, or of the installed package.

    Raises:
        SystemExit: The folder is no such checkout.
    """
    if folder is None:
        return importlib.import_module("pytorch_fid.fid_score")
    (module,) = modules(folder / "src", "pytorch_fid.fid_score")
    return module


def modules(folder: Path, *names: str) -> list[ModuleType]:
    """Modules of a checkout, imported from it before anything else.

    Raises:
        SystemExit: The folder lacks one.
    """
    for name in names:
        path = folder / Path(*name.split("."))
        if not path.with_suffix(".py").is_file():
            raise SystemExit(f"{folder}: no {path.with_suffix('.py').name}: name a checkout")
        for loaded in (name, name.partition(".")[0]):
            sys.modules.pop(loaded, None)
    sys.path.insert(0, str(folder.resolve()))
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise SystemExit(f"{folder}: {error}") from error
    finally:
        sys.path.pop(0)
