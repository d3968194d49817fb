"""Image files to pixels: transparency, orientation, depth, colours, and what is refused."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zlib

import fake_data
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from msgm_bench import StorageError
from msgm_builtin.datasets import decode as decoding
from msgm_builtin.datasets.decode import ORIENTATION, decode, read_header


def saved(image, kind="PNG", **options):
    """The bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def read(path, content, channels=3):
    """Header and pixels, which agree on the size."""
    header, image = read_header(path, content), decode(path, content, channels)
    assert (header.width, header.height) == image.size
    return header, np.asarray(image)


def chunk(kind, content):
    """A chunk of PNG."""
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width, height, depth, colour, rows=b"", extra=b""):
    """A PNG file of any header."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_alpha_lies_on_white(seed):
    """Each channel is alpha x + (1 - alpha) 255, within the rounding of 8 bits."""
    rgba = fake_data.pixels(5, 7, 4, seed=seed)
    content = saved(Image.fromarray(rgba, "RGBA"))
    x, alpha = rgba[..., :3].astype(float), rgba[..., 3:].astype(float) / 255
    pixels = np.asarray(decode(None, content, 3)).astype(float)
    assert np.abs(pixels - (alpha * x + (1 - alpha) * 255)).max() <= 0.51 + 1e-9


def test_hidden_colours_stay_hidden(tmp_path):
    """What is fully transparent is white: in RGBA, grey with alpha, palettes and colour keys."""
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[..., 0] = 200
    key = Image.fromarray(np.full((4, 4, 3), 9, np.uint8))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 7, 8, 9])
    files = [
        saved(Image.fromarray(clear, "RGBA")),
        saved(Image.fromarray(clear[..., ::3].copy(), "LA")),
        saved(key, transparency=(9, 9, 9)),
        saved(palette, transparency=1),
        saved(palette, "GIF", transparency=1),
        saved(Image.fromarray(clear, "RGBA"), "WEBP", lossless=True),
        saved(Image.fromarray(clear, "RGBA"), "TIFF"),
    ]
    for content in files:
        _, pixels = read(tmp_path, content)
        assert (pixels == 255).all()
    assert read_header(tmp_path, files[1]).grey
    assert (np.asarray(decode(tmp_path, files[1], 1)) == 255).all()


def test_grey_with_alpha_stays_grey(tmp_path):
    """Opaque grey keeps every level."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    both = np.stack([levels, np.full_like(levels, 255)], axis=-1)
    header, pixels = read(tmp_path, saved(Image.fromarray(both, "LA")), 1)
    assert header.grey
    assert np.array_equal(pixels, levels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "MPO"])
@pytest.mark.parametrize("exif_value", range(1, 9))
def test_orientation(kind, exif_value, tmp_path):
    """Every orientation comes out as Pillow's own ``exif_transpose`` turns it."""
    exif = Image.Exif()
    exif[ORIENTATION] = exif_value
    image = Image.fromarray(fake_data.pixels(6, 4, 3)).resize((40, 60), Image.Resampling.NEAREST)
    content = saved(image, kind, exif=exif)
    header, pixels = read(tmp_path, content)
    with Image.open(io.BytesIO(content)) as plain:
        plain.load()
        expected = np.asarray(ImageOps.exif_transpose(plain).convert("RGB"))
    assert np.array_equal(pixels, expected)
    assert (header.width, header.height) == ((60, 40) if exif_value > 4 else (40, 60))


def test_orientation_behind_the_pixels(tmp_path):
    """A PNG whose EXIF comes after its pixels is turned, too."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    rows = b"".join(b"\0" + bytes(range(2)) for _ in range(3))
    content = png(2, 3, 8, 0, rows)
    end = content.index(b"IEND") - 4
    behind = content[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + content[end:]
    header, pixels = read(tmp_path, behind, 1)
    assert (header.width, header.height) == (3, 2)
    assert pixels.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_palette_one_bit_and_other_depths(tmp_path):
    """Palettes give their colours; 1, 2 and 4 bits of grey span black to white."""
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    assert read(tmp_path, saved(palette))[1].tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert read(tmp_path, saved(Image.new("1", (1, 1), 1)), 1)[1].tolist() == [[255]]
    for depth in (1, 2, 4):
        white = png(2, 1, depth, 0, b"\0\xff")
        assert read(tmp_path, white, 1)[1].tolist() == [[255, 255]]


def tiff16():
    """An RGB image of 1x1 pixels with 16 bits a channel."""
    entries = [(256, 1), (257, 1), (259, 1), (262, 2), (277, 3), (278, 1)]
    fields = {tag: struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries}
    place = 8 + 2 + 9 * 12 + 4
    fields[258] = struct.pack("<HHII", 258, 3, 3, place)
    fields[273] = struct.pack("<HHII", 273, 4, 1, place + 6)
    fields[279] = struct.pack("<HHII", 279, 4, 1, 6)
    table = b"".join(fields[tag] for tag in sorted(fields))
    head = b"II*\0" + struct.pack("<IH", 8, 9) + table + struct.pack("<I", 0)
    return head + struct.pack("<HHH", 16, 16, 16) + b"\x12\x34" * 3


DEEP = {
    **{f"png {colour}": png(1, 1, 16, colour, b"\0" + b"\x12\x34" * 4) for colour in (0, 2, 4, 6)},
    "ppm": b"P6 1 1 65535\n" + b"\x12\x34" * 3,
    "pgm": b"P5 1 1 65535\n" + b"\x12\x34",
    "tiff": tiff16(),
    "float": saved(Image.new("F", (2, 2)), "TIFF"),
    "int": saved(Image.new("I", (2, 2)), "TIFF"),
}


@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
def test_deep_pixels_are_refused(content, tmp_path):
    """More than 8 bits a channel are refused by header and pixels alike, not cut."""
    for attempt in (lambda: read_header(tmp_path, content), lambda: decode(tmp_path, content, 3)):
        with pytest.raises(StorageError, match="save it with 8 bits a channel"):
            attempt()


REFUSED = {
    "CMYK": (saved(Image.new("CMYK", (2, 2)), "JPEG"), "save it as RGB or grey"),
    "Lab": (saved(Image.new("LAB", (2, 2)), "TIFF"), "pixels of kind LAB"),
    "GIF": (
        saved(
            Image.new("L", (2, 2), 0),
            "GIF",
            save_all=True,
            append_images=[Image.new("L", (2, 2), 255)],
        ),
        "several pictures in one file",
    ),
    "APNG": (
        saved(
            Image.new("L", (2, 2), 0),
            save_all=True,
            append_images=[Image.new("L", (2, 2), 255)],
        ),
        "several pictures in one file",
    ),
    "pages": (
        saved(
            Image.new("L", (2, 2)), "TIFF", save_all=True, append_images=[Image.new("L", (2, 2))]
        ),
        "several pictures in one file",
    ),
    "bomb": (png(60_000, 60_000, 1, 0), "60000x60000|bomb|exceeds limit"),
    "large": (png(9_000, 8_000, 1, 0), "9000x8000 pixels"),
    "no size": (png(0, 0, 8, 0), "damaged"),
    "postscript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n",
        "no image of a supported format",
    ),
    "page of HTML": (b"<!doctype html><title>404</title>", "no image of a supported format"),
    "empty": (b"", "no image of a supported format"),
    "text bomb": (
        png(2, 2, 8, 0, b"\0\0\0" * 2, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
        "damaged",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind, tmp_path):
    """What would be a guess, a bomb or a program is refused with the file's name."""
    content, message = REFUSED[kind]
    path = tmp_path / "strange.png"
    with pytest.raises(StorageError, match=message) as caught:
        read(path, content)
    assert "strange.png is damaged" in str(caught.value)


def test_no_program_is_started(tmp_path, monkeypatch):
    """PostScript under a picture's name is not handed to an interpreter."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("a program was started"))
    with pytest.raises(StorageError):
        decode(tmp_path / "x.png", REFUSED["postscript"][0], 3)


KINDS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM")


@given(
    st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.sampled_from(["L", "RGB", "RGBA", "P"])
)
@settings(max_examples=150)
def test_mutated_images(seed, kind, mode):
    """A damaged image is decoded or named; nothing else happens."""
    draw = random.Random(seed)
    if kind in ("JPEG", "PPM", "BMP"):
        mode = {"RGBA": "RGB", "P": "L"}.get(mode, mode)
    image = Image.fromarray(fake_data.pixels(9, 8, 4, seed=seed), "RGBA").convert(mode)
    content = bytearray(saved(image, kind))
    for _ in range(draw.randint(1, 12)):
        place = draw.randrange(len(content))
        match draw.randrange(3):
            case 0:
                content[place] = draw.randrange(256)
            case 1:
                del content[place : place + draw.randint(1, 9)]
            case _:
                content[place:place] = draw.randbytes(draw.randint(1, 9))
        if not content:
            return
    for attempt in (read_header, lambda path, raw: decode(path, raw, 3)):
        with contextlib.suppress(StorageError):
            attempt("x.img", bytes(content))


def test_large_images_take_turns(tmp_path, monkeypatch):
    """Two images that are large are never decoded at one time."""
    monkeypatch.setattr(decoding, "LARGE", 1)
    content = saved(Image.new("L", (2, 2)))
    with decoding._open_image(tmp_path, content):
        assert decoding._large_image.locked()
    assert not decoding._large_image.locked()
