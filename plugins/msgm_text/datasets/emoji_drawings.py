"""Drawings of emoji in a font of colour bitmaps."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, features
from torch import Tensor

from msgm_bench import StorageError
from msgm_bench.storage import MIB, read_bytes, single_line

SIZE = 109  # px, the one size of Noto Color Emoji's bitmaps
MAX_SIDE = 1024
FONT_LIMIT = 64 * MIB
BITMAPS = b"CBDT"
ALLOWED = f"a font of colour bitmaps of {SIZE} px"
PACKAGE = "apt-get install fonts-noto-color-emoji"


def tables(content: bytes) -> set[bytes]:
    """Tags of the tables of an OpenType font."""
    count = int.from_bytes(content[4:6])
    return {content[12 + 16 * i : 16 + 16 * i] for i in range(count)}


class EmojiFont:
    """A font of colour bitmaps of 109 px.

    Args:
        path: The font's file.

    Raises:
        StorageError: The file is no such font, or Pillow cannot compose characters.
    """

    def __init__(self, path: Path) -> None:
        if not features.check_feature("raqm"):
            raise StorageError(
                "Pillow has no Raqm here, by which sequences of characters become one drawing",
                hint="apt-get install libfribidi0",
            )
        self.name = single_line(path)
        content = read_bytes(path.resolve(), limit=FONT_LIMIT)
        if BITMAPS not in tables(content):
            raise StorageError(f"{self.name} has no colour bitmaps (CBDT)", ALLOWED, PACKAGE)
        file, layout = io.BytesIO(content), ImageFont.Layout.RAQM
        try:
            self.font = ImageFont.truetype(file, SIZE, layout_engine=layout)
        except OSError as error:
            raise StorageError(f"{self.name}: {error}", ALLOWED, PACKAGE) from error

    def draw(self, characters: str, resolution: int) -> Tensor | None:
        """The drawing of an emoji on white, ``uint8 [3, R, R]``; None if the font has none.

        The drawing is centred in the smallest square that holds it, and resized by Lanczos'
        filter. Characters that are wider than the first of them are several drawings.

        Raises:
            StorageError: The font is damaged.
        """
        try:
            if self.font.getlength(characters) > self.font.getlength(characters[0]):
                return None
            image = self._draw(characters)
        except (OSError, ValueError) as error:
            raise StorageError(f"{self.name}: {error}", ALLOWED, PACKAGE) from error
        if image is None:
            return None
        resized = image.resize((resolution, resolution), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)

    def _draw(self, characters: str) -> Image.Image | None:
        left, top, right, bottom = self.font.getbbox(characters)
        side = round(max(right - left, bottom - top))
        if not 0 < side <= MAX_SIDE:
            return None
        corner = ((side - right - left) // 2, (side - bottom - top) // 2)
        image = Image.new("RGB", (side, side), "white")
        ImageDraw.Draw(image).text(corner, characters, font=self.font, embedded_color=True)
        return image if len(image.getcolors(side * side) or ()) > 1 else None
