"""Exponential multistep samplers as plugins: one network evaluation a node of a log grid."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench import (
    DPMSolverMultistep,
    ExponentialAdams,
    Model,
    Noise,
    OptionError,
    Options,
    ReverseSampler,
    Sampler,
    Samples,
    hookimpl,
)

Grid = Literal["logsnr", "karras"]


class GridOptions(Options):
    """Budget and grid."""

    nfe: int = Field(24, ge=1, description="network evaluations a sample; the last one denoises")
    grid: Grid = Field(
        "logsnr", description="nodes even in log(sigma/a), or (karras) in (sigma/a)^(1/7)"
    )


class AdamsOptions(GridOptions):
    """Budget, grid and order."""

    order: int = Field(3, ge=1, le=3, description="nodes of the predictor's polynomial")


class DEISOptions(AdamsOptions):
    """Budget, grid and order."""

    grid: Grid = Field(
        "karras", description="nodes even in (sigma/a)^(1/7), or (logsnr) in log(sigma/a)"
    )


class SAOptions(AdamsOptions):
    """Budget, grid, order and noise."""

    tau: float = Field(1.0, ge=0, description="share of noise: 0 is the ODE, 1 the reverse SDE")


GridOptionsT = TypeVar("GridOptionsT", bound=GridOptions, default=GridOptions, covariant=True)


class GridSamplerPlugin(Sampler[GridOptionsT]):
    """A sampler that evaluates the network once at each node; no process limits their number."""

    @abstractmethod
    def reverse_sampler(self) -> ReverseSampler:
        """The reverse sampler, with its budget."""

    def check(self, model: Model, t: float = 1.0) -> None:
        """Refuse a start at which samplers stop.

        Raises:
            OptionError: ``t`` is not above the process's t_sampling.
        """
        least = model.process.t_sampling
        if t <= least:
            raise OptionError(f"{self.name} from t = {t:g}", f"{least:g} < t <= 1")

    def sample(
        self, model: Model, noise: Noise, start: tuple[Tensor, float] | None = None
    ) -> Samples:
        """Draw ``noise.count`` items, from the prior or from ``start``."""
        sampler = self.reverse_sampler()
        return sampler(model.eps_fn, model.process, model.shape, noise, start=start)


class DEIS(GridSamplerPlugin[DEISOptions]):
    """tAB-DEIS: eps_hat as a polynomial in log(sigma/a) through the last nodes; deterministic."""

    name = "deis"
    citation = "Zhang and Chen 2023, arXiv:2204.13902, section 3.3"

    def reverse_sampler(self) -> ReverseSampler:
        """Exponential Adams-Bashforth steps of eps_hat."""
        c = self.options
        return ExponentialAdams(c.nfe, c.grid, order=c.order, prediction="epsilon")


class UniPC(GridSamplerPlugin[AdamsOptions]):
    """UniPC: x0_hat as a polynomial in log(a/sigma), corrected by the next node; deterministic."""

    name = "unipc"
    citation = "Zhao et al. 2023, arXiv:2302.04867, algorithms 1 and 2"

    def reverse_sampler(self) -> ReverseSampler:
        """Exponential Adams steps of x0_hat with their corrector."""
        c = self.options
        return ExponentialAdams(c.nfe, c.grid, order=c.order, corrector=True)


class SASolver(GridSamplerPlugin[SAOptions]):
    """SA-Solver: UniPC's steps on a reverse SDE with ``tau`` times its noise."""

    name = "sa"
    citation = "Xue et al. 2023, arXiv:2309.05019, section 4"

    def reverse_sampler(self) -> ReverseSampler:
        """Stochastic exponential Adams steps of x0_hat with their corrector."""
        c = self.options
        return ExponentialAdams(c.nfe, c.grid, order=c.order, corrector=True, tau=c.tau)


class DPMSolver2M(GridSamplerPlugin):
    """DPM-Solver++ 2M: x0_hat extrapolated to the middle of a step; deterministic."""

    name = "dpmpp_2m"
    citation = "Lu et al. 2022, arXiv:2211.01095, algorithm 2"

    def reverse_sampler(self) -> ReverseSampler:
        """The multistep solver of the ODE."""
        return DPMSolverMultistep(self.options.nfe, self.options.grid)


class DPMSolver2MSDE(GridSamplerPlugin):
    """DPM-Solver++ 2M of the reverse SDE, which forgets an error of the prior on its way."""

    name = "dpmpp_2m_sde"
    citation = "Lu et al. 2022, arXiv:2211.01095, appendix B"

    def reverse_sampler(self) -> ReverseSampler:
        """The multistep solver of the SDE."""
        return DPMSolverMultistep(self.options.nfe, self.options.grid, stochastic=True)


@hookimpl
def register_samplers() -> Sequence[type[Sampler]]:
    """All exponential multistep samplers."""
    return [DEIS, UniPC, DPMSolver2M, DPMSolver2MSDE, SASolver]
