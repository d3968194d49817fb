"""open_clip's card: its fields, and the network that they describe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from msgm_bench.storage.cards import Card, ForeignCard

Size = Annotated[int, Field(ge=1, le=16_384)]
Depth = Annotated[int, Field(ge=1, le=200)]
Pixels = Annotated[int, Field(ge=1, le=4_096)]
Ratio = Annotated[float, Field(gt=0, le=64)]
Share = Annotated[float, Field(ge=0, lt=1)]
Value = Annotated[float, Field(ge=-100, le=100)]
Positive = Annotated[float, Field(gt=0, le=100)]
Word = Annotated[str, Field(pattern=r"^[a-z0-9_.]*$", max_length=100)]
Three = tuple[Value, Value, Value]


class NormCard(Card):
    """Options of a normalisation."""

    eps: Annotated[float, Field(gt=0, le=1)] = 1e-5


class ActivationCard(Card):
    """Options of GELU."""

    approximate: Literal["none", "tanh"] = "none"


class TowerCard(ForeignCard):
    """Options of both towers."""

    width: Size = 512
    layers: Depth = 12
    mlp_ratio: Ratio = 4.0
    ls_init_value: Value | None = None
    final_ln_after_pool: bool = False
    output_tokens: bool = False
    pool_type: Word = "tok"
    act_kwargs: ActivationCard | None = None
    norm_kwargs: NormCard | None = None
    block_type: Word | None = None
    qk_norm: bool = False
    scaled_cosine_attn: bool = False
    scale_heads: bool = False
    scale_attn_inner: bool = False
    scale_attn: bool = False
    scale_fc: bool = False


class VisionCard(TowerCard):
    """``vision_cfg``; a tower of timm is built without its own weights."""

    layers: Depth | tuple[Depth, Depth, Depth, Depth] = 12  # type: ignore[assignment]
    head_width: Size = 64
    patch_size: Pixels | None = 16
    image_size: Pixels | tuple[Pixels, Pixels] = 224
    patch_dropout: Share = 0.0
    attentional_pool: bool = False
    attn_pooler_queries: Size = 256
    attn_pooler_heads: Size = 8
    no_ln_pre: bool = False
    pos_embed_type: Word = "learnable"
    timm_model_name: Word | None = None
    timm_model_pretrained: bool = False
    timm_pool: Word = "avg"
    timm_proj: Word | None = "linear"
    timm_proj_bias: bool = False
    timm_drop: Share = 0.0
    timm_drop_path: Share | None = None


class TextCard(TowerCard):
    """``text_cfg`` of open_clip's own text tower and tokenizer.

    Towers and tokenizers of Hugging Face (``hf_...``, ``tokenizer_...``) are not among the fields:
    they would bring code, files or downloads of their own.
    """

    context_length: Annotated[int, Field(ge=1, le=1_024)] = 77
    vocab_size: Annotated[int, Field(ge=1, le=1_000_000)] = 49_408
    heads: Size = 8
    embed_cls: bool = False
    pad_id: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    eos_id: Annotated[int, Field(ge=0, le=1_000_000)] = 2
    no_causal_mask: bool = False
    pool_type: Word = "argmax"
    proj_bias: bool = False
    proj_type: Word = "linear"


class ModelCard(ForeignCard):
    """``model_cfg``."""

    embed_dim: Size
    vision_cfg: VisionCard
    text_cfg: TextCard
    quick_gelu: bool = False
    custom_text: bool = False
    init_logit_scale: Value | None = None
    init_logit_bias: Value | None = None
    nonscalar_logit_scale: bool = False


class PreprocessCard(ForeignCard):
    """``preprocess_cfg``: images are resized (bicubic) and normalised."""

    size: Pixels | tuple[Pixels, Pixels] | tuple[Literal[3], Pixels, Pixels] | None = None
    mode: Literal["RGB"] = "RGB"
    mean: Three = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[Positive, Positive, Positive] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: Literal["bicubic"] = "bicubic"
    resize_mode: Literal["shortest", "squash"] = "shortest"
    fill_color: Annotated[int, Field(ge=0, le=255)] = 0


class ClipCard(ForeignCard):
    """``open_clip_config.json``."""

    model_cfg: ModelCard
    preprocess_cfg: PreprocessCard = PreprocessCard()


def build(card: ModelCard) -> nn.Module:
    """open_clip's network with fresh weights; nothing is downloaded."""
    import open_clip

    config = card.model_dump(mode="json", exclude_unset=True, exclude={"custom_text"})
    config["vision_cfg"]["timm_model_pretrained"] = False
    kind = open_clip.CustomTextCLIP if card.custom_text else open_clip.CLIP
    network: nn.Module = kind(**config)
    return network
