"""The built-in backbones' base: options of their networks, and diffusers' folders."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from itertools import compress
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
    find_folder,
    find_weights,
    read_weights,
    save_unet,
    spec_text,
)
from msgm_builtin.backbones.networks import (
    ResidualMLP,
    UNet,
    UpAttention,
    unet,
    with_all_attention,
)
from msgm_builtin.backbones.unet_from_config import check_pass, unet_from_config

Kind = Literal["auto", "mlp", "unet"]
EXPONENTIAL = ("dpmpp_2m_sde", "sa", "deis", "unipc", "dpmpp_2m")  # samplers of every process
LARGEST = 8_192  # channels of a layer, and px
ORDER = "the order of its classes is assumed to be the dataset's"
USAGE = """\
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
CLASS_USAGE = """\

`c` is a class, `int64 [N]` in 0 .. {last}, or {null}, the null class, which stands for any class.
"""


def sampling_preset(sampler: str, nfe: int, **options: Any) -> dict[str, Any]:
    """A preset of the generation of both tracks: a sampler, its budget, its options."""
    sampling: dict[str, Any] = {"sampler": sampler, "nfe": nfe}
    sampling |= {"sampler_options": options} if options else {}
    return {"tasks": {"generation": sampling, "class_generation": sampling}}


FAST = sampling_preset("dpmpp_2m_sde", 32)
"""As good as 1,000 steps of the authors' samplers on trained models (docs/samplers.md)."""


class NetworkOptions(Options):
    """Options of the network."""

    network: Kind | dict[str, Any] = Field(
        "auto",
        description="auto: mlp for points, unet for images; or diffusers' own options of a "
        "UNet2DModel, in place of those below",
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
        description="on the way up, attention behind every block of such a resolution "
        "(Ho et al. 2020), or behind the last (score_sde)",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="U-Net dropout rate")

    @field_validator("channels", "attention")
    @classmethod
    def _check_sizes(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= size <= LARGEST for size in sizes):
            raise ValueError(f"numbers from 1 to {LARGEST}")
        return sizes

    @field_validator("network", mode="before")
    @classmethod
    def _parse_network(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            try:
                return parse_card(dict(value), UNetCard, "network").options()
            except MsgmBenchError as error:
                raise ValueError(f"{error.what}: {error.allowed}".rstrip(": ")) from error
        if value not in get_args(Kind):
            raise ValueError(f"{', '.join(get_args(Kind))}, or a mapping")
        return value


NetworkOptionsT = TypeVar(
    "NetworkOptionsT", bound=NetworkOptions, default=NetworkOptions, covariant=True
)


class NetworkBackbone(Backbone[NetworkOptionsT]):
    """A backbone whose options choose its network.

    Attributes:
        embedding: Kind of the U-Net's time features.
        timestep: The U-Net's input of time and its output, in words.
    """

    conditional = True
    embedding: ClassVar[Literal["positional", "fourier"]] = "positional"
    timestep: ClassVar[str] = "999 t; the output is eps_hat"

    def network(self, stats: DataStats, process: Process) -> nn.Module:
        """The MLP or the U-Net."""
        c = self.options
        is_image = stats.levels is not None
        if isinstance(c.network, dict):
            return unet_from_config(c.network, stats, process, self.embedding, c.dropout)
        if c.network == "unet" or (c.network == "auto" and is_image):
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

    def parts(self, network: nn.Module) -> Mapping[str, Iterable[str]]:
        """``class``: the embeddings of classes, where there are any."""
        names = [
            f"{name}.weight"
            for name, module in network.named_modules()
            if isinstance(module, nn.Embedding)
        ]
        return {"class": names} if names else {}

    def describe(self, model: Model) -> Mapping[str, Any]:
        """Heads, norms, activation, features of the time, and eps_hat by the network's output."""
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
        folder, process = find_folder(source, download), self.process(stats)
        check_pipeline(folder)
        config = architecture(folder)
        remark = self.check_schedule(folder, process)
        with torch.device("meta"):
            wrapped = unet_from_config(config, stats, process, self.embedding)
            check_pass(wrapped, stats)
        network = wrapped.unet
        state, sha256 = read_weights(find_weights(folder), boundary(folder), network)
        weights = {f"unet.{name}": tensor for name, tensor in state.items()}
        options = self.options.model_copy(update=options_of(config, stats))
        assumptions = [remark, ORDER if stats.classes is not None else ""]
        return PretrainedNetwork(
            type(self)(options), weights, sha256, "; ".join(filter(None, assumptions))
        )

    def check_schedule(self, folder: Path, process: Process) -> str:
        """Refuse a network of another process; the assumption about its process, or an empty text.

        Raises:
            IncompatibleError: The process is another one, or ``folder`` does not name it.
        """
        if check_process(folder, process.spec()):
            return ""
        raise IncompatibleError(
            f"the backbone {self.name!r} starting from {folder}, which does not name the process "
            "in continuous time of its training",
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
        save_unet(with_all_attention(model.network.unet), folder, model.process.spec())
        low, high = self.data_range
        process = model.process
        classes = None if model.conditioning is None else model.conditioning.count
        first = inspect.getdoc(process) or ""
        text = USAGE.format(
            label="" if classes is None else ", class_labels=c",
            low=low,
            high=high,
            process=first.partition("\n")[0].rstrip("."),
            spec=spec_text(process.spec()),
            timestep=self.timestep,
        )
        if classes is None:
            return text
        return text + CLASS_USAGE.format(last=classes - 1, null=classes)


def options_of(config: dict[str, Any], stats: DataStats) -> dict[str, Any]:
    """``NetworkOptions`` of diffusers' ``config`` of a U-Net."""
    sizes = [stats.shape[1] // 2**i for i in range(len(config["block_out_channels"]))]
    has_attention = ["Attn" in block for block in config["down_block_types"]]
    return {
        "network": config,
        "channels": tuple(config["block_out_channels"]),
        "layers": config["layers_per_block"],
        "attention": tuple(compress(sizes, has_attention)),
        "up_attention": "every",
    }
