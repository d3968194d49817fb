"""Caveats of the published numbers: reasons why some are no targets, and remarks on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from msgm_paper.mapping import quantity, setting
from msgm_paper.tables import PublishedValue

MODELS = ("standard", "ort", "obt", "unseen")


@dataclass(frozen=True)
class Caveat:
    """A reason, and the published values that it concerns.

    Attributes:
        reason: In words.
        where: Field of a value to patterns, one of which must fit; all fields must.
        blocks: Whether the value is no target at all; otherwise the reason is a remark.
        place: Place in the paper, where the reason is an error that nothing here can compute; the
            others have a finding, or are no errors.
    """

    reason: str
    where: Mapping[str, Sequence[str]]
    blocks: bool = True
    place: str = ""

    def concerns(self, entry: PublishedValue) -> bool:
        """Whether the caveat holds for the value."""
        return all(
            any(fnmatchcase(str(getattr(entry, name)), pattern) for pattern in patterns)
            for name, patterns in self.where.items()
        )


CAVEATS = (
    Caveat(
        "impossible: no density over the stated mixture has 39.01 on what is forgotten and less "
        "than 11.04 on what is kept (docs/mathematics.md, 5)",
        {"table": ("1",), "method": ("msgm",)},
    ),
    Caveat(
        "the paper does not say which of its two variants this is; obt is taken",
        {"table": ("1",), "method": ("msgm",)},
        place="table 1",
    ),
    Caveat(
        "the paper's headings are Unseen and Unlearning: which is ort and which obt is a guess",
        {"table": ("5",), "method": ("*[?]",)},
        place="table 5",
    ),
    Caveat(
        "broken FID: the authors' fid.py never adds the distance between the means",
        {"metric": ("fid",)},
    ),
    Caveat(
        "one batch: the authors' inpainting.py stops after it (200 images for CelebA)",
        {"task": ("inpainting",), "metric": ("acc", "fid"), "method": MODELS},
        place="table 3, ACC and FID",
    ),
    Caveat(
        "suspected uint8 wrap-around: PSNR hardly moves while SSIM spans 0.54 to 0.93, and squares "
        "modulo 256, 105.5 in the mean, would give 30.9 dB over half an image",
        {"metric": ("psnr",)},
    ),
    Caveat(
        "the accuracy of the paper's CLIP judge on real images: a property of no model; beside it "
        "stands that of the run's own judge",
        {"method": ("real-data",)},
    ),
    Caveat(
        "counted as the paper's judge does, which takes the most likely class of every sample: "
        "the row ur_argmax",
        {"metric": ("ur*",)},
        blocks=False,
    ),
    Caveat(
        "the authors evaluate this model with its raw weights (the average is commented out in "
        "run_lib.py), about +0.03 bits/dim; here it is averaged",
        {"method": ("standard", "unseen"), "metric": ("nll",), "unit": ("bits/dim",)},
        blocks=False,
        place="tables 2 and 5, Standard and Unseen",
    ),
    Caveat(
        "the authors' EraseDiff is another loss (method erase): 0.99 L_g + 0.01 |eps_hat - u|^2 at "
        "every fourth step, u uniform; 39.6 times less weight than EraseDiff's lambda = 0.1",
        {"method": ("erasediff",)},
        blocks=False,
        place="tables 2, 5 and 6, EraseDiff",
    ),
    Caveat(
        "a training-set figure: the authors train on STL-10's train and test images and evaluate "
        "on train",
        {"dataset": ("stl10",), "metric": ("nll", "acc", "clip", "ssim")},
        blocks=False,
        place="tables 2 and 3, STL-10",
    ),
    Caveat(
        "the authors cast restored images to bytes without a clamp, so that values outside wrap",
        {"task": ("inpainting", "reconstruction"), "method": MODELS},
        blocks=False,
        place="tables 3 and 4",
    ),
    Caveat(
        "the paper judged with CLIP, the preset's judge is another",
        {"table": ("3", "4", "6"), "metric": ("acc", "ur*")},
        blocks=False,
    ),
    Caveat(
        "near the class's share even for unseen: mostly the judge's confusion",
        {"backbone": ("vpsde",), "metric": ("ur:dog",)},
        blocks=False,
    ),
    Caveat(
        "the authors' configuration samples by the probability-flow ODE, the preset by "
        "Euler-Maruyama in 1,000 steps",
        {"dataset": ("cifar10",), "backbone": ("vpsde",), "task": ("generation",)},
        blocks=False,
    ),
    Caveat(
        "no MNIST configuration is published: network, sigma_max and budget are the bench's",
        {"dataset": ("mnist",)},
        blocks=False,
        place="section 4.1",
    ),
    Caveat(
        "the paper states neither network nor budget of its toy",
        {"dataset": ("gaussians",)},
        blocks=False,
        place="section 3.2",
    ),
    Caveat(
        "the authors' code squares element by element (-p product=elementwise), unlike equation 7",
        {"method": ("ort*",)},
        blocks=False,
        place="equation 7",
    ),
    Caveat(
        "the authors' code descends the opposite sign (-p sign=released) of equation 8",
        {"method": ("obt*",)},
        blocks=False,
    ),
    Caveat(
        "probably of one batch of images, too",
        {"task": ("inpainting",), "metric": ("clip", "ssim")},
        blocks=False,
    ),
)


def read_errors() -> tuple[tuple[str, str], ...]:
    """Errors that were read in the paper or in its authors' code: place and reason."""
    return tuple((caveat.place, caveat.reason) for caveat in CAVEATS if caveat.place)


def objections(entry: PublishedValue) -> tuple[str, ...]:
    """Reasons why the published value is no target of any run."""
    return tuple(c.reason for c in CAVEATS if c.blocks and c.concerns(entry))


def remarks(entry: PublishedValue, paper: Sequence[PublishedValue]) -> tuple[str, ...]:
    """Remarks on the value, and contradictions with other values of the ``paper``."""
    reasons = [c.reason for c in CAVEATS if not c.blocks and c.concerns(entry)]
    measurement = (setting(entry), quantity(entry))
    reasons += [
        f"the paper contradicts itself: {other.value:g} in table {other.table}"
        for other in paper
        if (setting(other), quantity(other)) == measurement and other.value != entry.value
    ]
    return tuple(dict.fromkeys(reasons))
