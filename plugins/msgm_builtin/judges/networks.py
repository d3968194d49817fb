"""Networks of classifiers: a small one for tiny images, a residual one, and those of libraries."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from msgm_bench import IncompatibleError, OptionError, Options
from msgm_bench.storage import error_summary
from msgm_bench.storage.validation import allowed_value

TINY = 16  # px: up to here the small network sees as much as the residual one
FULL_RESOLUTION = 32  # px: up to here the residual one starts at full resolution

AUXILIARY = ("googlenet", "inception_v3")  # of torchvision: they have more than one output
Value = Annotated[float, Field(ge=-1e3, le=1e3)]
Scale = Annotated[float, Field(gt=0, le=1e3)]


class LibraryNetwork(Options):
    """A network of a library, by its name; nothing is downloaded."""

    library: Literal["timm", "torchvision"] = Field(description="library")
    name: str = Field(pattern=r"^[a-z0-9_]+$", max_length=100, description="name of the network")
    mean: tuple[Value, ...] = Field((0.0,), min_length=1, max_length=64, description="of a channel")
    std: tuple[Scale, ...] = Field(
        (1.0,), min_length=1, max_length=64, description="deviation of a channel"
    )
    size: int | None = Field(
        None, ge=8, le=1024, description="px to which images are resized; empty: as they are"
    )


def parse_network(value: Any) -> Any:
    """A mapping as a ``LibraryNetwork``; any other value as it is.

    Raises:
        ValueError: A key or value of the mapping is wrong.
    """
    if not isinstance(value, Mapping):
        return value
    try:
        return LibraryNetwork.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{key}: {allowed_value(first)}") from error


class Network(nn.Module):
    """A body, dropout and a linear layer, on [0, 1] images."""

    def __init__(self, body: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(width, outputs)

    @property
    def core(self) -> nn.Module:
        """The module whose weights are stored."""
        return self

    def features(self, x: Tensor) -> Tensor:
        """Input of the linear layer, ``[N, F]``."""
        features: Tensor = self.body(2 * x - 1)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, outputs]`` of [0, 1] images ``[N, C, H, W]``."""
        logits: Tensor = self.head(self.dropout(self.features(x)))
        return logits


def small(channels: int, width: int, outputs: int) -> Network:
    """Three convolutions with batch normalisation and two poolings: ``8 width`` features."""
    sizes = (channels, width, 2 * width, 2 * width)
    blocks: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(sizes)):
        blocks += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        blocks += [nn.MaxPool2d(2)] if i < 2 else []
    return Network(
        nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten()), 8 * width, outputs
    )


def resnet(
    shape: tuple[int, ...], width: int, blocks: Sequence[int], embedding_dim: int, outputs: int
) -> Network:
    """timm's ResNet-D of basic blocks with widths 1, 2, 4 and 4 times ``width``.

    The stem has three 3x3 convolutions (He et al. 2019, section 4.2), the first of stride 1 up
    to 32 px and of stride 2 above, and nothing is pooled behind it. A linear layer leaves
    ``embedding_dim`` features, few enough for a covariance of full rank from a thousand images.

    Args:
        shape: Shape of an image, (C, H, W).
        width: Channels of the first stage.
        blocks: Basic blocks of each of the four stages; (2, 2, 2, 2) is ResNet-18.
        embedding_dim: Number of features.
        outputs: Number of logits.
    """
    from timm.models.resnet import BasicBlock, ResNet  # takes seconds

    body: Any = ResNet(
        BasicBlock,  # type: ignore[arg-type]  # timm annotates an instance, and takes the class
        tuple(blocks),
        num_classes=embedding_dim,
        in_chans=shape[0],
        stem_type="deep",
        stem_width=width // 2,
        channels=(width, 2 * width, 4 * width, 4 * width),
    )
    if max(shape[1:]) <= FULL_RESOLUTION:
        body.conv1[0].stride = (1, 1)
    body.maxpool = nn.Identity()
    return Network(body, embedding_dim, outputs)


class ExternalNetwork(nn.Module):
    """A library's network on images (x - mean) / std; its features are its logits.

    Args:
        c: Name and input of the network.
        channels: Channels of an image.
        logits: Outputs of the network: as many as a judge needs, or one less.
        outputs: Logits that a judge needs, the last one rejects; where the network lacks the last,
            it is the smallest number.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, c: LibraryNetwork, channels: int, logits: int, outputs: int) -> None:
        super().__init__()
        self.core = library_network(c, channels, logits)
        self.num_missing, self.size = outputs - logits, c.size
        self.repeat = 3 if c.library == "torchvision" and channels == 1 else 1
        for name in ("mean", "std"):
            value = torch.tensor(getattr(c, name)).reshape(1, -1, 1, 1)
            self.register_buffer(name, value, persistent=False)

    def features(self, x: Tensor) -> Tensor:
        """Logits ``[N, logits]`` of the network itself."""
        x = x.repeat(1, self.repeat, 1, 1)
        if self.size is not None:
            shape = (self.size, self.size)
            x = F.interpolate(x, shape, mode="bicubic", antialias=True).clamp(0, 1)
        logits: Tensor = self.core((x - self.mean) / self.std)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, outputs]`` of [0, 1] images ``[N, C, H, W]``."""
        logits = self.features(x)
        smallest = torch.finfo(logits.dtype).min
        return torch.cat([logits, logits.new_full((len(x), self.num_missing), smallest)], dim=1)


@torch.no_grad()
def probe(network: nn.Module, shape: tuple[int, ...]) -> None:
    """Apply a library's network to two images.

    Raises:
        IncompatibleError: The network refuses them, or its output is no logits.
    """
    try:
        output_shape = tuple(network.eval()(torch.full((2, *shape), 0.5)).shape)
    except Exception as error:
        raise IncompatibleError(
            f"the judge's network on images of shape {shape}: {error_summary(error)}",
            "a network for such images: size, mean and std of the option network",
        ) from error
    if len(output_shape) != 2 or output_shape[0] != 2:
        raise IncompatibleError(
            f"the judge's network gives {output_shape} on 2 images", "logits [N, K]"
        )


def library_network(c: LibraryNetwork, channels: int, outputs: int) -> nn.Module:
    """The network of this name, untrained.

    Raises:
        OptionError: The library has no network of this name.
    """
    if c.library == "timm":
        import timm

        if not timm.is_model(c.name):
            near = difflib.get_close_matches(c.name, timm.list_models(), n=8, cutoff=0.3)
            raise OptionError(
                f"timm has no network {c.name!r}", f"names of timm.list_models(): {', '.join(near)}"
            )
        network: nn.Module = timm.create_model(
            c.name, pretrained=False, num_classes=outputs, in_chans=channels
        )
        return network
    from torchvision import models

    names = [name for name in models.list_models(module=models) if name not in AUXILIARY]
    if c.name not in names:
        raise OptionError(f"torchvision has no network {c.name!r}", ", ".join(names))
    network = models.get_model(c.name, weights=None, num_classes=outputs)
    return network
