"""The exponential multistep samplers as plugins."""

from __future__ import annotations

import pytest
import torch

from msgm_bench import (
    DiscreteDDPM,
    DPMSolverMultistep,
    ExponentialAdams,
    GaussianMixture,
    IdentityCodec,
    Model,
    Noise,
    OptionError,
)
from msgm_bench.registry import registry
from msgm_bench.testing import check_sampler

LAW = GaussianMixture(torch.ones(1), torch.tensor([[0.7, -0.3]]), 0.3 * torch.eye(2)[None])


class Exact(torch.nn.Module):
    """The exact eps_hat of the law."""

    def __init__(self, process):
        super().__init__()
        self.eps = LAW.eps(process)

    def forward(self, x_t, t, condition=None):
        """eps_hat."""
        return self.eps(x_t, t)


def model_of(process):
    """A model of it."""
    return Model(Exact(process), process, IdentityCodec(), (2,))


PLUGINS = [
    ("deis", {"order": 2}, ExponentialAdams(16, "karras", order=2, prediction="epsilon")),
    ("unipc", {"order": 2}, ExponentialAdams(16, "logsnr", order=2, corrector=True)),
    ("sa", {"tau": 0.5}, ExponentialAdams(16, "logsnr", corrector=True, tau=0.5)),
    ("dpmpp_2m", {"grid": "karras"}, DPMSolverMultistep(16, "karras")),
    ("dpmpp_2m_sde", {}, DPMSolverMultistep(16, stochastic=True)),
]


@pytest.mark.parametrize(("name", "options", "solver"), PLUGINS, ids=[p[0] for p in PLUGINS])
def test_the_plugin_is_its_solver(name, options, solver):
    """Its options reach the solver: same noise, same samples, the budget spent."""
    model = model_of(DiscreteDDPM())
    sampler = registry().create("samplers", name, {"nfe": 16, **options})
    samples = sampler.sample(model, Noise(0, 0, 5))
    same = solver(model.eps_fn, model.process, (2,), Noise(0, 0, 5))
    assert torch.equal(samples.x, same.x)
    assert samples.nfe == 16


@pytest.mark.parametrize("name", ["deis", "unipc", "dpmpp_2m", "dpmpp_2m_sde", "sa"])
def test_sixteen_evaluations_keep_the_law(name):
    """The conformance kit's moments at a budget of 16, on three processes."""
    check_sampler(type(registry().create("samplers", name)), {"nfe": 16})


def test_a_start_without_noise_is_refused():
    """A discrete process has more nodes than grid times, but none at or below t_sampling."""
    model = model_of(DiscreteDDPM())
    sampler = registry().create("samplers", "deis", {"nfe": 32})
    sampler.check(model, 0.02)
    with pytest.raises(OptionError, match=r"deis from t = 0\.001"):
        sampler.check(model, 0.001)
