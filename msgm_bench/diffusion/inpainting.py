"""Inpainting: samples of unknown pixels for known ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from msgm_bench.diffusion.noise import Noise
from msgm_bench.diffusion.noise_prediction import CountedEps
from msgm_bench.diffusion.process import Process
from msgm_bench.diffusion.sde_samplers import PredictorCorrector
from msgm_bench.errors import OptionError


@dataclass(frozen=True, eq=False)
class Inpainting(PredictorCorrector):
    """Predictor-corrector that puts a(t) y + sigma(t) z in the place of known pixels.

    The replacement follows every corrector and every predictor update, with fresh z; the result is
    the posterior mean on unknown pixels and y itself on known ones.  With `corrector_steps` = 0
    (predictor only) the draws are biased at any number of steps: known pixels are noised
    independently of the unknown ones, and only the corrector lets the two agree.  Short
    corrector steps leave some of the bias: with five at each of 1,000 times, the conditional mean
    of a correlated Gaussian falls short by 5 % (VE) and 9 % (VP, DDPM) at `snr` = 0.16, and by
    0.3 % and 1.4 % at 0.7.

    Attributes:
        known: y [N, *item_shape], the clean images, in model space.
        mask: 1 where known, 0 where to be drawn, broadcastable to y.

    `denoise=False` returns the noisy x on unknown pixels, which is what the released code of
    score_sde does by mistake: there the denoised x is overwritten in the replacement.

    Source: Song et al. 2021, section 5 and appendix I.2, Eq. 52.
    """

    known: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0))
    mask: Tensor = dataclasses.field(default_factory=lambda: torch.ones(()))

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            OptionError: if the mask does not fit, is not 0/1, or leaves nothing to draw.
        """
        super().__post_init__()
        m = self.mask
        if not bool(((m == 0) | (m == 1)).all()):
            raise OptionError("an inpainting mask with values other than 0 and 1", "0 or 1")
        try:
            m.expand(self.known.shape)
        except RuntimeError as error:
            shapes = f"a mask of shape {tuple(m.shape)} for images {tuple(self.known.shape)}"
            raise OptionError(shapes, "a shape that broadcasts") from error

    def constrain(self, process: Process, x: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Replace known pixels by a fresh draw of the perturbation kernel."""
        a, sigma = process.marginal(t)
        z = noise.normal(tuple(x.shape[1:]))
        return self.mask * (a * self.known + sigma * z) + (1 - self.mask) * x

    def solve(
        self, eps: CountedEps, process: Process, x: Tensor, t_start: float, noise: Noise
    ) -> Tensor:
        """Carry x from t_start to the end; known pixels end at y."""
        start = torch.tensor(t_start, dtype=torch.float64)
        x = super().solve(eps, process, self.constrain(process, x, start, noise), t_start, noise)
        return self.mask * self.known + (1 - self.mask) * x
