"""Emoji: some thousand captioned colour drawings that a Linux distribution packs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import Data, Dataset, Examples, Source, StorageError, hookimpl
from msgm_builtin.datasets.files import FileDataset, FilesOptions
from msgm_text.datasets.budgets import FULL, QUICK
from msgm_text.datasets.emoji_drawings import PACKAGE, SIZE, EmojiFont
from msgm_text.datasets.emoji_names import read_names
from msgm_text.datasets.emoji_prompts import attributes, check_concepts, prompt_book

FONT, NAMES = "NotoColorEmoji.ttf", "emoji-test.txt"
TEST_EVERY = 8
SHARE = Path("/usr/share")
TOKENS = 16  # captions have up to 13 words
PRESET = {"backbone": {"tokens": TOKENS}, "judge": {"name": "attributes"}}


class EmojiOptions(FilesOptions):
    """Files, resolution, concepts, and whether variants in skin tones are read."""

    font: str | None = Field(None, min_length=1, description=f"path of {FONT}")
    names: str | None = Field(None, min_length=1, description=f"path of Unicode's {NAMES}")
    resolution: int = Field(32, ge=8, le=SIZE, description="side of the images, px")
    skin_tones: bool = Field(True, description="read the variants in skin tones")
    concepts: tuple[str, ...] = Field(
        (
            *("face", "heart", "cat", "hand", "woman", "man", "person", "family"),
            *("cloud", "moon", "star", "flag", "arrow", "button", "square", "circle"),
        ),
        min_length=2,
        description="words of emoji's names, of eight names each at least",
    )


class EmojiDrawings(FileDataset[EmojiOptions]):
    """Noto Color Emoji with Unicode's names: 3,655 drawings and what they show, in words.

    Each emoji of Unicode 15's list is drawn from the font's bitmap of 109 px on white, resized to
    32x32, and captioned by its name (``smiling cat with heart eyes``). Concepts are words of the
    names; an item carries those of its caption. Of each concept, and of the rest, every eighth
    emoji is held out. The font is under the SIL Open Font License 1.1, which does not extend to
    what is drawn with it; the names are under Unicode's terms of use.
    """

    name = "emoji"
    citation = "Google, Noto Emoji 2.042; Unicode 15.0, UTS 51"
    published = (Source(FONT, size=10_000_000), Source(NAMES, size=620_000))
    aliases = {
        FONT: (
            FONT,
            f"fonts/truetype/noto/{FONT}",
            f"fonts/noto/{FONT}",
            f"fonts/{FONT}",
        ),
        NAMES: (NAMES, f"unicode/emoji/{NAMES}"),
    }
    folders = ("emoji", ".")
    advice = f"{PACKAGE} unicode-data, or -d font=PATH -d names=PATH"
    presets = {"quick": PRESET | QUICK, "full": PRESET | FULL, "paper": PRESET | FULL}

    def places(self) -> Sequence[Path]:
        """The usual data folders, and the system's folder of fonts and of Unicode's data."""
        return [*super().places(), SHARE]

    def located(self) -> Mapping[str, Path]:
        """The files that the options name, else those of the first folder with both."""
        options = {FONT: self.options.font, NAMES: self.options.names}
        named = {file: Path(path).expanduser() for file, path in options.items() if path}
        return {**super().located(), **named}

    def read(self, files: Mapping[str, Path]) -> Data:
        """Draw the emoji.

        Raises:
            StorageError: A file is damaged, or the font has none of the drawings.
            OptionError: A concept is no word of eight names or more.
        """
        font, listed = EmojiFont(files[FONT]), read_names(files[NAMES])
        if not self.options.skin_tones:
            listed = [item for item in listed if not item.has_skin_tone]
        images = [font.draw(item.characters, self.options.resolution) for item in listed]
        drawn = [(i, e) for i, e in zip(images, listed, strict=True) if i is not None]
        if not drawn:
            raise StorageError(f"{font.name} has no colour bitmaps", "the package's font", PACKAGE)
        emoji = [item for _, item in drawn]
        concepts = tuple(dict.fromkeys(self.options.concepts))
        check_concepts(concepts, emoji)
        book, c = prompt_book(concepts, emoji)
        items = Examples(torch.stack([image for image, _ in drawn]), attributes(concepts, emoji), c)
        test = held_out(items.y)
        absent = len(listed) - len(emoji)
        return Data(
            train=items[~test],
            test=items[test],
            classes=concepts,
            levels=256,
            protocol=f"emoji/every-eighth{self._deviations()}@1",
            remarks=(f"the font lacks {absent} of {len(listed)} emoji",) if absent else (),
            prompts=book,
        )

    def _deviations(self) -> str:
        """The options of content that are not the defaults, for the protocol's name."""
        content = {"resolution", "skin_tones", "concepts"}
        changed = self.options.model_dump(exclude_defaults=True, include=content)
        texts = {k: ",".join(v) if k == "concepts" else v for k, v in changed.items()}
        return "".join(f"+{name}={text}" for name, text in texts.items())


def held_out(y: Tensor) -> Tensor:
    """Mask of every eighth item: of those without a concept, and of each concept's, in order.

    An item counts for the rarest of its concepts.
    """
    rarity = torch.where(y, y.sum(dim=0), len(y) + 1)
    stratum = torch.where(y.any(dim=1), rarity.argmin(dim=1), y.shape[1])
    mask = torch.zeros(len(y), dtype=torch.bool)
    for label in stratum.unique():
        mask[torch.nonzero(stratum == label).flatten()[TEST_EVERY - 1 :: TEST_EVERY]] = True
    return mask


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """Emoji."""
    return [EmojiDrawings]
