"""Cards of Stable Diffusion's parts: every field and its values, so that none is ignored."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from msgm_bench.storage.cards import Card, ForeignCard
from msgm_builtin.backbones.diffusers_cards import (
    Beta,
    Channels,
    Groups,
    Levels,
    Positive,
    Side,
    Steps,
    Width,
    Word,
)

Down = Literal["CrossAttnDownBlock2D", "DownBlock2D"]
Up = Literal["CrossAttnUpBlock2D", "UpBlock2D"]
Small = Annotated[int, Field(ge=1, le=256)]
Component = Annotated[tuple[Word | None, ...], Field(max_length=2)] | None
TokenId = Annotated[int, Field(ge=0, lt=1_000_000)] | None
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Token = Annotated[str, Field(min_length=1, max_length=100)]
PER_LEVEL = Annotated[tuple[Small, ...], Levels]


class ConditionalUNetCard(ForeignCard):
    """``config.json`` of a ``UNet2DConditionModel`` of Stable Diffusion 1.x and 2.x."""

    ignored: ClassVar[frozenset[str]] = frozenset(
        ("addition_embed_type_num_heads", "dropout")  # of an embedding that is absent; no function
    )

    sample_size: Side | tuple[Side, Side] | None = None
    in_channels: Channels = 4
    out_channels: Channels = 4
    center_input_sample: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: Annotated[int, Field(ge=0, le=10)] = 0
    down_block_types: Annotated[tuple[Down, ...], Levels] = (
        *("CrossAttnDownBlock2D",) * 3,
        "DownBlock2D",
    )
    mid_block_type: Literal["UNetMidBlock2DCrossAttn"] = "UNetMidBlock2DCrossAttn"
    up_block_types: Annotated[tuple[Up, ...], Levels] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    block_out_channels: Annotated[tuple[Width, ...], Levels] = (320, 640, 1280, 1280)
    layers_per_block: Annotated[int, Field(ge=1, le=32)] = 2
    downsample_padding: Annotated[int, Field(ge=0, le=4)] = 1
    mid_block_scale_factor: Positive = 1
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    norm_num_groups: Groups = 32
    norm_eps: Annotated[float, Field(gt=0, le=1)] = 1e-5
    cross_attention_dim: Width = 1280
    transformer_layers_per_block: Small = 1
    attention_head_dim: Small | PER_LEVEL = 8
    use_linear_projection: bool = False
    upcast_attention: bool = False
    attention_type: Literal["default"] = "default"
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    resnet_out_scale_factor: Literal[1] = 1
    time_embedding_type: Literal["positional"] = "positional"
    conv_in_kernel: Literal[3] = 3
    conv_out_kernel: Literal[3] = 3

    @model_validator(mode="after")
    def _check_levels(self) -> ConditionalUNetCard:
        """One entry for each resolution."""
        sizes = {len(self.down_block_types), len(self.up_block_types), len(self.block_out_channels)}
        if isinstance(self.attention_head_dim, tuple):
            sizes.add(len(self.attention_head_dim))
        if len(sizes) > 1:
            raise ValueError("blocks, channels and heads of different numbers of resolutions")
        return self


class AutoencoderCard(ForeignCard):
    """``config.json`` of an ``AutoencoderKL``."""

    ignored: ClassVar[frozenset[str]] = frozenset(("force_upcast", "sample_size"))

    in_channels: Channels = 3
    out_channels: Channels = 3
    down_block_types: Annotated[tuple[Literal["DownEncoderBlock2D"], ...], Levels] = (
        "DownEncoderBlock2D",
    )
    up_block_types: Annotated[tuple[Literal["UpDecoderBlock2D"], ...], Levels] = (
        "UpDecoderBlock2D",
    )
    block_out_channels: Annotated[tuple[Width, ...], Levels] = (64,)
    layers_per_block: Annotated[int, Field(ge=1, le=32)] = 1
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    latent_channels: Channels = 4
    norm_num_groups: Groups = 32
    scaling_factor: Positive = 0.18215
    shift_factor: Annotated[float, Field(ge=-1e3, le=1e3)] | None = None
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    @model_validator(mode="after")
    def _check_levels(self) -> AutoencoderCard:
        """One entry for each resolution."""
        sizes = {len(self.down_block_types), len(self.up_block_types), len(self.block_out_channels)}
        if len(sizes) > 1:
            raise ValueError("blocks and channels of different numbers of resolutions")
        return self

    @property
    def downscale(self) -> int:
        """Pixels along the side of an image for one of its latents."""
        return int(2 ** (len(self.block_out_channels) - 1))


class TextEncoderCard(ForeignCard):
    """``config.json`` of a ``CLIPTextModel``, of which the last hidden states are used.

    The projection belongs to the pooled output, dropout and initialisation to training.
    """

    ignored: ClassVar[frozenset[str]] = frozenset(
        (
            *("architectures", "model_type", "torch_dtype", "dtype", "transformers_version"),
            *("attention_dropout", "dropout", "initializer_factor", "initializer_range"),
            "projection_dim",
        )
    )

    vocab_size: Annotated[int, Field(ge=2, le=1_000_000)] = 49_408
    hidden_size: Width = 512
    intermediate_size: Annotated[int, Field(ge=1, le=65_536)] = 2_048
    num_hidden_layers: Annotated[int, Field(ge=1, le=128)] = 12
    num_attention_heads: Small = 8
    max_position_embeddings: Annotated[int, Field(ge=3, le=4_096)] = 77
    hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu"
    layer_norm_eps: Annotated[float, Field(gt=0, le=1)] = 1e-5
    bos_token_id: TokenId = 49_406
    eos_token_id: TokenId = 49_407
    pad_token_id: TokenId = 1


class ScheduleCard(Card):
    """What a scheduler of diffusers says of the training of its network."""

    num_train_timesteps: Steps = 1000
    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02
    beta_schedule: Literal["linear", "scaled_linear"] = "linear"
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"


class TokenizerCard(Card):
    """Special tokens of a ``CLIPTokenizer``, and L, the number of tokens of a prompt."""

    bos_token: Token = "<|startoftext|>"
    eos_token: Token = "<|endoftext|>"
    unk_token: Token = "<|endoftext|>"
    pad_token: Token = "<|endoftext|>"
    length: Annotated[int, Field(ge=3, le=4_096)]


class PipelineCard(Card):
    """The parts of a Stable Diffusion, and hashes of what lies in files beside it.

    Attributes:
        unet: The denoiser.
        vae: The autoencoder.
        text_encoder: CLIP's text encoder.
        tokenizer: Its special tokens.
        schedule: Betas and prediction.
        vae_sha256: SHA-256 of the autoencoder's weights file.
        vocabulary_sha256: SHA-256 of vocabulary and merges.
    """

    unet: ConditionalUNetCard
    vae: AutoencoderCard
    text_encoder: TextEncoderCard
    tokenizer: TokenizerCard
    schedule: ScheduleCard
    vae_sha256: Sha256
    vocabulary_sha256: Sha256

    def options(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return self.model_dump(mode="json")


class IndexCard(ForeignCard):
    """``model_index.json`` of a Stable Diffusion.

    A safety checker looks at finished images and an image encoder at further conditions: neither
    is part of the model.
    """

    ignored: ClassVar[frozenset[str]] = frozenset(
        ("feature_extractor", "image_encoder", "requires_safety_checker")
    )

    class_name: Literal["StableDiffusionPipeline"] = Field(alias="_class_name")
    unet: Component = None
    vae: Component = None
    text_encoder: Component = None
    tokenizer: Component = None
    scheduler: Component = None
    safety_checker: Component = None
