"""A small font of colour bitmaps, and a list of emoji as Unicode publishes it."""

from __future__ import annotations

import io

from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib import newTable
from fontTools.ttLib.tables.BitmapGlyphMetrics import SmallGlyphMetrics
from fontTools.ttLib.tables.C_B_D_T_ import cbdt_bitmap_format_17
from fontTools.ttLib.tables.E_B_L_C_ import (
    BitmapSizeTable,
    SbitLineMetrics,
    Strike,
    eblc_index_sub_table_1,
)
from PIL import Image

WIDTH, HEIGHT, PPEM, EM = 136, 128, 109, 2048
LINE_METRICS = (
    *("ascender", "descender", "widthMax", "caretSlopeNumerator", "caretSlopeDenominator"),
    *("caretOffset", "minOriginSB", "minAdvanceSB", "maxBeforeBL", "minAfterBL", "pad1", "pad2"),
)


def png(colour):
    """A bitmap of one colour."""
    file = io.BytesIO()
    Image.new("RGBA", (WIDTH, HEIGHT), colour).save(file, "PNG")
    return file.getvalue()


def write_font(path, colours, ligatures=(), size=PPEM):
    """A font with a plain drawing of each character.

    Args:
        path: Its file.
        colours: Colour of each character's drawing.
        ligatures: Triples of two characters and the third that is drawn in their place.
        size: Pixels of the em of its bitmaps.
    """
    glyphs = {character: f"u{ord(character):04X}" for character in colours}
    builder = FontBuilder(EM, isTTF=True)
    builder.setupGlyphOrder([".notdef", *glyphs.values()])
    builder.setupCharacterMap({ord(character): name for character, name in glyphs.items()})
    names = [".notdef", *glyphs.values()]
    builder.setupHorizontalMetrics(dict.fromkeys(names, (round(WIDTH * EM / PPEM), 0)))
    builder.setupHorizontalHeader(ascent=1900, descent=-500)
    builder.setupNameTable({"familyName": "Small", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    rules = "".join(f"sub {glyphs[a]} {glyphs[b]} by {glyphs[c]};" for a, b, c in ligatures)
    if rules:
        builder.addOpenTypeFeatures(f"feature ccmp {{ {rules} }} ccmp;")
    for tag, table in bitmaps({glyphs[c]: png(colour) for c, colour in colours.items()}, size):
        builder.font[tag] = table
    builder.save(path)
    return path


def bitmaps(drawings, size):
    """Tables of the drawings, by name of the glyph."""
    subtable = eblc_index_sub_table_1(b"", None)
    subtable.imageFormat, subtable.indexFormat, subtable.imageSize = 17, 1, None
    subtable.names = list(drawings)
    strike, sizes = Strike(), BitmapSizeTable()
    strike.indexSubTables, strike.bitmapSizeTable = [subtable], sizes
    sizes.colorRef, sizes.flags, sizes.bitDepth = 0, 1, 32
    sizes.ppemX = sizes.ppemY = size
    sizes.startGlyphIndex, sizes.endGlyphIndex = 1, len(drawings)
    for name in ("hori", "vert"):
        metrics = SbitLineMetrics()
        for field in LINE_METRICS:
            setattr(metrics, field, 0)
        metrics.ascender, metrics.descender, metrics.widthMax = 101, -27, WIDTH
        setattr(sizes, name, metrics)
    location, data = newTable("CBLC"), newTable("CBDT")
    location.version, location.strikes = 3.0, [strike]
    data.version = 3.0
    data.strikeData = [{name: glyph(content) for name, content in drawings.items()}]
    return ("CBLC", location), ("CBDT", data)


def glyph(content):
    """A drawing with its metrics."""
    bitmap = cbdt_bitmap_format_17(b"", None)
    bitmap.metrics = SmallGlyphMetrics()
    bitmap.metrics.height, bitmap.metrics.width = HEIGHT, WIDTH
    bitmap.metrics.BearingX, bitmap.metrics.BearingY, bitmap.metrics.Advance = 0, 101, WIDTH
    bitmap.imageData = content
    return bitmap


def write_names(path, rows):
    """A list of (characters, name, group) as in ``emoji-test.txt``, with lines of other kinds."""
    lines, last = ["# emoji-test.txt", ""], None
    for characters, name, group in rows:
        if group != last:
            lines += ["", f"# group: {group}", "", f"# subgroup: {group.lower()}-all"]
            last = group
        points = " ".join(f"{ord(character):04X}" for character in characters)
        lines.append(f"{points:<55}; fully-qualified     # {characters} E1.0 {name}")
        lines.append(f"{points:<55}; unqualified         # {characters} E1.0 {name} again")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
