"""The stored sheets of a board's methods: samples, and samples along the training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from msgm_bench.boards.pages import BoardPage
from msgm_bench.boards.sample_sheets import sheet_path, step_paths
from msgm_bench.errors import StorageError
from msgm_bench.report.sample_sheets import Sheet, read_sheet
from msgm_bench.site.texts import file_part

WIDE = 300  # pixels that a sheet is enlarged to, by a whole number


@dataclass(frozen=True)
class PlacedSheet:
    """A sheet as a file of the site.

    Attributes:
        address: Where it lies, below the site's folder.
        sheet: The sheet.
        step: Step of the training; None of the samples that were scored.
    """

    address: str
    sheet: Sheet
    step: int | None = None

    @property
    def scale(self) -> int:
        """How much it is enlarged."""
        return max(1, round(WIDE / self.sheet.width))


@dataclass(frozen=True)
class MethodSamples:
    """What is stored of a method.

    Attributes:
        method: Its name.
        samples: Its samples, or None.
        steps: Samples along its training, by step.
    """

    method: str
    samples: PlacedSheet | None
    steps: tuple[PlacedSheet, ...] = ()


@dataclass
class BoardSamples:
    """What is stored of a board's methods, in the order of the page.

    Attributes:
        methods: Those that have any.
        problems: Sentences on sheets that cannot be read.
    """

    methods: list[MethodSamples] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def sheets(self) -> Iterator[PlacedSheet]:
        """All sheets."""
        for entry in self.methods:
            yield from filter(None, (entry.samples, *entry.steps))

    @property
    def compared(self) -> list[MethodSamples]:
        """The methods that have samples."""
        return [entry for entry in self.methods if entry.samples is not None]

    @property
    def recorded(self) -> list[MethodSamples]:
        """The methods whose training was recorded."""
        return [entry for entry in self.methods if len(entry.steps) > 1]

    @property
    def captions(self) -> tuple[str, ...]:
        """What the parts of the sheets show, where all have the same captions."""
        captions = {entry.samples.sheet.captions for entry in self.compared if entry.samples}
        return captions.pop() if len(captions) == 1 else ()


def board_samples(page: BoardPage, name: str) -> BoardSamples:
    """The sheets of a board, read as the strangers' files that they are.

    Args:
        page: The board.
        name: Its part of addresses.
    """
    stored = BoardSamples()
    for row in page.ranked:
        place = f"images/{name}/{file_part(row.method)}"
        samples = _read(page.folder, sheet_path(page.folder, row.method), f"{place}.png", stored)
        steps = []
        for step, path in step_paths(page.folder, row.method):
            sheet = _read(page.folder, path, f"{place}-{step}.png", stored, step)
            steps += [] if sheet is None else [sheet]
        if samples is not None or steps:
            stored.methods.append(MethodSamples(row.method, samples, tuple(steps)))
    return stored


def _read(
    folder: Path, path: Path, address: str, stored: BoardSamples, step: int | None = None
) -> PlacedSheet | None:
    """A sheet, or None where there is none, or none that can be read."""
    if not path.exists():
        return None
    try:
        return PlacedSheet(address, read_sheet(path, folder), step)
    except StorageError as error:
        stored.problems.append(error.what)
        return None
