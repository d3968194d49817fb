"""A user's own captioned images: a folder with metadata, or UnlearnCanvas's folders."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import Data, Dataset, Examples, UsageError, hookimpl
from msgm_bench.storage import single_line
from msgm_builtin.datasets.decode import DECODE
from msgm_builtin.datasets.files import FolderOptions, search_folders
from msgm_builtin.datasets.image_folder import describe_copies
from msgm_builtin.datasets.images import ImageFile, Recipe, decode_all, hash_all, read_headers
from msgm_builtin.datasets.walk import Listing, describe, walk
from msgm_text.datasets.budgets import FULL, QUICK
from msgm_text.datasets.captions_book import (
    caption_book,
    named_concepts,
    style_concepts,
    with_concepts,
)
from msgm_text.datasets.captions_metadata import Caption, read_captions, read_style_folders
from msgm_text.datasets.concept_sets import read_concept_file
from msgm_text.datasets.prompt_table import MAX_NAME, Concept, PromptTable, check_text

HOW = "--data-dir DIR, MSGM_BENCH_DATA=DIR, or -d folder=DIR"
STYLES = "A {object} image in {style} style."
YAML = (".yaml", ".yml")
JUDGE = {"judge": {"name": "clip"}}


class CaptionsOptions(FolderOptions):
    """Folder, concepts, split and common size of the images."""

    folder: str = Field(
        ".", min_length=1, description="folder of the images, within the data folders or here"
    )
    layout: Literal["metadata", "unlearncanvas"] = Field(
        "metadata", description="metadata.csv or .jsonl with captions, or STYLE/OBJECT/1.jpg"
    )
    concepts: str | tuple[str, ...] | None = Field(
        None,
        description="file of concepts (YAML), in the folder or here, or a list of words of the "
        "captions; none: those of the metadata's column `concepts`",
    )
    resolution: int | None = Field(
        None, ge=8, le=4096, description="side to which every image is cropped and resized, px"
    )
    test_stride: int = Field(5, ge=2, description="every so-many-th image is held out")
    flip: bool = Field(False, description="mirror training images with probability 1/2")


class Captions(Dataset[CaptionsOptions]):
    """Your own images with captions, as diffusers reads them, or UnlearnCanvas's styles.

    ``DIR/metadata.jsonl`` or ``.csv`` with the columns ``file_name``, ``text`` and, if you like,
    ``concepts``; with ``train/`` and ``test/`` a file in each. Without parts, every fifth image by
    name is held out. ``-d layout=unlearncanvas`` reads ``DIR/STYLE/OBJECT/1.jpg``.
    """

    name = "captions"
    citation = "yours; UnlearnCanvas: Zhang et al. 2024, arXiv:2402.11846"
    presets = {"quick": JUDGE | QUICK, "full": JUDGE | FULL, "paper": JUDGE | FULL}

    def places(self) -> Sequence[Path]:
        """Paths of the folder: in the data folders, then here."""
        named = Path(self.options.folder).expanduser()
        own = [place / named for place in search_folders(self.options.data_dir)]
        return [*own, Path.cwd() / named] if self.options.folder != "." else own

    def load(self) -> Data:
        """Read captions and concepts, then the images.

        Raises:
            MsgmBenchError: No folder, captions that do not fit the images, a concept in no
                caption, or images of several sizes.
        """
        root = self._root()
        content = walk(root)
        captions, table = self._captions(root, content)
        book, y, c = caption_book(captions, table)
        images = hash_all(self.name, {row.image: content.images[row.image] for row in captions})
        recipe = self._recipe(images)
        test = self._held_out(captions)

        def examples(mask: Tensor) -> Examples:
            chosen = list(compress(images, mask.tolist()))
            return Examples(decode_all(self.name, chosen, recipe), y[mask], c[mask])

        split = f"every-{self.options.test_stride}th" if captions[0].test is None else "own"
        words = "+".join([split, *(["flip"] * self.options.flip)])
        return Data(
            examples(~test),
            examples(test),
            book.concepts,
            256,
            protocol=f"{self.name}/{words}@1/{DECODE}",
            flip=self.options.flip,
            remarks=tuple(filter(None, (describe(content.skipped), describe_copies(images, test)))),
            prompts=book,
        )

    def _root(self) -> Path:
        places = self.places()
        for place in places:
            if place.is_dir():
                return place
        raise UsageError(f"no folder of images: {', '.join(map(single_line, places))}", HOW)

    def _captions(self, root: Path, content: Listing) -> tuple[list[Caption], PromptTable]:
        """Captions with their concepts, and the table of concepts and prompts."""
        source = single_line(root)
        if self.options.layout == "unlearncanvas":
            captions = read_style_folders(root, content, STYLES)
            table = PromptTable(source, style_concepts(captions), ())
        else:
            captions = read_captions(root, content)
            table = self._table(root, captions)
        return with_concepts(captions, table.concepts, source), table

    def _table(self, root: Path, captions: Sequence[Caption]) -> PromptTable:
        """Concepts of a file, of a list of words, or of the metadata.

        Raises:
            UsageError: There are none, or the file is not there.
        """
        chosen, source = self.options.concepts, single_line(root)
        if isinstance(chosen, str) and chosen.casefold().endswith(YAML):
            named = Path(chosen).expanduser()
            for path in (root / named, Path.cwd() / named):
                if path.is_file():
                    return read_concept_file(path)
            raise UsageError(f"no file of concepts {single_line(chosen)}", f"a file in {source}")
        if chosen is None:
            concepts = named_concepts(captions)
        else:
            words = chosen.split(",") if isinstance(chosen, str) else chosen
            checked = (check_text("option concepts", word, MAX_NAME) for word in words)
            concepts = dict.fromkeys(checked, Concept())
        if not concepts:
            raise UsageError(
                f"no concepts: the metadata in {source} have no column `concepts`",
                "-d concepts=[cat,dog], words of the captions, or -d concepts=FILE.yaml",
            )
        return PromptTable(source, concepts, ())

    def _recipe(self, images: Sequence[ImageFile]) -> Recipe:
        """Colour, at the option's size or at that of all images.

        Raises:
            UsageError: Images differ in size, and no option decides.
        """
        side = self.options.resolution
        headers = read_headers(self.name, images)
        sizes = Counter((header.width, header.height) for header in headers)
        if side is None and len(sizes) > 1:
            frequent = ", ".join(f"{w}x{h}" for (w, h), _ in sizes.most_common(3))
            raise UsageError(
                f"images of {len(sizes)} sizes: {frequent}",
                "-d resolution=64 crops each to its centred square and makes that 64x64 px",
            )
        width, height = next(iter(sizes))
        return Recipe(3, (height, width) if side is None else (side, side))

    def _held_out(self, captions: Sequence[Caption]) -> Tensor:
        """Mask of the held-out items: the files' own, or every so-many-th by name.

        Among UnlearnCanvas's images, every so-many-th of a caption.

        Raises:
            UsageError: No item is held out.
        """
        if captions[0].test is not None:
            return torch.tensor([bool(caption.test) for caption in captions])
        counts: dict[str, int] = defaultdict(int)
        mask = torch.zeros(len(captions), dtype=torch.bool)
        for i, caption in enumerate(captions):
            kind = caption.text if self.options.layout == "unlearncanvas" else ""
            counts[kind] += 1
            mask[i] = counts[kind] % self.options.test_stride == 0
        if not mask.any():
            raise UsageError(
                f"fewer than {self.options.test_stride} images, of which one is held out",
                "more images, -d test_stride=2, or folders train and test of your own",
            )
        return mask


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """The folder."""
    return [Captions]
