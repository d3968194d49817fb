"""Equivalence margins: for each metric the largest difference between equal values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Margin:
    """Largest difference between two values that count as equal.

    Attributes:
        width: In the unit of the metric.
        unit: The unit.
        reason: Reason for the width.
    """

    width: float
    unit: str
    reason: str


MARGINS = {
    "ur": Margin(
        2.0,
        "points",
        "two honest draws of 10,000 samples at 25 % lie up to 1.2 points apart, and the interval "
        "of ours is 0.85 points to each side",
    ),
    "nll": Margin(
        0.1,
        "bits/dim",
        "the loss on retain within the boards' gate; 10,000 items have an error of 0.02",
    ),
    "acc": Margin(3.0, "points", "2,000 images of two CIFAR-10 classes leave 2.2 at 50 %"),
    "clip": Margin(0.05, "1", "the paper's methods differ by 0.08 at most"),
    "ssim": Margin(0.02, "1", "the paper's methods differ by 0.02, printed with two decimals"),
    "psnr": Margin(0.5, "dB", "12 % of the squared error"),
    "fid": Margin(1.0, "1", "the paper's methods differ by 0.4 to 2.9"),
}
