"""The board of the scenes: four cells, six shapes, six colours, and how they are painted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SHAPES = ("circle", "ring", "square", "bar", "triangle", "cross")
PALETTE = {
    "red": (235, 45, 40),
    "green": (40, 190, 75),
    "blue": (40, 80, 235),
    "yellow": (240, 215, 50),
    "purple": (200, 50, 200),
    "white": (240, 240, 240),
}
COLOURS = tuple(PALETTE)
CONCEPTS = SHAPES + COLOURS
PLACES = ("top left", "top right", "bottom left", "bottom right")  # the cells, row by row
BACKGROUND = (20, 20, 24)
CELLS = len(PLACES)
OBJECTS = len(SHAPES) * len(COLOURS)

# membership of a pixel at (u, v), from -1 to 1 across the cell, v downwards
MEMBERSHIP: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": lambda u, v: u.hypot(v) <= 0.95,
    "ring": lambda u, v: (u.hypot(v) <= 0.95) & (u.hypot(v) > 0.6),
    "square": lambda u, v: u.abs() <= 1,
    "bar": lambda u, v: v.abs() <= 0.5,
    "triangle": lambda u, v: u <= v,
    "cross": lambda u, v: (u.abs() - v.abs()).abs() <= 0.25,
}


def templates(cell: int) -> Tensor:
    """Pixels of the six shapes in a cell of ``cell`` (4 or 8) pixels, ``bool [6, cell, cell]``."""
    centre = (torch.arange(cell) + 0.5) * 2 / cell - 1
    v, u = torch.meshgrid(centre, centre, indexing="ij")
    return torch.stack([MEMBERSHIP[shape](u, v) for shape in SHAPES])


def palette() -> Tensor:
    """Grey levels of the background and of the six colours after it, ``float32 [7, 3]``."""
    return torch.tensor([BACKGROUND, *PALETTE.values()], dtype=torch.float32)


def split_cells(x: Tensor) -> Tensor:
    """Pixels of the four cells of images ``[N, 3, 2c, 2c]``: ``[N, 4, c * c, 3]``, row by row."""
    N, cell = len(x), x.shape[-1] // 2
    return x.reshape(N, 3, 2, cell, 2, cell).permute(0, 2, 4, 3, 5, 1).reshape(N, CELLS, -1, 3)


def join_cells(pixels: Tensor) -> Tensor:
    """The inverse of ``split_cells``."""
    N, cell = len(pixels), round(pixels.shape[2] ** 0.5)
    board = pixels.reshape(N, 2, 2, cell, cell, 3).permute(0, 5, 1, 3, 2, 4)
    return board.reshape(N, 3, 2 * cell, 2 * cell)


def paint(board: Tensor, cell: int) -> Tensor:
    """Images ``float32 [N, 3, 2c, 2c]`` in grey levels of boards ``int64 [N, 4]``.

    An entry is -1 for an empty cell, or an object: 6 * shape + colour.
    """
    shape, colour = board.clamp(min=0) // len(COLOURS), board.clamp(min=0) % len(COLOURS)
    mask = templates(cell).flatten(1)[shape] & (board >= 0)[..., None]
    return join_cells(palette()[mask * (colour + 1)[..., None]])


def attributes(board: Tensor, places: bool = False) -> Tensor:
    """Concepts that boards ``int64 [N, 4]`` show, ``bool [N, 12]``.

    With ``places`` ``bool [N, 16]``: the last four say which cells an object is in.
    """
    shape, colour = board // len(COLOURS), board % len(COLOURS) + len(SHAPES)
    y = torch.zeros(len(board), len(CONCEPTS) + 1, dtype=torch.bool)
    for concept in (shape, colour):
        y.scatter_(1, torch.where(board >= 0, concept, len(CONCEPTS)), True)
    return torch.cat([y[:, :-1], board >= 0], dim=1) if places else y[:, :-1]
