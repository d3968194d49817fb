"""Torch's global generators, which draw dropout alone."""

from __future__ import annotations

import torch


def seed_device(seed: int, device: torch.device) -> None:
    """Seed torch's global generators of the CPU and of ``device``.

    The numbers are those after ``torch.manual_seed``, which seeds every kind of device that torch
    knows and takes a fiftieth of a step of a small network.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)
