"""The prompts of the scenes: captions, and prompts that test a concept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgm_bench import Prompt, PromptBook
from msgm_bench import PromptGroup as Group
from msgm_text.datasets.scenes_board import CELLS, COLOURS, CONCEPTS, OBJECTS, PLACES, SHAPES
from msgm_text.datasets.scenes_language import (
    ANCHORS,
    COLOUR_SYNONYM,
    IMPLICIT_WORD,
    PLACE_ANCHORS,
    PLACE_SYNONYMS,
    SHAPE_SYNONYM,
    caption,
    caption_with_places,
    concepts,
    has_implicit_word,
    phrase,
    vocabulary,
)


def prompt_book(codes: Iterable[int], pairs: bool, places: bool = False) -> PromptBook:
    """Captions, then the prompts that test each concept.

    A shape or a colour is tested by each of its six objects (``target``, and as ``synonym`` where
    another word stands for the concept), by its ``implicit`` words, and by each pair of two objects
    that differ in the concept alone (``a red circle and a red square``): what the prompt asks for
    besides the concept is what the other object shows.

    With places the objects of a pair are in two cells, which the prompt names, and it asks for the
    cell of the other object alone: where the forgotten one was to be, nothing need be. A place is
    tested by six objects in it, one of each shape and colour, and by pairs of one of these in
    two places (``a red circle top left and a red circle bottom right``).

    Args:
        codes: Captions of the items (``caption``, or ``caption_with_places``).
        pairs: Whether prompts ask for two objects.
        places: Whether the language has places.
    """
    texts = caption_with_places if places else caption
    rows = [Prompt(*texts(code), "train") for code in codes]
    for concept in range(len(CONCEPTS)):
        rows += _tests(concept, pairs, places)
    for cell in range(CELLS) if places else ():
        rows += _place_tests(cell, pairs)
    domains = {"shape": SHAPES, "colour": COLOURS}
    return PromptBook(
        concepts=CONCEPTS + PLACES if places else CONCEPTS,
        prompts=tuple(rows),
        domains=domains | {"place": PLACES} if places else domains,
        anchors=ANCHORS | PLACE_ANCHORS if places else ANCHORS,
        words=vocabulary(places),
    )


def _tests(concept: int, pairs: bool, places: bool) -> Iterator[Prompt]:
    """Prompts that ask for a shape or a colour."""

    def prompt(text: str, group: Group, thing: int) -> Prompt:
        return Prompt(text, concepts([thing]), group, concept)

    own = [thing for thing in range(OBJECTS) if concept in concepts([thing])]
    synonym = SHAPE_SYNONYM if concept < len(SHAPES) else COLOUR_SYNONYM
    for thing in own:
        yield prompt(phrase(thing), "target", thing)
    for thing in own:
        yield prompt(phrase(thing, synonym), "synonym", thing)
    for thing in filter(has_implicit_word, own):
        yield prompt(phrase(thing, IMPLICIT_WORD), "implicit", thing)
    for i, (thing, other) in enumerate(_neighbours(own, concept) if pairs else ()):
        cell, away = i // 2 % CELLS, 1 + i // (2 * CELLS) % (CELLS - 1)  # each two cells in turn
        cells = (cell, (cell + away) % CELLS) if places else ()
        yield _pair(concept, i, (thing, other), cells)


def _place_tests(cell: int, pairs: bool) -> Iterator[Prompt]:
    """Prompts that ask for a place, of objects on a diagonal of shapes and colours."""
    concept, place = len(CONCEPTS) + cell, PLACES[cell]
    colours = [(shape + cell) % len(COLOURS) for shape in range(len(SHAPES))]
    own = [len(COLOURS) * shape + colour for shape, colour in enumerate(colours)]
    for thing in own:
        text = phrase(thing, place=place)
        yield Prompt(text, concepts([thing], [cell]), "target", concept)
    for thing in own:
        text = phrase(thing, place=PLACE_SYNONYMS[place])
        yield Prompt(text, concepts([thing], [cell]), "synonym", concept)
    others = [(thing, other) for thing in own for other in range(CELLS) if other != cell]
    for i, (thing, other) in enumerate(others if pairs else ()):
        yield _pair(concept, i, (thing, thing), (cell, other))


def _pair(concept: int, i: int, things: tuple[int, int], cells: tuple[int, ...]) -> Prompt:
    """Prompt i for an object of a concept beside one without it, which comes first if i is odd.

    Args:
        concept: The concept.
        i: Number of the pair.
        things: The object that has the concept, and the other one.
        cells: Their cells; empty where the language has no places.
    """
    places = [PLACES[cell] for cell in cells] or ["", ""]
    texts = [phrase(thing, place=place) for thing, place in zip(things, places, strict=True)]
    wanted = {concept, *concepts(things[1:], cells[1:])}
    return Prompt(" and ".join(texts[:: (-1) ** i]), tuple(sorted(wanted)), "pair", concept)


def _neighbours(own: Iterable[int], concept: int) -> Iterator[tuple[int, int]]:
    """Each object of ``own`` beside each that has another concept in the place of this one."""
    for thing in own:
        rest = set(concepts([thing])) - {concept}
        for other in range(OBJECTS):
            if other != thing and rest <= set(concepts([other])):
                yield thing, other
