"""The one-step sampler of distilled generators."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    CountedEps,
    Model,
    Noise,
    OptionError,
    Options,
    Sampler,
    Samples,
    half_range,
    hookimpl,
    posterior_mean,
)


class OneStepOptions(Options):
    """The noise at the start."""

    nfe: int = Field(1, ge=1, description="most network evaluations a sample; one is used")
    sigma: float = Field(
        2.5, gt=0, description="sigma/a of the noise, in halves of the data's range"
    )


class OneStep(Sampler[OneStepOptions]):
    """One-step generator: x0_hat = (x - sigma eps_hat)/a of pure noise at one time.

    x = sigma(t) z with z ~ N(0, I), and sigma(t)/a(t) = ``sigma``. For distilled models; any other
    diffusion model gives the mean of its data.
    """

    name = "one_step"
    one_step = True
    citation = "Luhman and Luhman 2021, arXiv:2101.02388; Zhou et al. 2024, arXiv:2404.04057"

    def check(self, model: Model, t: float = 1.0) -> None:
        """Refuse a ``sigma`` that the process does not reach.

        Raises:
            OptionError: The process has less noise at T, or more at t_min.
        """
        process, ratio = model.process, self.options.sigma * half_range(model.codec)
        ends = torch.tensor([process.t_min, process.T], dtype=torch.float64)
        low, high = process.noise_to_signal(ends).tolist()
        if not low <= ratio <= high:
            raise OptionError(f"sigma/a = {ratio:g} on this process", f"{low:g} to {high:g}")

    def sample(
        self, model: Model, noise: Noise, start: tuple[Tensor, float] | None = None
    ) -> Samples:
        """Denoise pure noise, or ``start``, once."""
        process = model.process
        if start is None:
            ratio = self.options.sigma * half_range(model.codec)
            t = torch.tensor(process.nearest_time(ratio), dtype=torch.float64)
            x = process.marginal(t)[1] * noise.normal(model.shape)
        else:
            x, t = start[0], torch.tensor(start[1], dtype=torch.float64)
        eps = CountedEps(model.eps_fn)
        with torch.no_grad():
            return Samples(posterior_mean(eps, process, x, t), eps.nfe)


@hookimpl
def register_samplers() -> list[type[Sampler]]:
    """The one-step sampler."""
    return [OneStep]
