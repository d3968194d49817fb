"""Prompts without images: the base model draws what is to be forgotten, and what is to be kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, field_validator

from msgm_bench import Data, Dataset, Examples, ItemDrawing, UsageError, hookimpl
from msgm_bench.storage import single_line
from msgm_builtin.datasets.files import FolderOptions, search_folders
from msgm_text.datasets.concept_sets import read_packaged_set
from msgm_text.datasets.prompt_files import read_prompt_files
from msgm_text.datasets.prompt_table import PLACEHOLDER, PromptTable, guidance_weight

LEVELS = 256
SCALE = 7.5  # Stable Diffusion's default


class ConceptsOptions(FolderOptions):
    """Prompts, and how the base draws items for them."""

    file: str | tuple[str, ...] | None = Field(
        None, description="files of prompts, YAML or CSV, here or within the data folders"
    )
    set: Literal["unlearncanvas"] | None = Field(
        None, description="a set of concepts that comes with the package"
    )
    captions: tuple[str, ...] = Field(
        ("{concept}", "an image of {concept}"),
        min_length=1,
        description="captions of concepts that the file has none of (group train)",
    )
    resolution: int = Field(512, ge=8, le=4096, multiple_of=8, description="side of an image, px")
    items: int = Field(
        200, ge=1, le=1_000_000, description="items of D_g, and of D_f, that the base draws"
    )
    sampler: str = Field("ddim", min_length=1, description="sampler that draws them")
    nfe: int = Field(50, ge=1, description="most network evaluations of an item")
    guidance: float = Field(
        guidance_weight(SCALE),
        ge=-1,
        le=1000,
        description="w of (1 + w) eps_c - w eps_null: Stable Diffusion's scale is 1 + w",
    )
    batch_size: int = Field(8, ge=1, description="items that are drawn at once")

    @field_validator("captions")
    @classmethod
    def _names_the_concept(cls, captions: tuple[str, ...]) -> tuple[str, ...]:
        for text in captions:
            if PLACEHOLDER not in text:
                raise ValueError(f"{text!r} lacks the place {PLACEHOLDER} of the concept's name")
        return captions


class Concepts(Dataset[ConceptsOptions]):
    """Prompts in a file, or a published set of concepts; a given base draws the items (--base).

    ``-d file=van-gogh.yaml`` (concepts with prompts by group), ``-d file=tench.csv`` (a table with
    a column ``prompt``), ``-d file=[a.csv,b.yaml]`` (both together), or ``-d set=unlearncanvas``.
    D_f are items that the base draws for captions that ask for a concept to be forgotten, D_g those
    for the other captions; both are drawn once, whatever the method.
    """

    name = "concepts"
    citation = "UnlearnCanvas: Zhang et al. 2024, arXiv:2402.11846; other prompts are yours"
    presets = {"full": {"judge": {"name": "clip"}}}
    presets["quick"] = presets["paper"] = presets["full"]

    def places(self) -> Sequence[Path]:
        """Paths of the files, or the folders in which they are searched."""
        if self.options.file is None:
            return search_folders(self.options.data_dir)
        return [self._locate(name) for name in self._names()]

    def load(self) -> Data:
        """Read the prompts; there are no items.

        Raises:
            MsgmBenchError: No file or set is named, or a file is not there or damaged.
        """
        table = self._table()
        book, side = table.book(self.options.captions), self.options.resolution
        empty = Examples(
            torch.zeros(0, 3, side, side, dtype=torch.uint8),
            torch.zeros(0, len(book.concepts), dtype=torch.bool),
            torch.zeros(0, dtype=torch.int64),
        )
        return Data(
            empty,
            empty,
            book.concepts,
            LEVELS,
            protocol=f"{self.name}/{self.options.set or 'own'}@1/{book.digest[:16]}",
            remarks=table.remarks,
            prompts=book,
            drawing=self._drawing(),
        )

    def _drawing(self) -> ItemDrawing:
        c = self.options
        return ItemDrawing(c.items, c.sampler, {"nfe": c.nfe}, c.guidance, c.batch_size)

    def _names(self) -> tuple[str, ...]:
        names = self.options.file
        return (names,) if isinstance(names, str) else names or ()

    def _table(self) -> PromptTable:
        names, published = self._names(), self.options.set
        if bool(names) == (published is not None):
            raise UsageError(
                "no prompts: neither a file nor a set was named"
                if published is None
                else f"-d set={published} beside -d file=",
                "-d file=PROMPTS.yaml, -d file=PROMPTS.csv, or -d set=unlearncanvas",
            )
        if published is not None:
            return read_packaged_set(published)
        return read_prompt_files([self._locate(name) for name in names])

    def _locate(self, name: str) -> Path:
        """The file, in the current folder or in the data folders.

        Raises:
            UsageError: It is in none of them.
        """
        folders = [Path.cwd(), *search_folders(self.options.data_dir)]
        paths = [folder / Path(name).expanduser() for folder in folders]
        for path in paths:
            if path.is_file():
                return path
        raise UsageError(
            f"no file of prompts {single_line(name)}",
            "a file here or in the data folders",
            f"searched {', '.join(dict.fromkeys(single_line(path.parent) for path in paths))}",
        )


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """The concepts."""
    return [Concepts]
