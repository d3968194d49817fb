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


class ReverseSamplerPlugin(Sampler[SamplerOptionsT]):
    """A sampler that runs one of the core's reverse samplers within its budget."""

    @abstractmethod
    def reverse_sampler(self) -> ReverseSampler:
        """The reverse sampler, without its budget."""

    def check(self, model: Model, t: float = 1.0) -> None:
        """Refuse a budget without a step, or with more steps than the process has up to ``t``.

        Raises:
            OptionError: The budget is one of these.
        """
        model.process.grid(self.reverse_sampler().with_nfe(self.options.nfe).steps, t)

    def sample(
        self, model: Model, noise: Noise, start: tuple[Tensor, float] | None = None
    ) -> Samples:
        """Draw ``noise.count`` items, from the prior or from ``start``."""
        sampler = self.reverse_sampler().with_nfe(self.options.nfe)
        return sampler(model.eps_fn, model.process, model.shape, noise, start=start)


class HeunSampler(ReverseSamplerPlugin):
    """Probability-flow ODE by Heun's second-order method on Karras' grid; deterministic."""

    name = "heun"
    citation = "Karras et al. 2022, arXiv:2206.00364, algorithm 1"

    def reverse_sampler(self) -> ReverseSampler:
        """The probability-flow ODE."""
        return ProbabilityFlow()


class EulerMaruyamaSampler(ReverseSamplerPlugin):
    """Euler-Maruyama steps of the reverse SDE."""

    name = "em"
    citation = "Song et al. 2021, arXiv:2011.13456, appendix D"

    def reverse_sampler(self) -> ReverseSampler:
        """Euler-Maruyama steps."""
        return EulerMaruyama()


class PredictorCorrectorOptions(SamplerOptions):
    """Budget and corrector."""

    corrector_steps: int = Field(1, ge=0, description="Langevin steps before each prediction")
    snr: float = Field(0.16, gt=0, description="signal-to-noise ratio of a Langevin step")
    norm: Literal["expected", "item", "batch"] = Field(
        "expected",
        description="norms in the step size: their expectation, each item's own, or batch means "
        "as in score_sde (which make a sample depend on its batch)",
    )


class PredictorCorrectorSampler(ReverseSamplerPlugin[PredictorCorrectorOptions]):
    """Predictor-corrector: reverse diffusion, and Langevin steps before each."""

    name = "pc"
    citation = "Song et al. 2021, arXiv:2011.13456, algorithms 2 and 3"

    def reverse_sampler(self) -> ReverseSampler:
        """Reverse diffusion and Langevin steps."""
        c = self.options
        return PredictorCorrector(corrector_steps=c.corrector_steps, snr=c.snr, norm=c.norm)


class AncestralSamplerOptions(SamplerOptions):
    """Budget and variance."""

    variance: Literal["beta", "posterior"] = Field("beta", description="variance of a reverse step")


class AncestralSampler(ReverseSamplerPlugin[AncestralSamplerOptions]):
    """Ancestral sampling of the reverse chain."""

    name = "ancestral"
    citation = "Ho et al. 2020, arXiv:2006.11239, algorithm 2"

    def reverse_sampler(self) -> ReverseSampler:
        """The reverse chain."""
        return Ancestral(variance=self.options.variance)


class DDIMSamplerOptions(SamplerOptions):
    """Budget and eta."""

    eta: float = Field(0.0, ge=0, le=1, description="0 is deterministic, 1 ancestral")


class DDIMSampler(ReverseSamplerPlugin[DDIMSamplerOptions]):
    """DDIM: fewer steps, deterministic at eta = 0."""

    name = "ddim"
    citation = "Song et al. 2021, arXiv:2010.02502, equation 12"

    def reverse_sampler(self) -> ReverseSampler:
        """The strided chain."""
        return DDIM(eta=self.options.eta)


@hookimpl
def register_samplers() -> Sequence[type[Sampler]]:
    """All reverse-time samplers."""
    return [
        HeunSampler,
        EulerMaruyamaSampler,
        PredictorCorrectorSampler,
        AncestralSampler,
        DDIMSampler,
    ]
