"""SFD's noise levels: sigma/a in halves of the data's range, on the process of a model."""

from __future__ import annotations

import torch

from msgm_bench import Model, OptionError, half_range

PUBLISHED_SIGMA = 2.5  # t = 440 of the released DDPM
BELOW_END = 1 - 1e-6  # so that rounding leads to no noise beyond the process's


def noise_levels(model: Model) -> tuple[float, float]:
    """The least and the most noise of the process."""
    process = model.process
    ends = torch.tensor([process.t_min, process.T], dtype=torch.float64)
    low, high = (process.noise_to_signal(ends) / half_range(model.codec)).tolist()
    return low, high


def generator_sigma(model: Model, sigma: float | None) -> float:
    """``sigma``; where it is None the published one, or the most that the process has."""
    if sigma is not None:
        return sigma
    return min(PUBLISHED_SIGMA, BELOW_END * noise_levels(model)[1])


def time_shares(model: Model, sigma_range: tuple[float, float]) -> tuple[float, float]:
    """Times of both ends of ``sigma_range`` as shares of the process's, within [0, 1]."""
    process = model.process
    noise_to_signal = half_range(model.codec) * torch.tensor(sigma_range, dtype=torch.float64)
    ends = process.t_from_noise_to_signal(noise_to_signal)
    low, high = ((ends - process.t_min) / (process.T - process.t_min)).clamp(0.0, 1.0).tolist()
    return low, high


def check_noise_levels(model: Model, sigma_range: tuple[float, float]) -> None:
    """Refuse noise levels of which none is the process's.

    Raises:
        OptionError: All of ``sigma_range`` lies beyond one of its ends.
    """
    low, high = noise_levels(model)
    if sigma_range[0] >= high or sigma_range[1] <= low:
        text = " to ".join(f"{sigma:g}" for sigma in sigma_range)
        raise OptionError(f"sfd: sigma_range = {text} on this process", f"{low:g} to {high:g}")
