"""The built-in networks: shapes, their first prediction, and the meaning of their output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from msgm_bench import (
    Backbone,
    DataStats,
    DiscreteDDPM,
    GaussianMixture,
    IncompatibleError,
    Model,
    Process,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)
from msgm_builtin.backbones.ddpm import DDPM
from msgm_builtin.backbones.networks import ResidualMLP, TimeEmbedding, UNet, unet
from msgm_builtin.backbones.subvpsde import SubVPSDE
from msgm_builtin.backbones.vesde import VESDE
from msgm_builtin.backbones.vpsde import VPSDE

PROCESSES = (VarianceExploding(), VariancePreserving(), SubVariancePreserving(), DiscreteDDPM())
BACKBONES = (VESDE, VPSDE, SubVPSDE, DDPM)
SMALL = {"width": 16, "depth": 2, "channels": (8, 16), "layers": 1, "attention": (4,)}


@pytest.fixture(params=PROCESSES, ids=lambda p: type(p).__name__)
def process(request: pytest.FixtureRequest) -> Process:
    """Each forward process."""
    return request.param


def build(
    backbone: type[Backbone], shape: tuple[int, ...], classes: int | None = None, **options: Any
) -> Model:
    """A small model for items of ``shape``, always with the same weights."""
    levels = 256 if len(shape) == 3 else None
    stats = DataStats(shape, levels, nll_offset=0.0, std=0.3, max_distance=9.0, classes=classes)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return backbone.create({**SMALL, **options}).build(stats).eval()


def small_unet(process: Process, embedding: Any, **changes: Any) -> UNet:
    """A U-Net for 8x8 grey images, always with the same weights, none of them zero."""
    options: Mapping[str, Any] = {
        "shape": (1, 8, 8),
        "channels": (8, 16),
        "layers": 1,
        "attention": (4,),
        "dropout": 0.0,
    } | changes
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = unet(process=process, embedding=embedding, **options).eval()
        with torch.no_grad():
            for parameter in net.unet.conv_out.parameters():
                parameter.normal_(std=0.1)
        return net


def inputs(process: Process, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Five noised items at times from t_min to 1."""
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))
    t = torch.linspace(process.t_min, 1, 5)
    return process.perturb(x, t, x.flip(0)), t


@pytest.mark.parametrize("network", ["mlp", "unet"])
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_images_keep_their_shape(
    backbone: type[Backbone], network: str, shape: tuple[int, ...]
) -> None:
    """Both networks return finite noise of the shape of the images, at every time."""
    model = build(backbone, shape, network=network)
    x, t = inputs(model.process, shape)
    with torch.no_grad():
        eps = model.eps(x, t)
    assert eps.shape == x.shape
    assert eps.dtype == torch.float32
    assert bool(eps.isfinite().all())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_points_get_the_mlp(backbone: type[Backbone]) -> None:
    """Points in the plane take the MLP of themselves and keep their shape; images the U-Net."""
    model = build(backbone, (2,))
    assert isinstance(model.network, ResidualMLP)
    assert isinstance(build(backbone, (1, 8, 8)).network, UNet)
    x, t = inputs(model.process, (2,))
    with torch.no_grad():
        assert model.eps(x, t).shape == (5, 2)


def test_first_prediction_of_the_mlp_is_the_noise_of_one_gaussian(process: Process) -> None:
    """Untrained, eps_hat = sin(phi) x~, the exact noise of data from N(0, std^2 I)."""
    std = 0.7
    net = ResidualMLP(3, process, std, width=16, depth=2).double()
    x, t = (v.double() for v in inputs(process, (3,)))
    a, sigma = (v[:, None] for v in process.marginal(t))
    scale = torch.sqrt((a * std) ** 2 + sigma**2)
    with torch.no_grad():
        eps = net(x, t)
    torch.testing.assert_close(eps, (sigma / scale) * (x / scale))
    law = GaussianMixture(torch.ones(1), torch.zeros(1, 3), std**2 * torch.eye(3)[None])
    torch.testing.assert_close(eps, law.eps(process)(x, t))


def test_first_prediction_of_the_mlp_depends_on_nothing_random(process: Process) -> None:
    """Two untrained MLPs agree, and every weight but the last layers' can still learn."""
    x, t = inputs(process, (2,))
    nets = [ResidualMLP(2, process, 1.0, width=16, depth=2) for _ in range(2)]
    assert torch.equal(nets[0](x, t), nets[1](x, t))
    nets[0](x, t).square().sum().backward()
    assert bool((nets[0].leave[-1].weight.grad != 0).any())
    assert bool((nets[0].gain.weight.grad != 0).any())


def test_mlp_flattens_images() -> None:
    """An image and its pixels in a row get the same prediction from the same weights."""
    model = build(VPSDE, (1, 8, 8), network="mlp")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05)
        x, t = inputs(model.process, (1, 8, 8))
        image, row = model.network(x, t), model.network(x.flatten(1), t)
    torch.testing.assert_close(image.flatten(1), row)
    assert not torch.equal(image, torch.zeros_like(image))


@pytest.mark.parametrize(("dim", "width", "depth"), [(2, 96, 2), (64, 256, 3), (2, 8, 1)])
def test_mlp_has_the_parameters_of_its_layers(dim: int, width: int, depth: int) -> None:
    """The number of parameters is the sum over the layers in the docstrings."""
    net = ResidualMLP(dim, VariancePreserving(), 1.0, width, depth)
    features = max(32, width // 4)
    time = 2 * (features * features + features)
    block = 2 * width + 2 * (width * width + width) + (features + 1) * 2 * width
    ends = (dim + 1) * width + 2 * width + (width + 1) * dim
    expected = time + depth * block + ends + features + 1
    assert sum(p.numel() for p in net.parameters()) == expected


def cifar(backbone: type[Backbone], preset: str = "paper") -> Model:
    """The network of a backbone's preset for CIFAR-10, without memory."""
    stats = DataStats((3, 32, 32), levels=256, nll_offset=0.0, std=0.25, max_distance=30.0)
    options = backbone.presets[preset].get("backbone", {})
    with torch.device("meta"):
        return backbone.create(options).build(stats)


def attention_layers(model: Model) -> list[Any]:
    """diffusers' attention layers of a U-Net."""
    return [m for m in model.modules() if type(m).__name__ == "Attention"]


@pytest.mark.parametrize("preset", ["full", "paper"])
def test_networks_of_cifar_are_those_of_ho_and_of_score_sde(preset: str) -> None:
    """DDPM has the network of Ho et al. 2020, VP and sub-VP that of score_sde's ``ddpm``.

    35,746,307 is the count of the public weights google/ddpm-cifar10-32 (Ho et al. 2020, appendix
    B: 35.7 M), with attention behind each of 2 + 1 + 3 blocks around 16 px; score_sde's 35,218,947
    has two layers less, of 4 (256^2 + 256) weights and biases and a norm of 2 * 256 each, since it
    attends behind the last of the three blocks on the way up alone.
    """
    layer = 4 * (256**2 + 256) + 2 * 256
    counts = {
        backbone: sum(p.numel() for p in cifar(backbone, preset).parameters())
        for backbone in (DDPM, VPSDE, SubVPSDE)
    }
    assert counts == {DDPM: 35_746_307, VPSDE: 35_218_947, SubVPSDE: 35_218_947}
    assert counts[DDPM] - counts[VPSDE] == 2 * layer
    assert len(attention_layers(cifar(DDPM, preset))) == 6
    assert len(attention_layers(cifar(VPSDE, preset))) == 4
    last = cifar(VPSDE, preset).network.unet.up_blocks[2].attentions
    assert [type(layer).__name__ for layer in last] == ["Identity", "Identity", "Attention"]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("channels", [(8, 16), (64, 32), (128, 256)])
def test_attention_has_one_head(backbone: type[Backbone], channels: tuple[int, ...]) -> None:
    """Every attention layer has one head, as wide as its block."""
    model = build(backbone, (1, 8, 8), channels=channels, attention=(8, 4))
    layers = attention_layers(model)
    assert len(layers) == 2 + 1 + 4
    assert {layer.heads for layer in layers} == {1}
    assert {layer.to_q.out_features for layer in layers} == set(channels)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_fresh_unet_predicts_no_noise(backbone: type[Backbone]) -> None:
    """The last convolution is zero, eps_hat is 0 at first, and a step moves only that layer."""
    model = build(backbone, (1, 8, 8))
    x, t = inputs(model.process, (1, 8, 8))
    eps = model.eps(x, t)
    assert torch.equal(eps, torch.zeros_like(eps))
    (eps - 1).square().mean().backward()
    learnt = ((n, p.grad) for n, p in model.network.named_parameters() if p.grad is not None)
    moved = {name for name, gradient in learnt if bool((gradient != 0).any())}
    assert moved == {"unet.conv_out.weight", "unet.conv_out.bias"}


def test_attention_on_the_way_up_can_be_removed() -> None:
    """``up_attention=last`` is diffusers' network with identities; the other weights are equal."""
    every, last = (
        build(VPSDE, (1, 8, 8), layers=2, up_attention=where).network for where in ("every", "last")
    )
    states = every.state_dict(), last.state_dict()
    lacking = {name.rpartition("attentions.")[0] for name in set(states[0]) - set(states[1])}
    assert lacking == {"unet.up_blocks.0."}
    assert all(torch.equal(states[0][name], weight) for name, weight in states[1].items())


def test_fourier_unet_is_minus_sigma_times_diffusers() -> None:
    """On VE eps_hat = -sigma * (diffusers' output at timestep sigma): that output is the score."""
    process = VarianceExploding()
    net = small_unet(process, "fourier")
    x, t = inputs(process, (1, 8, 8))
    sigma = process.marginal(t)[1]
    with torch.no_grad():
        expected = -sigma.reshape(-1, 1, 1, 1) * net.unet(x, sigma).sample
        assert torch.equal(net(x, t), expected)


def test_fourier_unet_undoes_the_division_by_sigma() -> None:
    """eps_hat is minus what leaves the last convolution: diffusers' 1 / sigma is cancelled."""
    process = VarianceExploding()
    net = small_unet(process, "fourier")
    last: list[Tensor] = []
    net.unet.conv_out.register_forward_hook(lambda module, args, output: last.append(output))
    x, t = inputs(process, (1, 8, 8))
    with torch.no_grad():
        eps = net(x, t)
    torch.testing.assert_close(eps, -last[0])


@pytest.mark.parametrize("process", PROCESSES[1:], ids=lambda p: type(p).__name__)
def test_positional_unet_is_diffusers(process: Process) -> None:
    """On VP, sub-VP and DDPM eps_hat is diffusers' output at the process's own label."""
    net = small_unet(process, "positional")
    x, t = inputs(process, (1, 8, 8))
    label = t * 1000 - 1 if isinstance(process, DiscreteDDPM) else 999 * t
    with torch.no_grad():
        expected = net.unet(x, label).sample
        torch.testing.assert_close(net(x, t), expected)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbones_choose_their_time_features(backbone: type[Backbone]) -> None:
    """VE has fourier features, every other process positional ones."""
    kind = build(backbone, (1, 8, 8)).network.unet.config["time_embedding_type"]
    assert kind == ("fourier" if backbone is VESDE else "positional")


def test_unet_depends_on_the_time(process: Process) -> None:
    """The same image at two times gets two predictions, beyond VE's factor sigma."""
    net = small_unet(process, "fourier" if process == PROCESSES[0] else "positional")
    x = inputs(process, (1, 8, 8))[0][:1]
    with torch.no_grad():
        early, late = net(x, torch.tensor([0.2])), net(x, torch.tensor([0.9]))
    assert not torch.allclose(early, late, rtol=1e-3)


@pytest.mark.parametrize(
    ("attention", "down"),
    [
        ((), ["DownBlock2D", "DownBlock2D"]),
        ((8,), ["AttnDownBlock2D", "DownBlock2D"]),
        ((4,), ["DownBlock2D", "AttnDownBlock2D"]),
        ((4, 8, 16), ["AttnDownBlock2D", "AttnDownBlock2D"]),
    ],
)
def test_attention_sits_at_the_named_sizes(attention: tuple[int, ...], down: list[str]) -> None:
    """Self-attention is in the blocks of the named resolutions, on both ways through the net."""
    net = small_unet(VariancePreserving(), "positional", attention=attention).unet
    assert [type(block).__name__ for block in net.down_blocks] == down
    up = [name.replace("Down", "Up") for name in reversed(down)]
    assert [type(block).__name__ for block in net.up_blocks] == up


@pytest.mark.parametrize(
    ("side", "widths", "allowed"),
    [((28, 28), 4, 3), ((8, 8), 5, 4), ((9, 8), 2, 1), ((32, 28), 4, 3), ((32, 32), 7, 6)],
)
def test_impossible_halvings_name_how_many_widths_are_allowed(
    side: tuple[int, int], widths: int, allowed: int
) -> None:
    """An image that cannot be halved so often is refused; the number that the error names works."""
    options = {"layers": 1, "attention": (), "dropout": 0.0}
    with pytest.raises(IncompatibleError) as caught:
        unet((1, *side), VariancePreserving(), "positional", (8,) * widths, **options)
    assert f"{side[0]}x{side[1]} pixels" in caught.value.what
    assert f"{widths - 1} times" in caught.value.what
    assert f"at most {allowed} widths" in caught.value.allowed
    net = unet((1, *side), VariancePreserving(), "positional", (8,) * allowed, **options)
    x = torch.zeros(1, 1, *side)  # one item, down to one pixel
    with torch.no_grad():
        assert net(x, torch.tensor([0.5])).shape == x.shape


def test_a_unet_refuses_points() -> None:
    """Points with network=unet are refused, with the network that would do."""
    with pytest.raises(IncompatibleError, match="network=mlp"):
        build(VPSDE, (2,), network="unet")


@pytest.mark.parametrize("channels", [(12, 24), (10, 15), (7,), (8, 16), (32, 64)])
def test_any_widths_make_a_unet(channels: tuple[int, ...]) -> None:
    """Widths that 32 groups do not divide get fewer groups, of two channels or more."""
    net = small_unet(VariancePreserving(), "positional", channels=channels)
    groups = net.unet.config["norm_num_groups"]
    assert all(width % groups == 0 for width in channels)
    assert groups == 1 or min(channels) >= 2 * groups
    x = torch.zeros(1, 1, 8, 8)
    with torch.no_grad():
        assert net(x, torch.tensor([0.5])).shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_time_features_are_finite_from_end_to_end(process: Process, dtype: torch.dtype) -> None:
    """At t_min and at T the features are finite, and they tell the two apart."""
    embed = TimeEmbedding(process, 32).to(dtype)
    times = torch.tensor([process.t_min, process.T], dtype=dtype)
    with torch.no_grad():
        features = embed(times)
    assert features.shape == (2, 32)
    assert bool(features.isfinite().all())
    assert not torch.allclose(features[0], features[1], rtol=1e-2)


def test_dropout_acts_in_training_only() -> None:
    """In evaluation mode two passes agree; in training mode dropout makes them differ."""
    net = small_unet(VariancePreserving(), "positional", dropout=0.5)
    x, t = inputs(VariancePreserving(), (1, 8, 8))
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        assert torch.equal(net(x, t), net(x, t))
        net.train()
        assert not torch.equal(net(x, t), net(x, t))


def test_sigma_max_defaults_to_the_largest_distance() -> None:
    """VE's sigma_max is the data's largest distance (technique 1) unless it is given."""
    assert build(VESDE, (2,)).process.prior_std == 9.0
    assert build(VESDE, (1, 8, 8)).process.prior_std == 9.0
    assert build(VESDE, (2,), sigma_max=50.0).process.prior_std == 50.0


def test_model_std_is_in_model_space() -> None:
    """Images on [-1, 1] have twice the standard deviation that they have on [0, 1]."""
    actual = [
        build(backbone, shape, network="mlp").network.std
        for backbone, shape in ((VESDE, (1, 8, 8)), (VPSDE, (1, 8, 8)), (VPSDE, (2,)))
    ]
    assert actual == pytest.approx([0.3, 0.6, 0.3])


# Class-conditional networks ---------------------------------------------------------------


def stirred(model: Model) -> Model:
    """The model with weights that let nothing of the input or of the class fall silent."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def embedding(model: Model) -> torch.nn.Embedding:
    """The embedding of the classes."""
    (actual,) = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    return actual


@pytest.mark.parametrize("network", ["mlp", "unet"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_class_without_features_is_no_class(backbone: type[Backbone], network: str) -> None:
    """With the embedding at zero, eps_hat of every class is that of the unconditional network."""
    shape = (1, 8, 8)
    conditional = stirred(build(backbone, shape, classes=3, network=network))
    plain = build(backbone, shape, network=network)
    plain.load_state_dict(conditional.state_dict(), strict=False)
    x, t = inputs(conditional.process, shape)
    classes = torch.tensor([0, 1, 2, 3, 0])
    with torch.no_grad():
        assert not torch.allclose(conditional.eps(x, t, classes), plain.eps(x, t), rtol=1e-3)
        embedding(conditional).weight.zero_()
        torch.testing.assert_close(conditional.eps(x, t, classes), plain.eps(x, t))


@pytest.mark.parametrize("network", ["mlp", "unet"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_items_see_their_own_class(backbone: type[Backbone], network: str) -> None:
    """Each of K classes and the null class has its own eps_hat; none is the null class."""
    shape = (1, 8, 8)
    model = stirred(build(backbone, shape, classes=3, network=network))
    x, t = inputs(model.process, shape)
    with torch.no_grad():
        by_class = torch.stack([model.eps(x, t, torch.full((5,), c)) for c in range(4)])
        mixed = model.eps(x, t, torch.tensor([2, 0, 3, 1, 2]))
        torch.testing.assert_close(mixed, by_class[[2, 0, 3, 1, 2], torch.arange(5)])
        assert torch.equal(model.eps(x, t), by_class[3])
    gaps = torch.cdist(by_class.flatten(1), by_class.flatten(1)) + torch.eye(4)
    assert float(gaps.min()) > 1e-4
    assert len(embedding(model).weight) == 4


def test_a_class_costs_the_embedding_and_nothing_else() -> None:
    """K classes add (K + 1) times the time features; the other weights keep their seeds."""
    for network in ("mlp", "unet"):
        plain, conditional = (build(VPSDE, (1, 8, 8), c, network=network) for c in (None, 10))
        size = {m: sum(p.numel() for p in m.parameters()) for m in (plain, conditional)}
        assert size[conditional] - size[plain] == embedding(conditional).weight.numel()
        assert len(embedding(conditional).weight) == 11
    mlps = [build(VPSDE, (1, 8, 8), c, network="mlp").state_dict() for c in (None, 10)]
    assert all(torch.equal(weight, mlps[1][name]) for name, weight in mlps[0].items())
