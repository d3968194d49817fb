"""Boxes of CelebA's attributes in the aligned faces, cropped to their centre.

Every aligned face of 178x218 px has the eyes near (70, 111) and (107, 111), the nose's tip near
row 137 and the mouth near row 153 (``list_landmarks_align_celeba.txt``). In the centred 140 px
square, reduced to 64 px, that is the eyes at row 33 and columns 23 and 40, the nose's tip at row
45 and the mouth at row 52; the brows lie near row 27, and the chin near row 62.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgm_bench import Box

SIDE = 64  # px of the image that the boxes below refer to

FOREHEAD = (12, 0, 16, 64)  # a quarter of the image, as in the MSGM paper's figure 5
CROWN = (0, 0, 24, 64)
BROWS = (20, 8, 11, 48)
GLASSES = (25, 6, 16, 52)
EYES = (27, 12, 14, 40)
NOSE = (34, 22, 16, 20)
CHEEKS = (34, 6, 18, 52)
MOUTH = (46, 16, 14, 32)
JAW = (46, 6, 18, 52)
CHIN = (56, 12, 8, 40)

REGIONS = {
    "Bangs": FOREHEAD,
    "Bald": CROWN,
    "Receding_Hairline": CROWN,
    "Wearing_Hat": CROWN,
    "Arched_Eyebrows": BROWS,
    "Bushy_Eyebrows": BROWS,
    "Eyeglasses": GLASSES,
    "Bags_Under_Eyes": EYES,
    "Narrow_Eyes": EYES,
    "Big_Nose": NOSE,
    "Pointy_Nose": NOSE,
    "High_Cheekbones": CHEEKS,
    "Rosy_Cheeks": CHEEKS,
    "Big_Lips": MOUTH,
    "Mouth_Slightly_Open": MOUTH,
    "Smiling": MOUTH,
    "Wearing_Lipstick": MOUTH,
    "Mustache": MOUTH,
    "5_o_Clock_Shadow": JAW,
    "Goatee": JAW,
    "No_Beard": JAW,
    "Double_Chin": CHIN,
}


def face_regions(names: Iterable[str], side: int) -> dict[str, Box]:
    """Boxes of the attributes in ``names`` that show in one place, in images of ``side`` px."""

    def scaled(pixels: int) -> int:
        return round(pixels * side / SIDE)

    boxes = {}
    for name in names:
        if name in REGIONS:
            top, left, height, width = REGIONS[name]
            bottom, right = scaled(top + height), scaled(left + width)
            boxes[name] = (scaled(top), scaled(left), bottom - scaled(top), right - scaled(left))
    return boxes
