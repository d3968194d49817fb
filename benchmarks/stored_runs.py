"""The model and the data of a stored run, for the scripts beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from msgm_bench import Data, Dataset, Model, Result
from msgm_bench.boards import read
from msgm_bench.experiment.model_io import load_model
from msgm_bench.registry import registry

CPU = torch.device("cpu")


def load(run: Path) -> tuple[Model, Data, Result]:
    """What a run folder holds."""
    result = read(run / "result.json")
    dataset = registry().create("datasets", result.spec.dataset, result.spec.dataset_params)
    return load_model(run / "model", CPU), cast(Dataset, dataset).load(), result
