"""Once: results of msgm-bench/result@1 under leaderboards/ to @2.

    python leaderboards/migrate.py

A file is validated by the rules of @1, gets a digest, ``pass_items`` (the batch of the board's
standard row, null where there is none) and ``provenance.migrated_from``; what its code was is not
known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgm_bench.api.result import Result
from msgm_bench.boards.plausibility import violation
from msgm_bench.boards.protocols import check_hashes
from msgm_bench.storage import read_json, write_text

OLD = "msgm-bench/result@1"


def migrate(folder: Path) -> None:
    """Rewrite all results of a board."""
    documents = {path: read_json(path, folder) for path in sorted(folder.glob("results/*.json"))}
    batches = {
        document["spec"]["settings"]["training"]["batch_size"]
        for document in documents.values()
        if document["spec"]["method"] == "standard"
    }
    for path, document in documents.items():
        write_text(path, _migrated(path, document, min(batches, default=None)).to_json())


def _migrated(path: Path, document: dict[str, Any], pass_items: int | None) -> Result:
    if document.pop("schema") != OLD:
        raise SystemExit(f"{path} is not of {OLD}")
    document["spec"]["settings"]["pass_items"] = pass_items
    document["provenance"]["migrated_from"] = OLD
    result = Result.model_validate(document)
    check_hashes(result, str(path))
    reason = violation(result)
    if reason is not None:
        raise SystemExit(f"{path}: {reason}")
    if [row.model_dump(exclude_unset=True) for row in result.metrics] != document["metrics"]:
        raise SystemExit(f"{path}: rows changed")
    return result


if __name__ == "__main__":
    for board in sorted(Path(__file__).parent.glob("*/board.yaml")):
        migrate(board.parent)
