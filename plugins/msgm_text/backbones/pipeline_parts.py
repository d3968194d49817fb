"""New networks from the cards of a Stable Diffusion, and the data that they fit."""

from __future__ import annotations

from typing import Any

from torch import nn

from msgm_bench import DataStats, IncompatibleError, OptionError
from msgm_bench.storage import error_summary
from msgm_text.backbones.pipeline_cards import PipelineCard
from msgm_text.extra import require_text


def new_parts(card: PipelineCard) -> tuple[nn.Module, nn.Module]:
    """A new U-Net and a new text encoder.

    Raises:
        OptionError: The libraries cannot build them.
        UsageError: The extra ``[text]`` is not installed.
    """
    require_text()
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    try:
        unet = UNet2DConditionModel(**card.unet.model_dump())
        text_encoder = CLIPTextModel(CLIPTextConfig(**card.text_encoder.model_dump()))
    except Exception as error:
        raise OptionError(
            f"no network has such options: {error_summary(error)}",
            "what diffusers' UNet2DConditionModel and transformers' CLIPTextModel take",
        ) from error
    return unet, text_encoder


def new_autoencoder(card: PipelineCard) -> Any:
    """A new autoencoder.

    Raises:
        OptionError: diffusers cannot build it.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    try:
        return AutoencoderKL(**card.vae.model_dump())
    except Exception as error:
        raise OptionError(
            f"no autoencoder has such options: {error_summary(error)}", "AutoencoderKL's"
        ) from error


def latent_shape(card: PipelineCard, stats: DataStats) -> tuple[int, ...]:
    """Shape of the latents of the data's images.

    Raises:
        IncompatibleError: There are no prompts, or the items are no colour images of a size that
            the autoencoder halves.
    """
    if stats.prompts is None:
        raise IncompatibleError(
            "the backbone 'stable_diffusion' without prompts",
            "--text, and a dataset that has prompts",
        )
    factor = card.vae.downscale
    is_image = stats.levels is not None and len(stats.shape) == 3 and stats.shape[0] == 3
    if not is_image or any(side % factor for side in stats.shape[1:]):
        raise IncompatibleError(
            f"items of shape {stats.shape} for the autoencoder of the base",
            f"colour images of shape (3, H, W), H and W multiples of {factor}",
        )
    return (card.vae.latent_channels, *(side // factor for side in stats.shape[1:]))


def other_size(card: PipelineCard, stats: DataStats) -> str:
    """A remark where images are of another size than the network's training."""
    size = card.unet.sample_size
    sides = (size, size) if isinstance(size, int) else size
    own = latent_shape(card, stats)[1:]
    if sides is None or tuple(sides) == own:
        return ""
    trained, used = ("x".join(str(s * card.vae.downscale) for s in side) for side in (sides, own))
    return f"its card says {trained} pixels, and the data have {used}"
