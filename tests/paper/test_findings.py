"""The paper's errors: each computation against something that does not share its code."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency
from torch.distributions import MultivariateNormal

from msgm_bench import GaussianMixture, VarianceExploding, VariancePreserving
from msgm_builtin.metrics.frechet import Moments
from msgm_builtin.metrics.frontier import Frontier
from msgm_paper.findings import (
    MODULES,
    contradictions,
    fid,
    find,
    frontier,
    psnr,
    reconstruction,
    sign,
    sums,
    ties,
    toy,
)
from msgm_paper.tables import published_values

MEANS = {0: (-2.0, -2.0), 1: (0.0, 0.0), 2: (2.0, 2.0)}
UNSEEN_NLL = 11.724  # bits/dim + 8 of the exact p_g on D_f, by quadrature


@pytest.fixture
def small(monkeypatch):
    """Sizes with which the findings on the mixture take a second."""
    monkeypatch.setattr(sign, "SAMPLES", 1000)
    monkeypatch.setattr(sign, "ITEMS", 20)
    monkeypatch.setattr(reconstruction, "SAMPLES", 1000)
    monkeypatch.setattr(reconstruction, "ITEMS", 100)


# The mixture -------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [VarianceExploding(), VariancePreserving()])
@pytest.mark.parametrize(("alpha", "direction"), [(0.99, 1), (0.7, 1), (0.7, -1), (1.0, 1)])
def test_the_closed_form_is_where_the_loss_is_least(process, alpha, direction):
    """The gradient of alpha L_g at each step and (1 - alpha) L_f at each fourth is zero there.

    Densities and moments are those of torch's normals, component by component.
    """
    t = torch.full((50,), 0.3, dtype=torch.float64)
    a, sigma = (float(v) for v in process.marginal(t[0]))
    x = 2 * torch.randn(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    v = a**2 + sigma**2
    law = {
        k: MultivariateNormal(a * torch.tensor(m).double(), v * torch.eye(2).double())
        for k, m in MEANS.items()
    }
    density = {k: normal.log_prob(x).exp()[:, None] for k, normal in law.items()}
    noise = {k: sigma * (x - normal.mean) / v for k, normal in law.items()}
    p_g = 0.5 * (density[0] + density[2])
    eps_g = 0.5 * (density[0] * noise[0] + density[2] * noise[2]) / p_g
    eps_hat = toy.moderated(process, alpha, direction)(x, t).requires_grad_()
    retain = p_g * (eps_hat.square() - 2 * eps_hat * eps_g)
    forget = direction * density[1] * eps_hat * noise[1]
    loss = (toy.EVERY * alpha * retain + (1 - alpha) * forget).sum()
    (gradient,) = torch.autograd.grad(loss, eps_hat)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-14)


def test_unseen_is_the_exact_density():
    """UR of its samples is the mass of p_g where the middle is likeliest, its NLL the known one."""
    process = VarianceExploding()
    eps = sign.models(process)["unseen"]
    axis = torch.linspace(-9, 9, 721, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    p_g = toy.DENSITY.log_prob(grid, toy.RETAIN).exp() * float(axis[1] - axis[0]) ** 2
    mass = 100 * float(p_g[toy.is_middle(grid)].sum())
    ratio = toy.unlearning_ratio(eps, process, 4000)
    assert abs(ratio.value - mass) < 4 * math.sqrt(mass * (100 - mass) / 4000)
    bits = toy.nll(eps, process, toy.held_out(True, 400))
    assert float(bits.mean()) == pytest.approx(UNSEEN_NLL, abs=4 * float(bits.std()) / 20)


@pytest.mark.usefixtures("small")
def test_signs():
    """Less of D_f is generated as printed, and more as released, than without D_f."""
    numbers = {n.what: n.value for n in sign.find().numbers}
    ratios = {name: numbers[f"{name}: UR"] for name in ("as printed", "unseen", "as released")}
    assert ratios["as printed"] < ratios["unseen"] < ratios["as released"] < 30
    medians = {name: numbers[f"{name}: NLL of D_f, median"] for name in ratios}
    assert medians["as printed"] > medians["unseen"]


def test_the_frontier_both_ways():
    """The largest NLL_f at an NLL_g is the one whose least NLL_g it is."""
    line = Frontier.of(toy.DENSITY, toy.RETAIN, toy.FORGET, 10.0)
    for retain in (10.6, 10.64, 11.0):
        forget = frontier.highest_forget(line, retain)
        nats, _ = line.lowest_retain((forget - 8) * 2 * math.log(2))
        assert nats / (2 * math.log(2)) + 8 == pytest.approx(retain, abs=1e-9)


def test_the_impossible_cell():
    """0.40 bits/dim below the frontier, as derived by hand in the documentation."""
    numbers = {n.what: n.value for n in frontier.find().numbers}
    assert numbers["published minus possible"] == pytest.approx(-0.40, abs=0.005)
    assert numbers["largest possible at NLL_g = 10.64"] < 20 < 39.01


# Restored images ---------------------------------------------------------------------------


@given(st.integers(0, 1000))
def test_the_mean_term_is_what_is_missing(seed):
    """Of Gaussians with diagonal covariances: |m_a - m_b|^2 of |m_a - m_b|^2 + |s_a - s_b|^2."""
    generator = torch.Generator().manual_seed(seed)
    m_a, m_b, s_a, s_b = torch.rand(4, 5, generator=generator, dtype=torch.float64)
    a, b = (Moments(m, s.square().diag(), 9) for m, s in ((m_a, s_a), (m_b, s_b)))
    whole, part = fid.distances(a, b)
    assert part == pytest.approx(float((s_a - s_b).square().sum()), abs=1e-9)
    assert whole - part == pytest.approx(float((m_a - m_b).square().sum()), abs=1e-9)


def test_lighter_images_cost_nothing_without_the_means():
    """A shift of 64 pixels by a quarter is a distance of 4, and of 0 without the mean term."""
    numbers = {n.what: n.value for n in fid.find().numbers}
    assert numbers["every pixel lighter by a quarter: distance"] == pytest.approx(4.0, abs=1e-6)
    assert numbers["every pixel lighter by a quarter: without the means"] < 1e-6


def test_bytes_wrap():
    """NumPy's bytes, squared, give the PSNR of images of noise whose half or quarter differs."""
    rng = np.random.default_rng(0)
    for share in psnr.SHARES.values():
        a, b = rng.integers(0, 256, (2, 400, 64, 64), dtype=np.uint8)
        b[:, round(64 * share) :] = a[:, round(64 * share) :]
        error = ((a - b) ** 2).mean(dtype=np.float64)
        assert psnr.wrapped_psnr(share) == pytest.approx(10 * np.log10(255**2 / error), abs=0.02)


@pytest.mark.parametrize("seed", [1, 37, 500])
def test_an_undisturbed_latent_gives_the_point_back(seed):
    """For any smooth eps_hat, here a random layer: the error is the solver's and vanishes."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    bias = torch.randn(2, generator=generator, dtype=torch.float64)
    x = torch.randn(20, 2, generator=generator, dtype=torch.float64)

    def eps(x, t):
        return torch.tanh(x @ weights + bias) * t[:, None]

    coarse, fine = (
        reconstruction.reconstruct(eps, VariancePreserving(), x, 0.0, steps) - x
        for steps in (100, 400)
    )
    assert float(fine.norm()) < min(float(coarse.norm()) / 5, 0.02)


def test_the_perturbation_of_a_gaussian():
    """Of N(m, 1) under VP, whose flow has slope 1: the move is (a - 1) (x - m) + sigma eps."""
    process = VariancePreserving()
    law = GaussianMixture(torch.ones(1), torch.tensor([[0.5, -0.5]]), torch.eye(2)[None])
    x = law.sample(4000, torch.Generator().manual_seed(0))[0]
    back = reconstruction.reconstruct(law.eps(process), process, x, reconstruction.T)
    a, sigma = (float(v) for v in process.marginal(torch.tensor(reconstruction.T).double()))
    expected = math.sqrt(sigma**2 + (1 - a) ** 2)
    assert float((back - x).std()) == pytest.approx(expected, rel=0.05)


@pytest.mark.usefixtures("small")
def test_what_comes_back_is_not_what_is_generated():
    """All of D_f returns undisturbed; alike with the point, unlike with the latent perturbed."""
    numbers = {n.what: n.value for n in reconstruction.find().numbers}

    def all_of(text):
        return [value for what, value in numbers.items() if what.endswith(text)]

    assert min(all_of("undisturbed")) == 100
    assert max(all_of("generates")) > 3 * min(all_of("generates"))
    standard, unseen, moderated = all_of("latent perturbed")
    assert standard > unseen + 20 > moderated + 25
    assert max(all_of("image perturbed")) - min(all_of("image perturbed")) < standard - unseen


# Tables ------------------------------------------------------------------------------------


def test_joint_rows_are_sums():
    """All 24, of which 20 are no copies; by hand from tables 2, 6 and 7."""
    numbers = {n.what: n.value for n in sums.find().numbers}
    assert numbers["joint rows"] == numbers["of them sums to the last digit"] == 24
    assert numbers["of them no copies of another table"] == 20


def test_rounded_counts_agree_three_times_in_four():
    """A simulation: multinomial counts of 10,000 samples, each rounded to 0.1 %."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(10_000, (0.11, 0.13, 0.76), 100_000)[:, :2]
    tenths = np.floor(counts / 10 + 0.5)
    joint = np.floor(counts.sum(1) / 10 + 0.5)
    assert (tenths.sum(1) == joint).mean() == pytest.approx(sums.exact_share(), abs=0.01)


@given(st.integers(1, 400), st.integers(1, 400))
def test_equal_proportions(k, j):
    """The p-value is that of scipy's chi^2 test of a table of two by two."""
    table = [[k, 500 - k], [j, 400 + 1 - j]]
    expected = chi2_contingency(table, correction=False).pvalue
    assert ties.equality_p((k, 500), (j, 401)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_newcombes_own_examples():
    """Rows (a) and (d) of table II in Newcombe (1998): 56/70 - 48/80 and 5/56 - 0/29."""
    first = ties.difference((56, 70), (48, 80))
    assert first.ends == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    second = ties.difference((5, 56), (0, 29))
    assert second.ends == (pytest.approx(-0.0381, abs=5e-5), pytest.approx(0.1926, abs=5e-5))


def test_dogs_that_are_ties():
    """In table 2 both variants of MSGM are ties with Unseen, by hand: z = 1.86 and 1.57."""
    finding = ties.find()
    differences = {n.what: n for n in finding.numbers}
    for name in ("ort", "obt"):
        number = differences[f"table 2, vpsde: {name} - unseen"]
        assert number.low < 0 < number.high
    assert "2 of 2 variants of MSGM cannot be told from Unseen on dog" in finding.verdict
    assert "8.2 % is the lowest of all" in finding.verdict
    pairs = {(p.a.table, p.a.backbone, p.a.method, p.b.method): p.p for p in ties.dog_pairs()}
    assert len(pairs) == 18
    assert pairs[2, "vpsde", "ort", "unseen"] == pytest.approx(0.063, abs=1e-3)
    assert pairs[2, "vpsde", "obt", "unseen"] == pytest.approx(0.116, abs=1e-3)


def test_contradictions():
    """Two values of one measurement: MNIST's 13.23 and 14.75, and CIFAR-10's four likelihoods."""
    differing = {(a.value, b.value) for a, b in contradictions.repeated() if a.value != b.value}
    assert differing == {(13.23, 14.75), (3.12, 2.89), (3.2, 2.91), (3.09, 2.92), (3.21, 2.95)}
    places = [(a.table, b.table) for a, b in contradictions.repeated()]
    assert all(a < b for a, b in places)


# The command -------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_all_findings(bench, monkeypatch):
    """Each with claim, computation, numbers and verdict within 80 columns, then what was read."""
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = bench("paper", "msgm", "--findings")
    assert (code, err) == (0, "")
    headings = [line.partition(":")[0] for line in out.splitlines() if line[:1].isalpha()]
    assert [name for name in headings if name in MODULES] == list(MODULES)
    assert out.count("verdict") >= len(MODULES)
    assert max(map(len, out.splitlines())) <= 80
    assert "one batch: the authors' inpainting.py stops after it" in " ".join(out.split())


def test_one_finding(bench):
    """By its name, as text and as JSON."""
    code, out, err = bench("paper", "msgm", "--findings", "sums")
    assert (code, err) == (0, "")
    assert out.startswith("sums: tables 2, 6 and 7")
    assert "frontier" not in out
    code, out, _ = bench("paper", "msgm", "--findings", "sums", "--json")
    document = json.loads(out)
    (finding,) = document["computed"]
    assert code == 0
    assert document["read"] == []
    assert finding["name"] == "sums"
    assert {"what": "joint rows", "value": 24}.items() <= finding["numbers"][0].items()


def test_wrong_requests(bench):
    """A name that is none and options of the tables: exit code 2, with the nearest name."""
    code, _, err = bench("paper", "msgm", "--findings", "sum")
    assert code == 2
    assert "did you mean 'sums'" in err
    assert bench("paper", "msgm", "--findings", "--table", 1)[0] == 2


def test_names_are_those_of_the_findings():
    """Each module finds what it is called after."""
    for name in ("psnr", "sums", "ties", "contradictions", "frontier"):
        (finding,) = find(name)
        assert finding.name == name
        assert finding.numbers
    assert len(published_values()) == 240
