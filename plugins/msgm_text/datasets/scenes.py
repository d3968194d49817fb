"""Scenes: boards of coloured shapes with captions, and the exact truth about each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    Data,
    Dataset,
    DatasetInfo,
    Examples,
    OptionError,
    Options,
    derive_seed,
    hookimpl,
)
from msgm_text.datasets.budgets import FULL
from msgm_text.datasets.scenes_board import (
    CELLS,
    COLOURS,
    CONCEPTS,
    OBJECTS,
    PLACES,
    SHAPES,
    attributes,
    paint,
)
from msgm_text.datasets.scenes_language import (
    COLOUR_SYNONYM,
    FORMS,
    IMPLICIT_WORD,
    PLAIN,
    SHAPE_SYNONYM,
    SINGLES,
    has_implicit_word,
)
from msgm_text.datasets.scenes_prompts import prompt_book

GRAIN = 4
SYNONYM_SHARE, IMPLICIT_SHARE = 0.2, 0.3
ALIKE_SHARE = 0.6  # of the pairs: objects that differ in shape or colour alone
EQUAL_SHARE = 0.2  # of the pairs, with places: objects that differ in their place alone
PLACED_SHARE = 0.5  # of the captions of one object, with places: those that name its place
CELL_SIZES = (4, 8)
QUICK = {  # two minutes of a CPU's core for t2i's transformer, and ten seconds a method
    "training": {
        "steps": 2800,
        "batch_size": 64,
        "learning_rate": 2e-3,
        "warmup_steps": 100,
        "lr_schedule": "cosine",
        "ema_decay": 0.99,
    },
    "finetuning": {
        "steps": 150,
        "learning_rate": 3e-4,
        "warmup_steps": 0,
        "lr_schedule": "constant",
    },
    "tasks": {"likelihood": {"count": 64, "batch_size": 128}},
}


class ScenesOptions(Options):
    """Size of the board, numbers of scenes, how many show two objects, and what captions name."""

    cell: int = Field(4, ge=4, le=8, description="pixels of a cell, 4 or 8: 8x8 or 16x16 images")
    train_size: int = Field(16_000, ge=500, le=1_000_000, description="training scenes")
    test_size: int = Field(2000, ge=500, le=1_000_000, description="held-out scenes")
    pairs: float = Field(0.7, ge=0, le=1, description="share of the scenes with two objects")
    places: bool = Field(
        False, description="whether captions say where objects are, and places are concepts"
    )


class Scenes(Dataset[ScenesOptions]):
    """Captioned boards of 2x2 cells with one or two of 36 objects: 6 shapes in 6 colours.

    Concepts: the shapes and the colours; an item carries those that it shows. Two objects of a
    scene lie in any two cells; in 60 % of the pairs they differ in the shape or the colour alone,
    which is learned last, in the others in any way. Of the captions of one object 20 % have a
    synonym for the shape or the colour (``a red disc``, ``a crimson circle``), and of the objects
    that a word stands for 30 % are called by it (``a tomato``); captions of two objects are plain
    (``a red circle and a blue square``). Each grey level deviates by up to 4 levels, uniformly, so
    that no two items are equal. The scenes are drawn when they are loaded, from seeds of their own.

    With ``places`` the four cells are concepts, too: ``top left``, ``top right``, ``bottom left``,
    ``bottom right``; an item carries those that an object is in. Captions of two objects say where
    both are (``a red circle top left and a blue square bottom right``), half of those of one
    object say it, 20 % of them by a synonym (``upper left``); 20 % of the pairs are one object in
    two places, and so many fewer differ in any way.
    """

    name = "scenes"
    citation = "ours, drawn by this program"
    default_preset = "quick"
    presets = {
        "quick": {"judge": {"name": "scenes"}, **QUICK},
        "full": {"judge": {"name": "scenes"}, **FULL},
        "paper": {"judge": {"name": "scenes"}, **FULL},
    }

    def info(self) -> DatasetInfo:
        """Shape, concepts and numbers of the scenes."""
        shape = (3, 2 * self._cell, 2 * self._cell)
        sizes = self.options.train_size, self.options.test_size
        return DatasetInfo(shape, self._concepts, *sizes, attributes=True)

    def load(self) -> Data:
        """Draw the scenes.

        Raises:
            OptionError: Cells of another size.
        """
        c = self.options
        sizes = {"train": c.train_size, "test": c.test_size}
        drawn = {part: self._draw(part, size) for part, size in sizes.items()}
        codes = torch.cat([codes for _, codes in drawn.values()]).unique()
        parts = {
            part: Examples(
                self._images(part, board),
                attributes(board, c.places),
                torch.searchsorted(codes, own),
            )
            for part, (board, own) in drawn.items()
        }
        return Data(
            train=parts["train"],
            test=parts["test"],
            classes=self._concepts,
            levels=256,
            protocol=f"scenes/drawn{self._deviations()}@1",
            prompts=prompt_book(codes.tolist(), c.pairs > 0, c.places),
        )

    def _deviations(self) -> str:
        """The options that are not the defaults, for the protocol's name."""
        changed = self.options.model_dump(exclude_defaults=True)
        return "".join(f"+{name}={value}" for name, value in changed.items())

    @property
    def _concepts(self) -> tuple[str, ...]:
        return CONCEPTS + PLACES if self.options.places else CONCEPTS

    @property
    def _cell(self) -> int:
        if self.options.cell not in CELL_SIZES:
            raise OptionError(f"option 'cell' of scenes = {self.options.cell}", "4 or 8 pixels")
        return self.options.cell

    def _draw(self, part: str, size: int) -> tuple[Tensor, Tensor]:
        """Boards ``int64 [size, 4]`` and codes of their captions ``int64 [size]``."""
        generator = _generator(part, "scenes")

        def uniform() -> Tensor:
            return torch.rand(size, generator=generator, dtype=torch.float64)

        first = (uniform() * OBJECTS).long()
        second = _companions(first, uniform(), uniform(), self.options.places)
        place = (uniform() * CELLS).long()
        other = (place + 1 + (uniform() * (CELLS - 1)).long()) % CELLS
        paired = uniform() < self.options.pairs
        form = _forms(first, uniform(), uniform())
        board = torch.full((size, CELLS), -1)
        board.scatter_(1, place[:, None], first[:, None])
        rows = paired.nonzero().flatten()
        board[rows, other[rows]] = second[rows]
        code = torch.where(paired, SINGLES + first * OBJECTS + second, first * FORMS + form)
        if self.options.places:
            named = _named_place(place, uniform(), uniform())
            code = code * CELLS**2 + torch.where(paired, place * CELLS + other, named)
        return board, code

    def _images(self, part: str, board: Tensor) -> Tensor:
        """Painted boards with grain, ``uint8 [N, 3, 2c, 2c]``."""
        x = paint(board, self._cell).to(torch.uint8)
        generator = _generator(part, "grain")
        grain = torch.randint(2 * GRAIN + 1, x.shape, generator=generator, dtype=torch.uint8)
        return x + grain - GRAIN


def _generator(part: str, stream: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed("scenes", part, stream))


def _companions(first: Tensor, kind: Tensor, u: Tensor, places: bool) -> Tensor:
    """Objects beside ``first``, from two uniform numbers for each: alike or any other.

    With places some are equal.
    """
    shape, colour = first // len(COLOURS), first % len(COLOURS)
    other_shape = (shape + 1 + (u * (len(SHAPES) - 1)).long()) % len(SHAPES)
    other_colour = (colour + 1 + (u * (len(COLOURS) - 1)).long()) % len(COLOURS)
    alike = torch.where(
        kind < ALIKE_SHARE / 2,
        other_shape * len(COLOURS) + colour,
        shape * len(COLOURS) + other_colour,
    )
    other = (first + 1 + (u * (OBJECTS - 1)).long()) % OBJECTS
    if places:
        other = torch.where(kind >= 1 - EQUAL_SHARE, first, other)
    return torch.where(kind < ALIKE_SHARE, alike, other)


def _forms(thing: Tensor, u: Tensor, w: Tensor) -> Tensor:
    """Forms of captions of one object, from two uniform numbers for each."""
    nameable = torch.tensor([has_implicit_word(i) for i in range(OBJECTS)])[thing]
    form = torch.full_like(thing, PLAIN)
    form[u < SYNONYM_SHARE] = SHAPE_SYNONYM
    form[u < SYNONYM_SHARE / 2] = COLOUR_SYNONYM
    form[nameable & (w < IMPLICIT_SHARE)] = IMPLICIT_WORD
    return form


def _named_place(place: Tensor, u: Tensor, w: Tensor) -> Tensor:
    """How captions of one object name its place (``caption_with_places``), from two uniforms."""
    wording = 1 + (w < SYNONYM_SHARE).long()
    return torch.where(u < PLACED_SHARE, CELLS * wording + place, 0)


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """Scenes."""
    return [Scenes]
