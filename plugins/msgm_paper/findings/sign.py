"""The sign of equation 8: as printed it forgets, as released it does the opposite."""

from __future__ import annotations

import torch

from msgm_bench import EpsFn, Process, VarianceExploding
from msgm_paper.findings import toy
from msgm_paper.findings.finding import Finding, Number

NAME, ALPHA = "sign", 0.7
SAMPLES, ITEMS = 10_000, 500
PRINTED, RELEASED, AT_EVERY_STEP = "as printed", "as released", "as released, every step"


def find() -> Finding:
    """UR and NLL of D_f of the closed-form optimum with either sign, beside those without D_f."""
    process = VarianceExploding()
    points = toy.held_out(True, ITEMS)
    numbers, ratios, medians, means = [], {}, {}, {}
    for name, eps in models(process).items():
        ratio = toy.unlearning_ratio(eps, process, SAMPLES)
        bits = toy.nll(eps, process, points)
        finite = bits[torch.isfinite(bits)]
        ratios[name], medians[name] = ratio.value, float(bits.median())
        means[name] = float(finite.mean())
        numbers += [
            Number.of(f"{name}: UR", ratio, "%", 1),
            Number(f"{name}: NLL of D_f, median", medians[name], "bits/dim+8"),
            Number(f"{name}: NLL of D_f, mean", means[name], "bits/dim+8"),
        ]
        if len(finite) < ITEMS:
            numbers.append(
                Number(f"{name}: failed", 100 - 100 * len(finite) / ITEMS, "%", digits=1)
            )
    return Finding(
        NAME,
        "section 3.3, equation 8; losses.py of the released code (--task norm)",
        "L_f is the mean of s . grad log p_0t, to be minimised; the released code minimises its "
        "negative.",
        f"The optimum of equation 9 in closed form on the mixture of section 3.2 (VE, alpha = "
        f"{ALPHA:g}, L_f at every fourth step, or at each), with L_f as printed and with the sign "
        f"of the code: UR of {SAMPLES:,} samples of the probability flow, NLL of {ITEMS} points of "
        "D_f, the mean over integrations that end.",
        tuple(numbers),
        f"As printed it forgets: UR {ratios[PRINTED]:.1f} % against {ratios['unseen']:.1f} % of "
        f"the model without D_f, median NLL {medians[PRINTED]:.2f} against "
        f"{medians['unseen']:.2f}. With the sign of the code UR is {ratios[RELEASED]:.1f} % and "
        f"the median {medians[RELEASED]:.2f}; with L_f at every step {ratios[AT_EVERY_STEP]:.1f} % "
        f"of what is drawn is D_f at a mean NLL of {means[AT_EVERY_STEP]:.2f}: a mean NLL alone "
        "does not say what is forgotten.",
    )


def models(process: Process) -> dict[str, EpsFn]:
    """The model of all data, that without D_f, and equation 9 with both signs of equation 8."""
    return {
        "standard": toy.DENSITY.eps(process),
        "unseen": toy.DENSITY.eps(process, toy.RETAIN),
        PRINTED: toy.moderated(process, ALPHA, sign=1),
        RELEASED: toy.moderated(process, ALPHA, sign=-1),
        AT_EVERY_STEP: toy.moderated(process, ALPHA, sign=-1, every=1),
    }
