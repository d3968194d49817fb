"""Prompts in CSV, as the field publishes them: I2P, ESD, UCE, UnlearnDiffAtk.

Columns are known by their names, in any order: ``prompt``; ``concept`` (also ``class``,
``artist``; ``categories`` holds several, with commas); ``group`` (``target`` where there is none);
``evaluation_seed`` or ``sd_seed``; ``evaluation_guidance`` or ``sd_guidance_scale``, Stable
Diffusion's scale s = 1 + w. Other columns are ignored. Without a column of concepts all prompts ask
for the one that the file is named after. A seed names noise of this bench (``Noise``): the same
number draws other noise in other programs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from msgm_bench import StorageError
from msgm_bench.storage import single_line
from msgm_builtin.datasets.table_text import read_rows
from msgm_text.datasets.prompt_table import (
    MAX_NAME,
    MAX_ROWS,
    MAX_SCALE,
    MAX_SEED,
    Concept,
    PromptTable,
    Row,
    check_group,
    check_size,
    check_text,
    guidance_weight,
)

PROMPT, CATEGORIES = "prompt", "categories"
COLUMNS = {
    "concept": ("concept", "class", "artist", CATEGORIES),
    "group": ("group",),
    "seed": ("evaluation_seed", "sd_seed"),
    "guidance": ("evaluation_guidance", "sd_guidance_scale"),
}
BOOKKEEPING = {"", "unnamed: 0", "case_number"}
NAMED = 5  # ignored columns in a remark


def read_prompt_csv(path: Path) -> PromptTable:
    """The prompts of a CSV file; a prompt with several categories probes each of them.

    Raises:
        StorageError: The file cannot be read, is no table, has no column ``prompt`` or one twice,
            or a cell is empty or none of what its column holds; names the row.
    """
    header, rows = read_rows(path, MAX_ROWS)
    source = single_line(path)
    columns, ignored = _columns(source, header)
    several = "concept" in columns and header[columns["concept"]].casefold() == CATEGORIES
    concepts: dict[str, Concept] = {}
    prompts: list[Row] = []
    for number, cells in enumerate(rows, 1):
        values = {column: cells[i] for column, i in columns.items()}
        values.setdefault("concept", path.stem.replace("_", " "))
        parsed = _parse(f"{source}, row {number}", values, several)
        concepts |= dict.fromkeys((name for row in parsed for name in row.names), Concept())
        prompts += parsed
    check_size(source, len(prompts), MAX_ROWS, "prompts")
    remarks: tuple[str, ...] = ()
    if ignored:
        more = f" and {len(ignored) - NAMED} more" if len(ignored) > NAMED else ""
        names = ", ".join(single_line(name[:80]) for name in ignored[:NAMED])
        remarks = (f"{source}: columns that are ignored: {names}{more}",)
    return PromptTable(source, concepts, tuple(prompts), (), remarks)


def _columns(source: str, header: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Index of each known column, and the names of the others."""
    names = [name.casefold() for name in header]
    known = {PROMPT: (PROMPT,), **COLUMNS}
    for name in (name for synonyms in known.values() for name in synonyms):
        if names.count(name) > 1:
            raise StorageError(f"{source}: two columns are called {name!r}", "one of them")
    columns = {
        column: next(names.index(name) for name in synonyms if name in names)
        for column, synonyms in known.items()
        if set(synonyms) & set(names)
    }
    if PROMPT not in columns:
        raise StorageError(
            f"{source} has no column {PROMPT!r}", ", ".join(sorted({*names} - {""})[:20])
        )
    used = {*columns.values()}
    return columns, [
        header[i] for i, name in enumerate(names) if i not in used and name not in BOOKKEEPING
    ]


def _parse(where: str, values: dict[str, str], several: bool) -> list[Row]:
    """The prompts of a row; ``several``: its cell of concepts is a list."""
    text = check_text(f"{where}: {PROMPT}", values[PROMPT])
    group = check_group(where, values.get("group") or "target")
    seed = _number(f"{where}: seed", values.get("seed", ""), MAX_SEED)
    if seed is not None and seed != int(seed):
        raise StorageError(f"{where}: seed {seed}", "an integer")
    scale = _number(f"{where}: guidance", values.get("guidance", ""), MAX_SCALE)
    cells = values["concept"].split(",") if several else [values["concept"]]
    checked = (check_text(f"{where}: its concept", cell, MAX_NAME) for cell in cells)
    names = tuple(dict.fromkeys(checked))
    probed = ("",) if group == "train" else names
    w = None if scale is None else guidance_weight(float(scale))
    number = None if seed is None else int(seed)
    return [Row(text, names, group, name, number, w) for name in probed]


def _number(where: str, cell: str, limit: float) -> int | float | None:
    """A number in 0 .. limit; None for an empty cell. Integers keep all their digits."""
    if not cell:
        return None
    if cell.isascii() and cell.isdigit() and len(cell) <= len(str(MAX_SEED)):
        value: int | float = int(cell)
    else:
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
    if not 0 <= value <= limit:
        raise StorageError(f"{where} {single_line(cell[:80])!r}", f"a number from 0 to {limit:g}")
    return value
