"""What the built-in backbones share: the options of their networks."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from pydantic import Field, field_validator
from torch import nn
from typing_extensions import TypeVar

from msgm_bench import (
    Backbone,
    DataStats,
    IncompatibleError,
    Model,
    MsgmBenchError,
    Options,
    PretrainedNetwork,
    Process,
)
from msgm_bench.storage.cards import parse_card
from msgm_bench.storage.weights import boundary
from msgm_builtin.backbones.diffusers_cards import UNetCard
from msgm_builtin.backbones.diffusers_io import (
    PROCESS,
    architecture,
    check_pipeline,
    check_process,
    listed,
    located,
    read_weights,
    save_unet,
    weights_of,
)
from msgm_builtin.backbones.networks import ResidualMLP, UNet, UpAttention, attend_everywhere, unet
from msgm_builtin.backbones.unet_from_config import described_unet

Kind = Literal["auto", "mlp", "unet"]
LARGEST = 8_192  # channels of a layer, and px
ORDER = "that its classes stand in the dataset's order is taken on trust"
USE = """\
With `DIR` for this folder:

```python
from diffusers import UNet2DModel

unet = UNet2DModel.from_pretrained("DIR", subfolder="unet")
output = unet(x_t, timestep{label}).sample
```

`x_t` = a(t) x0 + sigma(t) eps, with images x0 scaled to [{low:g}, {high:g}] and 0 < t <= 1.

- The process: {process}: {spec}.
- `timestep` is {timestep}.
"""
CLASS = """\

`c` is a class, `int64 [N]` in 0 .. {last}, or {null}, the null class, which stands for any of them.
"""


def drawn(sampler: str, nfe: int, **options: Any) -> dict[str, Any]:
    """A preset with which both tracks draw samples: a sampler, its budget, its options."""
    how = {"sampler": sampler, "nfe": nfe} | ({"sampler_options": options} if options else {})
    return {"tasks": {"generation": how, "class_generation": how}}


class NetworkOptions(Options):
    """Options of the network."""

    network: Kind | dict[str, Any] = Field(
        "auto",
        description="auto: mlp for points, unet for images; or all of diffusers' own options of a "
        "UNet2DModel, in the place of those below",
    )
    width: int = Field(128, ge=8, le=4_096, multiple_of=2, description="hidden units of the MLP")
    depth: int = Field(3, ge=1, le=64, description="residual blocks of the MLP")
    channels: tuple[int, ...] = Field(
        (128, 256, 256, 256),
        min_length=1,
        max_length=16,
        description="U-Net width at each resolution",
    )
    layers: int = Field(2, ge=1, le=32, description="U-Net residual blocks a resolution")
    attention: tuple[int, ...] = Field(
        (16,), max_length=16, description="U-Net resolutions with attention, px"
    )
    up_attention: UpAttention = Field(
        "every",
        description="on the way up the U-Net attends behind every block of such a resolution "
        "(Ho et al. 2020), or behind the last (score_sde)",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="U-Net dropout rate")

    @field_validator("channels", "attention")
    @classmethod
    def _bounded(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= size <= LARGEST for size in sizes):
            raise ValueError(f"numbers from 1 to {LARGEST}")
        return sizes

    @field_validator("network", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            try:
                return parse_card(dict(given), UNetCard, "network").options()
            except MsgmBenchError as error:
                raise ValueError(f"{error.what}: {error.allowed}".rstrip(": ")) from error
        if given not in get_args(Kind):
            raise ValueError(f"{', '.join(get_args(Kind))}, or a mapping")
        return given


NetworkOptionsT = TypeVar(
    "NetworkOptionsT", bound=NetworkOptions, default=NetworkOptions, covariant=True
)


class NetworkBackbone(Backbone[NetworkOptionsT]):
    """A backbone whose network is chosen by options.

    Attributes:
        embedding: Kind of the U-Net's time features.
        timestep: What the U-Net is told of the time, and what it answers, in words.
    """

    conditional = True
    embedding: ClassVar[Literal["positional", "fourier"]] = "positional"
    timestep: ClassVar[str] = "999 t; the output is eps_hat"

    def network(self, stats: DataStats, process: Process) -> nn.Module:
        """The MLP or the U-Net."""
        c = self.options
        images = stats.levels is not None
        if isinstance(c.network, dict):
            return described_unet(c.network, stats, process, self.embedding, c.dropout)
        if c.network == "unet" or (c.network == "auto" and images):
            return unet(
                stats.shape,
                process,
                self.embedding,
                c.channels,
                c.layers,
                c.attention,
                c.dropout,
                stats.classes,
                c.up_attention,
            )
        dim, std = math.prod(stats.shape), self.model_std(stats)
        return ResidualMLP(dim, process, std, c.width, c.depth, stats.classes)

    def describe(self, model: Model) -> Mapping[str, Any]:
        """Heads, norms, activation, features of the time, and how the output becomes eps_hat."""
        network = model.network
        assert isinstance(network, UNet | ResidualMLP)
        return network.describe()

    def model_std(self, stats: DataStats) -> float:
        """Standard deviation of the data in model space."""
        low, high = self.data_range
        return stats.std if stats.levels is None else (high - low) * stats.std

    def from_pretrained(
        self, source: str, stats: DataStats, download: bool = True
    ) -> PretrainedNetwork:
        """A U-Net in a folder of diffusers, or on its hub."""
        folder, process = located(source, download), self.process(stats)
        check_pipeline(folder)
        told = architecture(folder)
        remark = self.check_schedule(folder, process)
        with torch.device("meta"):
            network = described_unet(told, stats, process, self.embedding).unet
        state, sha256 = read_weights(weights_of(folder), boundary(folder), network)
        weights = {f"unet.{name}": tensor for name, tensor in state.items()}
        options = self.options.model_copy(update=options_of(told, stats))
        trust = [remark, ORDER if stats.classes is not None else ""]
        return PretrainedNetwork(
            type(self)(options), weights, sha256, "; ".join(filter(None, trust))
        )

    def check_schedule(self, folder: Path, process: Process) -> str:
        """Make sure that the network in ``folder`` was trained on ``process``; what is on trust.

        Raises:
            IncompatibleError: It was not, or nothing says so.
        """
        if check_process(folder, process.spec()):
            return ""
        raise IncompatibleError(
            f"the backbone {self.name!r} starting from {folder}, which does not say on which "
            "process in continuous time it was trained",
            f"folders of `msgm-bench export` with {PROCESS}: {self.name}'s own",
            "a public DDPM has discrete times and betas of its own: choose --backbone ddpm",
        )

    def save_pretrained(self, model: Model, folder: Path) -> str:
        """A U-Net as diffusers saves it."""
        if not isinstance(model.network, UNet):
            raise IncompatibleError(
                f"the network {type(model.network).__name__}, which diffusers does not have",
                "models with -b network=unet",
            )
        save_unet(attend_everywhere(model.network.unet), folder, model.process.spec())
        low, high = self.data_range
        process, classes = model.process, model.classes
        first = inspect.getdoc(process) or ""
        said = USE.format(
            label="" if classes is None else ", class_labels=c",
            low=low,
            high=high,
            process=first.partition("\n")[0].rstrip("."),
            spec=listed(process.spec()),
            timestep=self.timestep,
        )
        return said if classes is None else said + CLASS.format(last=classes - 1, null=classes)


def options_of(told: dict[str, Any], stats: DataStats) -> dict[str, Any]:
    """The options of a network that ``told`` describes, in diffusers' words and in ours."""
    sizes = [stats.shape[1] // 2**i for i in range(len(told["block_out_channels"]))]
    attends = ["Attn" in block for block in told["down_block_types"]]
    return {
        "network": told,
        "channels": tuple(told["block_out_channels"]),
        "layers": told["layers_per_block"],
        "attention": tuple(size for size, at in zip(sizes, attends, strict=True) if at),
        "up_attention": "every",
    }
