"""The exact judge of scenes: which coloured shapes an image shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from msgm_bench import Data, IncompatibleError, Judge, Prediction, hookimpl
from msgm_text.datasets.scenes import CELL_SIZES
from msgm_text.datasets.scenes_board import (
    CELLS,
    COLOURS,
    CONCEPTS,
    PLACES,
    SHAPES,
    palette,
    split_cells,
    templates,
)

MIN_IOU = 0.8
MAX_DISTANCE = 100.0
MAX_SPECKS = 1 / 8


class SceneJudge(Judge):
    """Compares the cells of a scene with the six shapes in the six colours.

    A pixel has the nearest colour of the palette, or none where that is more than 100 grey levels
    (Euclidean) away. A cell shows an object of shape s and colour k where

        IoU = |pixels of colour k in s| / |pixels of s, or not of the background| >= 0.8,

    and is empty where less than an eighth of it is not background. An image is recognised if each
    cell is empty or shows an object, and the board has both: noise and flat images are not.
    The places of an image are its cells that show an object.
    """

    name = "scenes"
    knows_places = False

    @property
    def criterion(self) -> str:
        """What ``quality`` measures."""
        return "share of held-out scenes with all concepts right"

    def check(self, data: Data) -> None:
        """Refuse data other than scenes.

        Raises:
            IncompatibleError: Other concepts, or images of another size.
        """
        sizes = [(3, 2 * cell, 2 * cell) for cell in CELL_SIZES]
        if data.classes not in (CONCEPTS, CONCEPTS + PLACES) or data.shape not in sizes:
            raise IncompatibleError(
                "the judge 'scenes' knows the objects of the dataset 'scenes' alone",
                "--dataset scenes, or another judge",
            )

    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Measure the share of held-out scenes with all concepts right; nothing is learned."""
        self.restore(data, {}, device)
        prediction = self.predict(data.test.x.to(device) / 255)
        correct = prediction.recognised & (prediction.classes == data.test.y.to(device)).all(dim=1)
        self.report = {"accuracy": float(correct.double().mean()), "items": len(data.test)}

    def restore(self, data: Data, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Refuse data other than scenes; their concepts are all there is to know."""
        self.check(data)
        self.knows_places = data.classes != CONCEPTS

    def predict(self, x: Tensor) -> Prediction:
        """Shapes, colours and, of data that have them, places that images ``[N, 3, 2c, 2c]`` show.

        The objects are those of the cells.
        """
        cells, recognised = self._cells(x)
        objects = torch.cat([cells.any(dim=3), cells.any(dim=2)], dim=2)  # [N, 4, 12]
        if self.knows_places:
            places = (
                torch.eye(CELLS, dtype=torch.bool, device=x.device) & objects.any(dim=2)[..., None]
            )
            objects = torch.cat([objects, places], dim=2)
        return Prediction(objects.any(dim=1), recognised, objects)

    def objects(self, x: Tensor) -> Tensor:
        """Objects that images show, ``bool [N, 6, 6]``: entry (s, k) is shape s in colour k."""
        return self._cells(x)[0].any(dim=1)

    def _cells(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Objects of each cell ``bool [N, 4, 6, 6]``, and whether each image is recognised."""
        pixels = split_cells(x.float() * 255)  # [N, 4, P, 3]
        distance, nearest = torch.cdist(pixels, palette().to(x.device)).min(dim=-1)
        nearest = torch.where(distance <= MAX_DISTANCE, nearest, len(COLOURS) + 1)
        shapes = templates(x.shape[-1] // 2).flatten(1).to(pixels)  # [6, P]
        drawn = (nearest > 0).to(pixels)
        of_colour = torch.stack([nearest == k + 1 for k in range(len(COLOURS))], dim=2).to(pixels)
        intersection = torch.einsum("nckp,sp->ncsk", of_colour, shapes)
        union = shapes.sum(dim=1) + torch.einsum("ncp,sp->ncs", drawn, 1 - shapes)
        iou = (intersection / union[..., None]).flatten(2)
        best, index = iou.max(dim=-1)
        is_object = best >= MIN_IOU
        objects = torch.nn.functional.one_hot(index, iou.shape[-1]).bool() & is_object[..., None]
        is_empty = drawn.mean(dim=-1) < MAX_SPECKS
        legible = (is_object | is_empty).all(dim=1)
        recognised = legible & is_object.any(dim=1) & is_empty.any(dim=1)
        return objects.unflatten(2, (len(SHAPES), len(COLOURS))), recognised


@hookimpl
def register_judges() -> Sequence[type[Judge]]:
    """The judge of scenes."""
    return [SceneJudge]
