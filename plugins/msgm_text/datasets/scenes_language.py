"""The language of the scenes: objects and their places in words, and captions."""

from __future__ import annotations

from collections.abc import Iterable

from msgm_text.datasets.scenes_board import CELLS, COLOURS, CONCEPTS, OBJECTS, PLACES, SHAPES

SYNONYMS = {
    "circle": "disc",
    "ring": "hoop",
    "square": "box",
    "bar": "stripe",
    "triangle": "wedge",
    "cross": "saltire",
    "red": "crimson",
    "green": "emerald",
    "blue": "azure",
    "yellow": "golden",
    "purple": "violet",
    "white": "ivory",
}
IMPLICIT = {
    ("red", "circle"): "tomato",
    ("yellow", "circle"): "sun",
    ("purple", "circle"): "plum",
    ("green", "ring"): "wreath",
    ("yellow", "ring"): "halo",
    ("red", "square"): "brick",
    ("blue", "square"): "sapphire",
    ("blue", "bar"): "river",
    ("yellow", "bar"): "plank",
    ("white", "bar"): "chalk",
    ("green", "triangle"): "leaf",
    ("white", "triangle"): "iceberg",
    ("white", "cross"): "snowflake",
    ("purple", "cross"): "orchid",
}
ANCHORS = {
    "circle": "square",
    "ring": "circle",
    "square": "circle",
    "bar": "cross",
    "triangle": "square",
    "cross": "bar",
    "red": "purple",
    "green": "blue",
    "blue": "green",
    "yellow": "white",
    "purple": "red",
    "white": "yellow",
}
PLACE_SYNONYMS = {
    "top left": "upper left",
    "top right": "upper right",
    "bottom left": "lower left",
    "bottom right": "lower right",
}
PLACE_ANCHORS = {
    "top left": "top right",
    "top right": "top left",
    "bottom left": "bottom right",
    "bottom right": "bottom left",
}
FORMS = 4
PLAIN, SHAPE_SYNONYM, COLOUR_SYNONYM, IMPLICIT_WORD = range(FORMS)
SINGLES = OBJECTS * FORMS


def names(thing: int) -> tuple[str, str]:
    """Colour and shape of the object 6 * shape + colour."""
    return COLOURS[thing % len(COLOURS)], SHAPES[thing // len(COLOURS)]


def has_implicit_word(thing: int) -> bool:
    """Whether a word such as tomato stands for the object."""
    return names(thing) in IMPLICIT


def phrase(thing: int, form: int = PLAIN, place: str = "") -> str:
    """An object in words: ``a red circle``, ``a red disc``, ``a crimson circle``, ``a tomato``.

    With the words of a place behind it: ``a red circle top left``.
    """
    colour, shape = names(thing)
    if form == IMPLICIT_WORD:
        words = IMPLICIT[colour, shape]
    else:
        shape = SYNONYMS[shape] if form == SHAPE_SYNONYM else shape
        colour = SYNONYMS[colour] if form == COLOUR_SYNONYM else colour
        words = f"{colour} {shape}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words} {place}".rstrip()


def caption(code: int) -> tuple[str, tuple[int, ...]]:
    """Text and concepts of a caption.

    Args:
        code: 4 * object + form for one object; 144 + 36 * first + second for two.
    """
    if code < SINGLES:
        thing, form = divmod(code, FORMS)
        return phrase(thing, form), concepts([thing])
    things = divmod(code - SINGLES, OBJECTS)
    return " and ".join(map(phrase, things)), concepts(things)


def caption_with_places(code: int) -> tuple[str, tuple[int, ...]]:
    """Text and concepts of a caption in the language that has places.

    Args:
        code: 16 * caption + where; the caption is a code of ``caption``. Of two objects where is
            4 * first cell + second cell; of one 0 where its cell is not named, 4 + cell where it
            is, and 8 + cell where it is by a synonym.
    """
    code, where = divmod(code, CELLS**2)
    if code < SINGLES:
        thing, form = divmod(code, FORMS)
        wording, cell = divmod(where, CELLS)
        name = PLACES[cell]
        place = ("", name, PLACE_SYNONYMS[name])[wording]
        return phrase(thing, form, place), concepts([thing], [cell] if wording else [])
    things, cells = divmod(code - SINGLES, OBJECTS), divmod(where, CELLS)
    texts = (phrase(thing, place=PLACES[cell]) for thing, cell in zip(things, cells, strict=True))
    return " and ".join(texts), concepts(things, cells)


def concepts(things: Iterable[int], cells: Iterable[int] = ()) -> tuple[int, ...]:
    """Indices of the concepts of objects, shapes before colours, and of cells behind them."""
    indices = {CONCEPTS.index(name) for thing in things for name in names(thing)}
    return tuple(sorted(indices | {len(CONCEPTS) + cell for cell in cells}))


def vocabulary(places: bool = False) -> tuple[str, ...]:
    """All words of the language in alphabetical order; ``places``: of the one that has places."""
    words = {"a", "an", "and", *CONCEPTS, *SYNONYMS.values(), *IMPLICIT.values()}
    if places:
        words.update(*map(str.split, PLACE_SYNONYMS), *map(str.split, PLACE_SYNONYMS.values()))
    return tuple(sorted(words))
