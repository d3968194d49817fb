"""``result.json`` of a run folder: its name and its reader."""

from __future__ import annotations

import shlex
from pathlib import Path

from pydantic import ValidationError

from msgm_bench.api import Result
from msgm_bench.errors import StorageError
from msgm_bench.storage import read_text, single_line
from msgm_bench.storage.validation_text import validation_text

RESULT = "result.json"


def rerun_hint(run: Path) -> str:
    """The command that repeats the run in a run folder, as a hint of an error."""
    spec = run / "spec.yaml"
    if not spec.is_file():
        return "repeat the command that trained the model"
    return f"repeat the run: msgm-bench run {single_line(shlex.quote(str(spec)))}"


def read_result(path: Path) -> Result:
    """The result of a run folder.

    Raises:
        StorageError: It is missing or damaged.
    """
    try:
        return Result.model_validate_json(read_text(path))
    except ValidationError as error:
        raise StorageError(
            f"{single_line(path)} cannot be read as a result: {validation_text(error)}",
            hint=f"{rerun_hint(path.parent)}; finished stages are cached",
        ) from error


def find_result(folder: Path) -> Result | None:
    """The result of a run folder; None where there is none or it is damaged."""
    try:
        return read_result(folder / RESULT)
    except StorageError:
        return None
