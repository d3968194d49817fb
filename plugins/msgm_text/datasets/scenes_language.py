"""The language of the scenes: captions of objects, and prompts that test a concept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgm_bench import Prompt, PromptBook
from msgm_bench import PromptGroup as Group
from msgm_text.datasets.scenes_board import COLOURS, CONCEPTS, OBJECTS, SHAPES

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
FORMS = 4
PLAIN, SHAPE_SYNONYM, COLOUR_SYNONYM, IMPLICIT_WORD = range(FORMS)
SINGLES = OBJECTS * FORMS


def names(thing: int) -> tuple[str, str]:
    """Colour and shape of the object 6 * shape + colour."""
    return COLOURS[thing % len(COLOURS)], SHAPES[thing // len(COLOURS)]


def has_implicit_word(thing: int) -> bool:
    """Whether a word such as tomato stands for the object."""
    return names(thing) in IMPLICIT


def phrase(thing: int, form: int = PLAIN) -> str:
    """An object in words: ``a red circle``, ``a red disc``, ``a crimson circle``, ``a tomato``."""
    colour, shape = names(thing)
    if form == IMPLICIT_WORD:
        words = IMPLICIT[colour, shape]
    else:
        shape = SYNONYMS[shape] if form == SHAPE_SYNONYM else shape
        colour = SYNONYMS[colour] if form == COLOUR_SYNONYM else colour
        words = f"{colour} {shape}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


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


def concepts(things: Iterable[int]) -> tuple[int, ...]:
    """Indices of the concepts of objects, shapes before colours."""
    return tuple(sorted({CONCEPTS.index(name) for thing in things for name in names(thing)}))


def vocabulary() -> tuple[str, ...]:
    """All words of the language in alphabetical order."""
    words = {"a", "an", "and", *CONCEPTS, *SYNONYMS.values(), *IMPLICIT.values()}
    return tuple(sorted(words))


def prompt_book(codes: Iterable[int], pairs: bool) -> PromptBook:
    """Captions, then the prompts that test each concept.

    A concept is tested by each of its six objects (``target``, and as ``synonym`` where another
    word stands for the concept), by its ``implicit`` words, and by each pair of two objects that
    differ in the concept alone (``a red circle and a red square``): what the prompt asks for
    besides the concept is what the other object shows.

    Args:
        codes: Captions of the items (``caption``).
        pairs: Whether prompts ask for two objects.
    """
    rows = [Prompt(*caption(code), "train") for code in codes]
    for concept in range(len(CONCEPTS)):
        rows += _tests(concept, pairs)
    return PromptBook(
        concepts=CONCEPTS,
        prompts=tuple(rows),
        domains={"shape": SHAPES, "colour": COLOURS},
        anchors=ANCHORS,
        words=vocabulary(),
    )


def _tests(concept: int, pairs: bool) -> Iterator[Prompt]:
    """Prompts that ask for a concept."""

    def prompt(text: str, group: Group, *things: int) -> Prompt:
        return Prompt(text, concepts(things), group, concept)

    own = [thing for thing in range(OBJECTS) if concept in concepts([thing])]
    synonym = SHAPE_SYNONYM if concept < len(SHAPES) else COLOUR_SYNONYM
    for thing in own:
        yield prompt(phrase(thing), "target", thing)
    for thing in own:
        yield prompt(phrase(thing, synonym), "synonym", thing)
    for thing in filter(has_implicit_word, own):
        yield prompt(phrase(thing, IMPLICIT_WORD), "implicit", thing)
    for i, (thing, other) in enumerate(_neighbours(own, concept) if pairs else ()):
        first, second = (thing, other) if i % 2 == 0 else (other, thing)
        yield prompt(f"{phrase(first)} and {phrase(second)}", "pair", thing, other)


def _neighbours(own: Iterable[int], concept: int) -> Iterator[tuple[int, int]]:
    """Each object of ``own`` beside each that has another concept in the place of this one."""
    for thing in own:
        rest = set(concepts([thing])) - {concept}
        for other in range(OBJECTS):
            if other != thing and rest <= set(concepts([other])):
                yield thing, other
