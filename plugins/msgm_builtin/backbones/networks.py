"""Networks that predict the noise: MLPs for points and tiny images, diffusers' U-Net for images."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from msgm_bench import IncompatibleError, Process
from msgm_bench.storage.cards import parse_card
from msgm_builtin.backbones.diffusers_cards import UNetCard

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d import UNet2DModel

UpAttention = Literal["every", "last"]

__all__ = ["ResidualBlock", "ResidualMLP", "TimeEmbedding", "UNet", "unet"]  # for any backbone


class TimeEmbedding(nn.Module):
    """Sinusoidal features of log(sigma/a), the process's log noise-to-signal ratio."""

    frequencies: Tensor

    def __init__(self, process: Process, width: int) -> None:
        super().__init__()
        self.process = process
        self.register_buffer("frequencies", torch.exp(torch.linspace(-2.0, 3.0, width // 2)))
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Times ``[N]`` to features ``[N, width]``."""
        phase = self.process.noise_to_signal(t).log().to(self.frequencies.dtype)
        phase = phase[:, None] * self.frequencies
        features: Tensor = self.mix(torch.cat([phase.sin(), phase.cos()], dim=1))
        return features


class ResidualBlock(nn.Module):
    """h + W2 silu(W1 silu(norm(h)) modulated by the time)."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.time = nn.Linear(features, 2 * width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        self.act = nn.SiLU()

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """Hidden units ``[N, width]``, time features ``[N, features]``."""
        scale, shift = self.time(e).chunk(2, dim=1)
        inner = self.inner(self.act(self.norm(h))) * (1 + scale) + shift
        result: Tensor = h + self.outer(self.act(inner))
        return result


class ResidualMLP(nn.Module):
    """eps_hat = (sin(phi) + w(t)) x~ + cos(phi) F(x~, t), with tan(phi) = sigma / (a std).

    x~ = x_t / sqrt(a^2 std^2 + sigma^2) has unit variance. F alone is EDM's preconditioning
    in angles (Karras et al. 2022, table 1): at cos(phi) = 0 the prediction is x~ itself. The
    learned gain w(t), zero at first, keeps room for methods that damp or reverse the score
    where the noise dominates.

    Args:
        dim: D, the number of dimensions of an item.
        process: The diffusion process, with a(t) and sigma(t).
        std: Standard deviation of the data in model space.
        width: Hidden units.
        depth: Residual blocks.
        classes: K; the features of a class, or of the null class K, are added to the time's.
    """

    def __init__(
        self,
        dim: int,
        process: Process,
        std: float,
        width: int,
        depth: int,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.process, self.std = process, std
        features = max(32, width // 4)
        self.time = TimeEmbedding(process, features)
        self.enter = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(ResidualBlock(width, features) for _ in range(depth))
        last = nn.Linear(width, dim)
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), last)
        self.gain = nn.Linear(features, 1)
        for layer in (last, self.gain):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.label = None if classes is None else nn.Embedding(classes + 1, features)

    def describe(self) -> dict[str, Any]:
        """The function that the weights stand for, beyond their shapes."""
        return {
            "network": type(self).__name__,
            "std": self.std,
            "time": "sinusoids of log(sigma / a)",
            "activation": "silu",
            "norm": "layer",
            "prediction": "(sin(phi) + w(t)) x + cos(phi) F(x, t)",
        }

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """eps_hat of ``x_t [N, *shape]`` at ``t [N]``, with classes ``[N]`` if it takes any."""
        a, sigma = (c.to(x_t.dtype)[:, None] for c in self.process.marginal(t))
        scale = torch.sqrt((a * self.std) ** 2 + sigma**2)
        x = x_t.flatten(1) / scale
        e = self.time(t)
        if self.label is not None:
            e = e + self.label(condition)
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, e)
        sin_phi, cos_phi = sigma / scale, a * self.std / scale
        eps: Tensor = (sin_phi + self.gain(e)) * x + cos_phi * self.leave(h)
        return eps.reshape(x_t.shape)


class UNet(nn.Module):
    """diffusers' UNet2DModel as eps_hat.

    With ``positional`` time features the network's output is eps_hat and its time is the
    process's own label. With ``fourier`` features (VE) its time is sigma, by which diffusers
    divides the output: that output is the score, and eps_hat = -sigma * output.
    """

    def __init__(self, unet: UNet2DModel, process: Process) -> None:
        super().__init__()
        self.unet, self.process = unet, process
        self.fourier = unet.config["time_embedding_type"] == "fourier"

    def describe(self) -> dict[str, Any]:
        """The function that the weights stand for: diffusers' options, and the output's meaning."""
        options = parse_card(dict(self.unet.config), UNetCard, "the network").options()
        has_identity = any(
            isinstance(layer, nn.Identity)
            for block in self.unet.up_blocks
            for layer in getattr(block, "attentions", ())
        )
        return options | {
            "network": type(self.unet).__name__,
            "up_attention": "last" if has_identity else "every",
            "last_layer": "zero at first",
            "prediction": "-sigma(t) output" if self.fourier else "output",
        }

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """eps_hat of ``x_t [N, C, H, W]`` at ``t [N]``, with classes ``[N]`` if it takes any."""
        label = self.process.timestep(t).to(x_t.dtype)
        output: Tensor = self.unet(x_t, label, class_labels=condition).sample
        return -label.reshape(-1, 1, 1, 1) * output if self.fourier else output


def unet(
    shape: tuple[int, ...],
    process: Process,
    embedding: Literal["positional", "fourier"],
    channels: Sequence[int],
    layers: int,
    attention: Sequence[int],
    dropout: float,
    classes: int | None = None,
    up_attention: UpAttention = "every",
) -> UNet:
    """A U-Net for ``shape = (C, H, W)`` with one attention head, whose first output is zero.

    Args:
        shape: Shape of an image.
        process: The diffusion process.
        embedding: Kind of the time features.
        channels: Width of each resolution; there are ``len(channels) - 1`` halvings.
        layers: Residual blocks a resolution.
        attention: Sizes (in pixels) of the resolutions with self-attention.
        dropout: Dropout rate.
        classes: K; diffusers adds an embedding of the class, or of the null class K, to the time's.
        up_attention: Residual blocks with attention, of a resolution on the way up.

    Raises:
        IncompatibleError: The image cannot be halved that often, or the items are no images.
    """
    from diffusers.models.unets.unet_2d import UNet2DModel  # takes seconds

    check_halvings(shape, len(channels) - 1)
    sizes = [shape[1] // 2**i for i in range(len(channels))]
    has_attention = [size in attention for size in sizes]
    down = tuple("AttnDownBlock2D" if attends else "DownBlock2D" for attends in has_attention)
    up = tuple("AttnUpBlock2D" if attends else "UpBlock2D" for attends in has_attention[::-1])
    net = UNet2DModel(
        sample_size=shape[1:],
        in_channels=shape[0],
        out_channels=shape[0],
        time_embedding_type=embedding,
        block_out_channels=tuple(channels),
        layers_per_block=layers,
        down_block_types=down,
        up_block_types=up,
        norm_num_groups=num_groups(channels),
        attention_head_dim=None,  # one head, as wide as its block
        dropout=dropout,
        num_class_embeds=None if classes is None else classes + 1,
    )
    if up_attention == "last":
        remove_attention(net)
    return UNet(with_zero_output(net), process)


def check_halvings(shape: tuple[int, ...], halvings: int) -> None:
    """Refuse items that are no images, or whose sides are no multiples of 2^halvings.

    Raises:
        IncompatibleError: ``shape`` is one of these.
    """
    if len(shape) != 3:
        raise IncompatibleError(
            f"a U-Net needs images, the items have shape {shape}", "network=mlp for points"
        )
    if any(side % 2**halvings for side in shape[1:]):
        most = min((side & -side).bit_length() - 1 for side in shape[1:])
        raise IncompatibleError(
            f"{shape[1]}x{shape[2]} pixels cannot be halved {halvings} times",
            f"at most {most + 1} widths in channels",
        )


def num_groups(channels: Sequence[int]) -> int:
    """Groups of the normalisations: at most 32, and none of a single channel.

    A group of one channel loses its mean, and cannot be normalised on one pixel.
    """
    groups = math.gcd(32, *channels)
    return groups // 2 if groups == min(channels) > 1 else groups


def with_zero_output(unet: UNet2DModel) -> UNet2DModel:
    """The network with its last convolution at zero, the start of Ho et al. 2020 and score_sde."""
    for weight in unet.conv_out.parameters():
        nn.init.zeros_(weight)
    return unet


def remove_attention(unet: UNet2DModel) -> None:
    """Remove all attention on the way up but behind the last block of a resolution.

    Source: score_sde_pytorch, models/ddpm.py (Ho et al. 2020 have it behind every block).
    """
    for block in unet.up_blocks:
        attentions = getattr(block, "attentions", nn.ModuleList())
        for i in range(len(attentions) - 1):
            attentions[i] = nn.Identity()


def with_all_attention(unet: UNet2DModel) -> UNet2DModel:
    """A copy of the same function that has the layers of ``remove_attention`` again.

    Attention is h + W_out A(h): with every weight at zero it is h, the identity, and remains so
    in any further training.
    """
    full = copy.deepcopy(unet)
    for block in full.up_blocks:
        attentions = getattr(block, "attentions", nn.ModuleList())
        for i in range(len(attentions)):
            if isinstance(attentions[i], nn.Identity):
                attentions[i] = copy.deepcopy(attentions[-1])
                for weight in attentions[i].parameters():
                    nn.init.zeros_(weight)
    return full
