"""The user's folders, in which files of datasets and of weights are searched."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

VARIABLE = "MSGM_BENCH_DATA"


def named_folders(data_dir: str | None = None) -> list[Path]:
    """Folders that the user names: ``data_dir``, then the environment variable's."""
    names = (data_dir, os.environ.get(VARIABLE))
    return [Path(name).expanduser().absolute() for name in names if name]


def user_folder() -> Path:
    """The user's data folder of this program, as the operating system has it."""
    return platformdirs.user_data_path("msgm-bench", appauthor=False)
