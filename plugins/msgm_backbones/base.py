"""What the built-in backbones share: the options of their networks."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from msgm_backbones.networks import ResidualMLP, unet
from msgm_bench import Backbone, Config, DataInfo, Process


def drawn(sampler: str, nfe: int, **options: Any) -> dict[str, Any]:
    """A preset with which both tracks draw samples: a sampler, its budget, its options."""
    how = {"sampler": sampler, "nfe": nfe} | ({"options": options} if options else {})
    return {"tasks": {"generation": how, "class_generation": how}}


class NetworkConfig(Config):
    """Options of the network."""

    network: Literal["auto", "mlp", "unet"] = Field(
        "auto", description="auto: mlp for points, unet for images"
    )
    width: int = Field(128, ge=8, multiple_of=2, description="hidden units of the MLP")
    depth: int = Field(3, ge=1, description="residual blocks of the MLP")
    channels: tuple[int, ...] = Field(
        (128, 256, 256, 256), min_length=1, description="U-Net width at each resolution"
    )
    layers: int = Field(2, ge=1, description="U-Net residual blocks a resolution")
    attention: tuple[int, ...] = Field((16,), description="U-Net resolutions with attention, px")
    dropout: float = Field(0.1, ge=0, lt=1, description="U-Net dropout rate")


class NetworkBackbone(Backbone):
    """A backbone whose network is chosen by options."""

    conditional = True
    embedding: ClassVar[Literal["positional", "fourier"]] = "positional"
    config: NetworkConfig

    class Config(NetworkConfig):
        """Only the network."""

    def network(self, info: DataInfo, process: Process) -> nn.Module:
        """The MLP or the U-Net."""
        c = self.config
        images = info.levels is not None
        if c.network == "unet" or (c.network == "auto" and images):
            return unet(
                info.shape,
                process,
                self.embedding,
                c.channels,
                c.layers,
                c.attention,
                c.dropout,
                info.classes,
            )
        dim, std = math.prod(info.shape), self.model_std(info)
        return ResidualMLP(dim, process, std, c.width, c.depth, info.classes)

    def model_std(self, info: DataInfo) -> float:
        """Standard deviation of the data in model space."""
        low, high = self.data_range
        return info.std if info.levels is None else (high - low) * info.std
