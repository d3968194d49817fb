"""The processes and the distributions with closed forms that the oracles share."""

from __future__ import annotations

import pytest
import torch

from msgm_bench.diffusion import (
    DiscreteDDPM,
    GaussianMixture,
    Process,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)

PROCESSES = [
    VarianceExploding(),
    VariancePreserving(),
    SubVariancePreserving(),
    DiscreteDDPM(),
]


@pytest.fixture(params=PROCESSES, ids=lambda p: type(p).__name__)
def process(request: pytest.FixtureRequest) -> Process:
    """Each forward process with its default parameters."""
    return request.param


@pytest.fixture
def gaussian() -> GaussianMixture:
    """A Gaussian in 2-D with independent coordinates."""
    return GaussianMixture(
        torch.ones(1), torch.tensor([[0.7, -0.3]]), torch.diag(torch.tensor([0.5, 1.5]))[None]
    )


@pytest.fixture
def mixture() -> GaussianMixture:
    """Three correlated Gaussians in 2-D."""
    return GaussianMixture(
        torch.tensor([4.0, 2.0, 4.0]),
        torch.tensor([[0.0, 0.0], [2.0, 1.0], [-2.0, 2.0]]),
        torch.tensor(
            [[[0.5, 0.0], [0.0, 0.5]], [[1.0, 0.3], [0.3, 0.6]], [[0.4, -0.2], [-0.2, 0.8]]]
        ),
    )
