"""Decoding of an image file: upright, opaque, eight bits a channel, or refused.

The decode ``upright-on-white@1``: the first and only picture of the file; turned as its EXIF
orientation says; transparency composited on white; palettes, YCbCr and 1-bit images converted to
RGB or grey. Colour profiles are not applied. Refused, because a conversion would be a guess: more
than 8 bits a channel, CMYK and Lab colours, animations.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from msgm_builtin.datasets.files import damaged

DECODE = "upright-on-white@1"
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")  # none runs a program
MAX_PIXELS = 64_000_000
LARGE = 4_000_000  # pixels; such images are decoded one at a time
GREY, COLOUR = {"1", "L", "LA", "La"}, {"RGB", "RGBA", "P", "PA", "YCbCr", "RGBX", "RGBa"}
MODES = {1: "L", 3: "RGB"}
ORIENTATION = 0x0112  # EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)
METADATA = (b"eXIf", b"Raw profile type", b"adobe.xmp")  # where PNG may state an orientation

_large_image = threading.Lock()


class Header(NamedTuple):
    """Colours and size of an image.

    Attributes:
        grey: Whether the image is grey.
        width: Pixels of the upright image.
        height: Pixels of the upright image.
    """

    grey: bool
    width: int
    height: int


def read_header(path: Path, content: bytes) -> Header:
    """Colours and size of an image file, mostly without decoding it.

    Raises:
        StorageError: The file is no image, or one that is refused.
    """
    with _open_image(path, content) as image:
        width, height = image.size
        if image.format == "TIFF" or (image.format == "PNG" and _has_metadata(content)):
            image.load()  # only then Pillow knows their orientation
            width, height = image.size
        elif image.format == "PNG":
            return Header(image.mode in GREY, width, height)
        if _exif_orientation(image) in SIDEWAYS:
            width, height = height, width
        return Header(image.mode in GREY, width, height)


def decode(path: Path, content: bytes, channels: int) -> Image.Image:
    """The pixels of an image, grey (``channels`` 1) or RGB (3).

    Raises:
        StorageError: The file is no image, is cut short, or is refused.
    """
    with _open_image(path, content) as image:
        image.load()
        turn = TURNS.get(_exif_orientation(image))
        upright = image if turn is None else image.transpose(turn)
        return _on_white(upright).convert(MODES[channels])


def _on_white(image: Image.Image) -> Image.Image:
    """The image on white: ``round((alpha x + (255 - alpha) 255) / 255)``."""
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(colours, mask=colours)
    return white


def _exif_orientation(image: Image.Image) -> int:
    value = image.getexif().get(ORIENTATION, 1)
    return value if isinstance(value, int) else 1


def _has_metadata(content: bytes) -> bool:
    return any(name in content for name in METADATA)


@contextlib.contextmanager
def _open_image(path: Path, content: bytes) -> Iterator[Image.Image]:
    """The image, not decoded yet.

    Raises:
        StorageError: The file is no image, is refused, or fails while it is open.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            problem, hint = _problem(image)
            if not problem:
                large = image.width * image.height > LARGE
                with _large_image if large else contextlib.nullcontext():
                    yield image
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise damaged(path, f"no image of a supported format ({kinds})") from error
    except Exception as error:  # decoders raise anything on damaged files
        raise damaged(path, f"{error}" or type(error).__name__) from error
    if problem:
        raise damaged(path, problem, hint)


def _problem(image: Image.Image) -> tuple[str, str]:
    """Reason to refuse an image and what to do, or two empty texts."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        limit = f"make it smaller: at most {MAX_PIXELS / 1e6:g} million pixels are read"
        return f"{width}x{height} pixels", limit
    if image.mode == "CMYK":
        return "colours for print (CMYK)", "save it as RGB or grey"
    if image.mode not in GREY | COLOUR or _is_deep(image):
        return f"pixels of kind {image.mode}", "save it with 8 bits a channel"
    if image.format != "MPO" and getattr(image, "is_animated", False):
        return "several pictures in one file", "save one picture a file"
    return "", ""


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow would reduce the pixels to eight bits."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        raw = str(arguments[0]) if arguments else ""
        if ";16" in raw and not raw.startswith("BGR"):  # of BMP with five bits a channel
            return True
        if tile[0] == "ppm" and len(arguments) > 1 and int(arguments[1]) > 255:
            return True
    return False
