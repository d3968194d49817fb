"""Prompt files of a user: YAML (``concept_sets``) and CSV (``prompt_csv``), by their endings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgm_bench import StorageError
from msgm_bench.storage import single_line
from msgm_text.datasets.concept_sets import read_concept_file
from msgm_text.datasets.prompt_csv import read_prompt_csv
from msgm_text.datasets.prompt_table import PromptTable, join

READERS = {
    ".yaml": read_concept_file,
    ".yml": read_concept_file,
    ".csv": read_prompt_csv,
}


def read_prompt_files(paths: Sequence[Path]) -> PromptTable:
    """Concepts and prompts of one file, or of several together.

    Raises:
        MsgmBenchError: A file is of another kind, damaged, or contradicts another one.
    """
    tables = []
    for path in paths:
        reader = READERS.get(path.suffix.casefold())
        if reader is None:
            raise StorageError(f"{single_line(path)} is no file of prompts", ", ".join(READERS))
        tables.append(reader(path))
    return tables[0] if len(tables) == 1 else join(tables)
