"""The reverse-time samplers as plugins: at most ``nfe`` network evaluations a sample."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench import (
    DDIM,
    Ancestral,
    EulerMaruyama,
    Model,
    Noise,
    Options,
    PredictorCorrector,
    ProbabilityFlow,
    ReverseSampler,
    Sampler,
    Samples,
    hookimpl,
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
    def solver(self) -> ReverseSampler:
        """The solver, before it is told its budget."""

    def check(self, model: Model, t: float = 1.0) -> None:
        """The budget must hold a step, and the process have so many up to ``t``."""
        model.process.grid(self.solver().with_nfe(self.options.nfe).steps, t)

    def sample(
        self, model: Model, noise: Noise, start: tuple[Tensor, float] | None = None
    ) -> Samples:
        """Draw ``noise.count`` items, from the prior or from ``start``."""
        solver = self.solver().with_nfe(self.options.nfe)
        return solver(model.eps_fn, model.process, model.shape, noise, start=start)


class Heun(SolverSampler):
    """Probability-flow ODE by Heun's second-order method on Karras' grid; deterministic."""

    name = "heun"
    citation = "Karras et al. 2022, arXiv:2206.00364, algorithm 1"

    def solver(self) -> ReverseSampler:
        """Second order."""
        return ProbabilityFlow()


class Euler(SolverSampler):
    """Euler-Maruyama steps of the reverse SDE."""

    name = "em"
    citation = "Song et al. 2021, arXiv:2011.13456, appendix D"

    def solver(self) -> ReverseSampler:
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

    def solver(self) -> ReverseSampler:
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

    def solver(self) -> ReverseSampler:
        """The chain."""
        return Ancestral(variance=self.options.variance)


class DDIMSamplerOptions(SamplerOptions):
    """Budget and eta."""

    eta: float = Field(0.0, ge=0, le=1, description="0 is deterministic, 1 ancestral")


class DDIMSampler(SolverSampler[DDIMSamplerOptions]):
    """DDIM: fewer steps, deterministic at eta = 0."""

    name = "ddim"
    citation = "Song et al. 2021, arXiv:2010.02502, equation 12"

    def solver(self) -> ReverseSampler:
        """Strided."""
        return DDIM(eta=self.options.eta)


@hookimpl
def register_samplers() -> Sequence[type[Sampler]]:
    """All of them."""
    return [Heun, Euler, Corrected, AncestralSampler, DDIMSampler]
