"""The samplers, as plugins: each spends at most ``nfe`` network evaluations a sample."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench import (
    DDIM,
    Ancestral,
    CountedEps,
    EulerMaruyama,
    Model,
    Noise,
    OptionError,
    Options,
    PredictorCorrector,
    ProbabilityFlow,
    Sampler,
    Samples,
    Solver,
    half_range,
    hookimpl,
    posterior_mean,
)


class SamplerOptions(Options):
    """The budget of every sampler."""

    nfe: int = Field(1000, ge=1, description="most network evaluations a sample")


SamplerOptionsT = TypeVar(
    "SamplerOptionsT", bound=SamplerOptions, default=SamplerOptions, covariant=True
)


class SolverSampler(Sampler[SamplerOptionsT]):
    """A sampler that runs one of the ruler's solvers within its budget."""

    @abstractmethod
    def solver(self) -> Solver:
        """The solver, before it is told its budget."""

    def check(self, model: Model, t: float = 1.0) -> None:
        """The budget must hold a step, and the process have so many up to ``t``."""
        model.process.grid(self.solver().budget_for(self.options.nfe).steps, t)

    def sample(
        self, model: Model, noise: Noise, start: tuple[Tensor, float] | None = None
    ) -> Samples:
        """Draw ``noise.count`` items, from the prior or from ``start``."""
        solver = self.solver().budget_for(self.options.nfe)
        return solver(model.forward_eps, model.process, model.shape, noise, start=start)


class Heun(SolverSampler):
    """Probability-flow ODE by Heun's second-order method on Karras' grid; deterministic."""

    name = "heun"
    citation = "Karras et al. 2022, arXiv:2206.00364, algorithm 1"

    def solver(self) -> Solver:
        """Second order."""
        return ProbabilityFlow()


class Euler(SolverSampler):
    """Euler-Maruyama steps of the reverse SDE."""

    name = "em"
    citation = "Song et al. 2021, arXiv:2011.13456, appendix D"

    def solver(self) -> Solver:
        """First order."""
        return EulerMaruyama()


class CorrectedOptions(SamplerOptions):
    """Budget and corrector."""

    corrector_steps: int = Field(1, ge=0, description="Langevin steps before each prediction")
    snr: float = Field(0.16, gt=0, description="signal-to-noise ratio of a Langevin step")
    norm: Literal["expected", "item", "batch"] = Field(
        "expected",
        description="norms in the step size: their expectation, of each item, or batch means "
        "as in score_sde (which make a sample depend on its batch)",
    )


class Corrected(SolverSampler[CorrectedOptions]):
    """Predictor-corrector: reverse diffusion, and Langevin steps before each."""

    name = "pc"
    citation = "Song et al. 2021, arXiv:2011.13456, algorithms 2 and 3"

    def solver(self) -> Solver:
        """Both."""
        c = self.options
        return PredictorCorrector(corrector_steps=c.corrector_steps, snr=c.snr, norm=c.norm)


class AncestralSamplerOptions(SamplerOptions):
    """Budget and variance."""

    variance: Literal["beta", "posterior"] = Field("beta", description="of a reverse step")


class AncestralSampler(SolverSampler[AncestralSamplerOptions]):
    """Ancestral sampling of the reverse chain."""

    name = "ancestral"
    citation = "Ho et al. 2020, arXiv:2006.11239, algorithm 2"

    def solver(self) -> Solver:
        """The chain."""
        return Ancestral(variance=self.options.variance)


class DDIMSamplerOptions(SamplerOptions):
    """Budget and eta."""

    eta: float = Field(0.0, ge=0, le=1, description="0 is deterministic, 1 ancestral")


class DDIMSampler(SolverSampler[DDIMSamplerOptions]):
    """DDIM: fewer steps, deterministic at eta = 0."""

    name = "ddim"
    citation = "Song et al. 2021, arXiv:2010.02502, equation 12"

    def solver(self) -> Solver:
        """Strided."""
        return DDIM(eta=self.options.eta)


class OneStepOptions(Options):
    """The noise that it starts from."""

    nfe: int = Field(1, ge=1, description="network evaluations a sample: it takes one")
    sigma: float = Field(
        2.5, gt=0, description="sigma/a of the noise, in halves of the data's range"
    )


class OneStep(Sampler[OneStepOptions]):
    """One-step generator: x0_hat = (x - sigma eps_hat)/a of pure noise at one time.

    x = sigma(t) z with z ~ N(0, I), and sigma(t)/a(t) = ``sigma``. For models that a distillation
    taught to end there; another diffusion model gives the mean of its data.
    """

    name = "one_step"
    citation = "Luhman and Luhman 2021, arXiv:2101.02388; Zhou et al. 2024, arXiv:2404.04057"

    def check(self, model: Model, t: float = 1.0) -> None:
        """The process must have so much noise.

        Raises:
            OptionError: It has less, even at T, or more at t_min.
        """
        process, ratio = model.process, self.options.sigma * half_range(model.codec)
        ends = torch.tensor([process.t_min, process.T], dtype=torch.float64)
        low, high = process.noise_to_signal(ends).tolist()
        if not low <= ratio <= high:
            raise OptionError(f"sigma/a = {ratio:g} on this process", f"{low:g} to {high:g}")

    def sample(
        self, model: Model, noise: Noise, start: tuple[Tensor, float] | None = None
    ) -> Samples:
        """Denoise pure noise once, or ``start``."""
        process = model.process
        if start is None:
            ratio = self.options.sigma * half_range(model.codec)
            t = torch.tensor(process.nearest_time(ratio), dtype=torch.float64)
            x = process.coefficients(t)[1] * noise.normal(model.shape)
        else:
            x, t = start[0], torch.tensor(start[1], dtype=torch.float64)
        eps = CountedEps(model.forward_eps)
        with torch.no_grad():
            return Samples(posterior_mean(eps, process, x, t), eps.nfe)


@hookimpl
def register_samplers() -> Sequence[type[Sampler]]:
    """All of them."""
    return [Heun, Euler, Corrected, AncestralSampler, DDIMSampler, OneStep]
