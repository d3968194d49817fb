"""PSNR of 8-bit differences whose squares wrap around."""

from __future__ import annotations

import math

from msgm_paper.findings.finding import Finding, Number
from msgm_paper.findings.places import values_at

NAME, LEVELS = "psnr", 256
SHARES = {"half": 0.5, "a quarter": 0.25}  # of an image that is drawn: CIFAR-10 and STL-10, CelebA


def find() -> Finding:
    """PSNR of noise under 8-bit arithmetic, beside the published PSNR and SSIM."""
    inpainted = values_at(metric="psnr", task="inpainting")
    halves = [entry.value for entry in inpainted if entry.dataset != "celeba"]
    quarters = [entry.value for entry in inpainted if entry.dataset == "celeba"]
    ssim = [entry.value for entry in values_at(metric="ssim")]
    wrapped = {what: wrapped_psnr(share) for what, share in SHARES.items()}
    published = {"half": halves, "a quarter": quarters}
    numbers = [Number("mean square modulo 256", wrapped_square(), digits=1)]
    for what, values in published.items():
        numbers += [
            Number(f"{what} drawn: PSNR if squares wrap", wrapped[what], "dB"),
            Number(f"{what} drawn: published, least", min(values), "dB"),
            Number(f"{what} drawn: published, largest", max(values), "dB"),
        ]
    return Finding(
        NAME,
        "tables 3 and 4, PSNR",
        f"PSNR within {max(halves) - min(halves):.2f} dB over two datasets and four methods, "
        f"while SSIM spans {min(ssim):.2f} to {max(ssim):.2f}.",
        "Squares of differences of bytes, modulo 256, whatever the images are: the mean over all "
        "differences, and the PSNR if that is the error of the drawn part of an image.",
        tuple(numbers),
        f"Noise whose squares wrap has {wrapped['half']:.1f} and {wrapped['a quarter']:.1f} dB; "
        f"the tables have {min(halves):.1f} to {max(halves):.1f} and {max(quarters):.1f}. A "
        "suspicion, and no proof.",
    )


def wrapped_square() -> float:
    """Mean of d^2 modulo 256 over all differences d of two bytes that are equally likely."""
    return sum(d * d % LEVELS for d in range(LEVELS)) / LEVELS


def wrapped_psnr(share: float) -> float:
    """10 log10(255^2 / (share * wrapped_square)) in dB, where ``share`` of the pixels differ."""
    return 10 * math.log10((LEVELS - 1) ** 2 / (share * wrapped_square()))
