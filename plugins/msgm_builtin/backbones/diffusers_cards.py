"""diffusers' cards of pixel models: every field and its values, so that none is ignored."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from msgm_bench.storage.cards import ForeignCard

Down = Literal[
    "DownBlock2D",
    "AttnDownBlock2D",
    "ResnetDownsampleBlock2D",
    "SkipDownBlock2D",
    "AttnSkipDownBlock2D",
]
Up = Literal[
    "UpBlock2D",
    "AttnUpBlock2D",
    "ResnetUpsampleBlock2D",
    "SkipUpBlock2D",
    "AttnSkipUpBlock2D",
]
Side = Annotated[int, Field(ge=1, le=4_096)]
Width = Annotated[int, Field(ge=1, le=8_192)]
Channels = Annotated[int, Field(ge=1, le=64)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Groups = Annotated[int, Field(ge=1, le=1_024)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
Beta = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Word = Annotated[str, Field(max_length=100)]
Levels = Field(min_length=1, max_length=16)
Pipeline = Literal["DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "ScoreSdeVePipeline"]


class UNetCard(ForeignCard):
    """``config.json`` of a ``UNet2DModel``, with diffusers' own defaults."""

    ignored: ClassVar[frozenset[str]] = frozenset(  # fields of EMAModel.save_pretrained
        (
            *("decay", "inv_gamma", "min_decay", "optimization_step", "power"),
            *("update_after_step", "use_ema_warmup"),
        )
    )

    sample_size: Side | tuple[Side, Side] | None = None
    in_channels: Channels = 3
    out_channels: Channels = 3
    center_input_sample: bool = False
    time_embedding_type: Literal["positional", "fourier", "learned"] = "positional"
    time_embedding_dim: Annotated[int, Field(ge=1, le=65_536)] | None = None
    freq_shift: Annotated[float, Field(ge=0, le=10)] = 0
    flip_sin_to_cos: bool = True
    down_block_types: Annotated[tuple[Down, ...], Levels] = (
        "DownBlock2D",
        *("AttnDownBlock2D",) * 3,
    )
    mid_block_type: Literal["UNetMidBlock2D"] | None = "UNetMidBlock2D"
    up_block_types: Annotated[tuple[Up, ...], Levels] = (
        *("AttnUpBlock2D",) * 3,
        "UpBlock2D",
    )
    block_out_channels: Annotated[tuple[Width, ...], Levels] = (224, 448, 672, 896)
    layers_per_block: Annotated[int, Field(ge=1, le=32)] = 2
    mid_block_scale_factor: Positive = 1
    downsample_padding: Annotated[int, Field(ge=0, le=4)] = 1
    downsample_type: Literal["conv", "resnet"] | None = "conv"
    upsample_type: Literal["conv", "resnet"] | None = "conv"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    attention_head_dim: Annotated[int, Field(ge=1, le=8_192)] | None = 8
    norm_num_groups: Groups = 32
    attn_norm_num_groups: Groups | None = None
    norm_eps: Annotated[float, Field(gt=0, le=1)] = 1e-5
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    add_attention: bool = True
    class_embed_type: Word | None = None
    num_class_embeds: Count | None = None
    num_train_timesteps: Steps | None = None

    @field_validator("freq_shift", "mid_block_scale_factor")
    @classmethod
    def _as_integer(cls, value: float) -> float:
        """1 for 1.0, so that one network has one description."""
        return int(value) if value.is_integer() else value

    @model_validator(mode="after")
    def _check_heads(self) -> UNetCard:
        """An attention block of C channels has C // ``attention_head_dim`` heads, one or more."""
        blocks = [*zip(self.down_block_types, self.block_out_channels, strict=False)]
        widths = [width for block, width in blocks if "Attn" in block]
        widths += [self.block_out_channels[-1]] if self.add_attention else []
        dim = self.attention_head_dim
        if dim is not None and any(width % dim for width in widths):
            raise ValueError(f"attention_head_dim {dim} does not divide {min(widths)} channels")
        return self

    def options(self) -> dict[str, Any]:
        """All arguments of ``UNet2DModel`` but the dropout, which is no part of its function."""
        return self.model_dump(mode="json", exclude={"dropout"})


class SchedulerCard(ForeignCard):
    """``scheduler_config.json`` of a discrete process.

    Betas and ``prediction_type`` are those of the training; the other fields are options of
    diffusers' sampling, which is not used here.
    """

    ignored: ClassVar[frozenset[str]] = frozenset(("tensor_format",))

    num_train_timesteps: Steps = 1000
    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"] = (
        "linear"
    )
    trained_betas: Annotated[tuple[Beta, ...], Field(min_length=1, max_length=100_000)] | None = (
        None
    )
    rescale_betas_zero_snr: bool = False
    prediction_type: Word = "epsilon"
    predict_epsilon: bool | None = None
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"] = (
        "fixed_small"
    )
    clip_sample: bool = True
    clip_sample_range: Positive = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: Annotated[float, Field(ge=0, le=1)] = 0.995
    sample_max_value: Positive = 1.0
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    steps_offset: Annotated[int, Field(ge=0, le=1_000)] = 0
    set_alpha_to_one: bool = True
    skip_prk_steps: bool = False

    @property
    def prediction(self) -> str:
        """Quantity that the network predicts."""
        return "sample" if self.predict_epsilon is False else self.prediction_type


Component = Annotated[tuple[Word | None, ...], Field(max_length=2)] | None


class PipelineCard(ForeignCard):
    """``model_index.json`` of a pipeline that is a network and a scheduler, and nothing else."""

    class_name: Pipeline = Field(alias="_class_name")
    unet: Component = None
    scheduler: Component = None
