"""A text-to-image model that is trained from nothing, its text encoder along with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from msgm_bench import (
    Backbone,
    DataStats,
    DiscreteDDPM,
    IncompatibleError,
    Model,
    Options,
    PretrainedNetwork,
    Process,
    Prompts,
    WeightChange,
    hookimpl,
)
from msgm_builtin.backbones.base import EXPONENTIAL
from msgm_text.backbones.adapter_files import read_change
from msgm_text.backbones.adapters import add_lora, save_part
from msgm_text.backbones.parts import named_parts
from msgm_text.backbones.t2i_io import (
    PART_USAGE,
    is_unet,
    read_folder,
    read_weights,
    save_folder,
)
from msgm_text.backbones.text_encoder import PromptEncoder, text_encoder
from msgm_text.backbones.tokenizer import WordTokenizer
from msgm_text.backbones.transformer import PatchTransformer, TextOffset
from msgm_text.backbones.unet import conditional_unet
from msgm_text.extra import require_text

LARGEST = 8_192  # channels of a layer


class T2IOptions(Options):
    """Options of the network and of its text encoder."""

    network: Literal["unet", "transformer"] = Field(
        "unet", description="diffusers' UNet2DConditionModel, or a transformer on patches"
    )
    prediction: Literal["v", "epsilon"] = Field(
        "v", description="what the network predicts: v = a eps - sigma x0, or the noise"
    )
    channels: tuple[int, ...] = Field(
        (64, 96), min_length=1, max_length=16, description="U-Net width at each resolution"
    )
    layers: int = Field(2, ge=1, le=32, description="U-Net residual blocks a resolution")
    patch: int = Field(4, ge=1, le=64, description="side of the transformer's patches, px")
    width: int = Field(128, ge=8, le=4_096, description="width of the transformer")
    depth: int = Field(3, ge=1, le=64, description="blocks of the transformer")
    heads: int = Field(4, ge=1, le=64, description="heads of each attention")
    text_offset: TextOffset = Field(
        "image",
        description="what the transformer adds to its patches from the prompt as a whole: one "
        "offset of the image, or one of each patch, for prompts that name places",
    )
    text_width: int = Field(64, ge=8, le=4_096, description="width of the text encoder")
    text_layers: int = Field(2, ge=1, le=64, description="layers of the text encoder")
    text_heads: int = Field(4, ge=1, le=64, description="heads of the text encoder")
    tokens: int = Field(
        12, ge=3, le=77, description="tokens of the longest prompt, its start and end included"
    )

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= size <= LARGEST for size in sizes):
            raise ValueError(f"numbers from 1 to {LARGEST}")
        return sizes

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        widths = self.channels if self.network == "unet" else (self.width,)
        if any(width % self.heads for width in widths):
            raise ValueError("heads must divide the width of each attention")
        if self.text_width % self.text_heads:
            raise ValueError("text_heads must divide text_width")
        return self


class TextToImageNetwork(nn.Module):
    """A network that reads text, and the encoder that writes it, under Stable Diffusion's names.

    Args:
        unet: Predicts ``[N, C, H, W]`` from x_t, timesteps and the text's hidden states.
        text_encoder: A ``CLIPTextModel``.
        process: The diffusion process, for its timesteps.
    """

    def __init__(self, unet: nn.Module, text_encoder: nn.Module, process: DiscreteDDPM) -> None:
        super().__init__()
        self.unet, self.text_encoder, self.process = unet, text_encoder, process

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """The prediction for ``x_t [N, C, H, W]``, ``t [N]`` and text ``[N, L, d]``."""
        timestep = self.process.timestep(t)
        output: Tensor = self.unet(x_t, timestep, condition, return_dict=False)[0]
        return output

    def describe(self) -> dict[str, Any]:
        """The function that the weights stand for, beyond their shapes."""
        unet: Any = self.unet
        encoder: Any = self.text_encoder
        options = {name: value for name, value in unet.config.items() if name[0] != "_"}
        return {
            "network": type(unet).__name__,
            "unet": json.loads(json.dumps(options)),
            "text_heads": encoder.config.num_attention_heads,
            "text_activation": encoder.config.hidden_act,
        }


class TextToImage(Backbone[T2IOptions]):
    """A denoiser under cross-attention to CLIP's text encoder, both trained from nothing."""

    name = "t2i"
    citation = "Rombach et al. 2022, arXiv:2112.10752, section 3.3"
    samplers: ClassVar[tuple[str, ...]] = ("ddim", "ancestral", "heun", *EXPONENTIAL)
    text = True
    presets = {"quick": {"backbone": {"network": "transformer"}}}

    def process(self, stats: DataStats) -> DiscreteDDPM:
        """The grid of linear betas from 1e-4 to 0.02 at 1,000 times."""
        return DiscreteDDPM()

    def tokenizer(self, stats: DataStats) -> WordTokenizer:
        """The tokenizer of the dataset's words, or of its prompts where the language is open."""
        if stats.prompts is None:
            raise IncompatibleError(
                f"the backbone {self.name!r} without prompts",
                "--text, and a dataset that has prompts",
            )
        return WordTokenizer(stats.words or stats.prompts, self.options.tokens)

    def network(self, stats: DataStats, process: Process) -> nn.Module:
        """The denoiser and its text encoder."""
        assert isinstance(process, DiscreteDDPM)
        c, tokenizer = self.options, self.tokenizer(stats)
        encoder = text_encoder(
            len(tokenizer),
            tokenizer.start,
            tokenizer.end,
            c.tokens,
            c.text_width,
            c.text_layers,
            c.text_heads,
        )
        unet: nn.Module
        if c.network == "transformer":
            sizes = c.patch, c.width, c.depth, c.heads, c.text_width
            unet = PatchTransformer(stats.shape, *sizes, c.text_offset)
        else:
            unet = conditional_unet(stats.shape, c.channels, c.layers, c.heads, c.text_width)
        return TextToImageNetwork(unet, encoder, process)

    def build(self, stats: DataStats) -> Model:
        """A new model, whose conditions are the prompts of ``stats``."""
        process, tokenizer = self.process(stats), self.tokenizer(stats)
        network = self.network(stats, process)
        assert isinstance(network, TextToImageNetwork)
        return Model(
            network,
            process,
            stats.codec(*self.data_range),
            stats.shape,
            Prompts(stats.prompts or (), tokenizer, PromptEncoder(network.text_encoder)),
            self.options.prediction,
            self.parts(network),
        )

    def parts(self, network: nn.Module) -> Mapping[str, Iterable[str]]:
        """The parts by the names of Stable Diffusion's parameters."""
        return named_parts(network)

    def add_adapter(self, model: Model, part: str) -> None:
        """``lora:R``, a LoRA of rank R in the attention of the denoiser."""
        add_lora(model, part)

    def describe(self, model: Model) -> Mapping[str, Any]:
        """Heads, norms, activations, time features, the output's meaning and that of tokens."""
        network, tokenizer = model.network, model.prompts.tokenizer
        assert isinstance(network, TextToImageNetwork)
        assert isinstance(tokenizer, WordTokenizer)
        return network.describe() | {
            "prediction": model.prediction_type,
            "tokenizer": tokenizer.digest,
        }

    def from_pretrained(
        self, source: str, stats: DataStats, download: bool = True
    ) -> PretrainedNetwork:
        """A folder of ``save_pretrained``; no other program trains such a model on these words."""
        require_text()
        folder = read_folder(source)
        backbone = type(self).create(folder.options())
        with torch.device("meta"):
            model = backbone.build(stats)
        weights, sha256 = read_weights(folder, model)
        return PretrainedNetwork(backbone, weights, sha256)

    def read_change(self, source: Path, model: Model) -> WeightChange:
        """What ``save_part`` writes."""
        return read_change(source, model.network.state_dict())

    def save_part(self, state: Mapping[str, Tensor], part: str, folder: Path) -> str:
        """A LoRA as diffusers writes it, or weights of one part under its names."""
        save_part(state, folder)
        return PART_USAGE

    def save_pretrained(self, model: Model, folder: Path) -> str:
        """U-Net and text encoder, tokenizer and scheduler, each as its library saves it."""
        network, process, tokenizer = model.network, model.process, model.prompts.tokenizer
        assert isinstance(network, TextToImageNetwork)
        assert isinstance(process, DiscreteDDPM)
        assert isinstance(tokenizer, WordTokenizer)
        if not is_unet(network.unet):
            raise IncompatibleError(
                "the transformer of t2i, which diffusers does not have",
                "models with -b network=unet",
            )
        return save_folder(model, process, tokenizer, folder)


@hookimpl
def register_backbones() -> Sequence[type[Backbone]]:
    """Text to image."""
    return [TextToImage]
