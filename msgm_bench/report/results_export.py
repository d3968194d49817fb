"""Export of a result in the formats of other programs."""

from __future__ import annotations

import json
import time
from pathlib import Path

from msgm_bench.api import Result
from msgm_bench.errors import UsageError
from msgm_bench.experiment.stored_result import RESULT, read_result
from msgm_bench.report.every_eval_ever import record, record_path
from msgm_bench.report.model_index import card_data, front_matter
from msgm_bench.storage import path_part, storage_errors, write_text


def export_record(run: Path, folder: Path, developer: str, force: bool = False) -> Path:
    """Write the result of a run folder as a record of Every Eval Ever.

    Args:
        run: The run folder, whose name is the model's.
        folder: Where the datastore's folders are, or are made.
        developer: Who trained and scored the model.
        force: Whether to replace the record of the same result.

    Returns:
        The file: ``data/msgm-bench/DEVELOPER/MODEL/UUID.json`` in ``folder``.

    Raises:
        UsageError: ``developer`` is no name, or nothing was measured.
        StorageError: Something cannot be read or written.
    """
    result, model = _measured_result(run), path_part(run.resolve().name)
    path = folder / record_path(developer, model, result)
    document = record(developer, model, result, time.time())
    _write(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n", force)
    return path


def export_model_index(run: Path, path: Path, force: bool = False) -> None:
    """Write the result of a run folder as the metadata of a Hugging Face model card.

    Args:
        run: The run folder, whose name is the model's.
        path: The file, such as ``README.md``.
        force: Whether to replace it.

    Raises:
        UsageError: Nothing was measured, or the file is there.
        StorageError: Something cannot be read or written.
    """
    _write(path, front_matter(card_data(run.resolve().name, _measured_result(run))), force)


def _measured_result(run: Path) -> Result:
    """The result of a run folder.

    Raises:
        UsageError: It has no value.
    """
    result = read_result(run / RESULT)
    if all(row.value is None for row in result.metrics):
        reason = f": it {result.status}, {result.reason}" if result.reason else ""
        raise UsageError(f"{run} has no value to export{reason}", "a run with values")
    return result


def _write(path: Path, text: str, force: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "a file, such as README.md")
    if path.exists() and not force:
        raise UsageError(f"{path} is there", "a new file", "--force replaces it")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
