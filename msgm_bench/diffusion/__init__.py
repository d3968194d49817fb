"""Diffusion: processes, noise, samplers, likelihoods and a closed-form oracle."""

from __future__ import annotations

from msgm_bench.diffusion.adams_likelihood import adams_nll
from msgm_bench.diffusion.ddpm import DiscreteDDPM
from msgm_bench.diffusion.ddpm_samplers import DDIM, Ancestral
from msgm_bench.diffusion.elbo import elbo_nll
from msgm_bench.diffusion.exponential_samplers import DPMSolverMultistep, ExponentialAdams
from msgm_bench.diffusion.guidance import guided
from msgm_bench.diffusion.inpainting import Inpainting
from msgm_bench.diffusion.likelihood import Likelihood, bits_per_dim, ode_nll
from msgm_bench.diffusion.mixture import GaussianMixture
from msgm_bench.diffusion.noise import BLOCK, Noise, derive_seed
from msgm_bench.diffusion.noise_prediction import CountedEps, EpsFn
from msgm_bench.diffusion.ode_samplers import ProbabilityFlow
from msgm_bench.diffusion.process import Process, per_item
from msgm_bench.diffusion.processes import (
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from msgm_bench.diffusion.reconstruction import (
    AdamsEncoder,
    Encoder,
    HeunEncoder,
    reconstruct_latent,
    reconstruct_partial,
)
from msgm_bench.diffusion.samplers import ReverseSampler, Samples, posterior_mean
from msgm_bench.diffusion.sde_samplers import EulerMaruyama, PredictorCorrector

__all__ = [
    "BLOCK",
    "DDIM",
    "AdamsEncoder",
    "Ancestral",
    "CountedEps",
    "DPMSolverMultistep",
    "DiscreteDDPM",
    "Encoder",
    "EpsFn",
    "EulerMaruyama",
    "ExponentialAdams",
    "GaussianMixture",
    "HeunEncoder",
    "Inpainting",
    "Likelihood",
    "Noise",
    "PredictorCorrector",
    "ProbabilityFlow",
    "Process",
    "ReverseSampler",
    "Samples",
    "SubVariancePreserving",
    "VarianceExploding",
    "VariancePreserving",
    "adams_nll",
    "bits_per_dim",
    "derive_seed",
    "elbo_nll",
    "guided",
    "ode_nll",
    "per_item",
    "posterior_mean",
    "reconstruct_latent",
    "reconstruct_partial",
]
