"""Tests of a device: ``MSGM_BENCH_TEST_DEVICE`` names it, ``cuda`` where it is not set.

With ``cpu`` they run as a smoke test; without a CUDA device and that variable they are skipped.
"""

from __future__ import annotations

import os

import pytest
import torch

from msgm_bench.training import Runtime

DEVICE = os.environ.get("MSGM_BENCH_TEST_DEVICE", "cuda")


@pytest.fixture(scope="session")
def runtime():
    """The device, in fp32."""
    if DEVICE.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return Runtime.select(DEVICE)
