"""diffusers' U-Net with cross-attention, as Stable Diffusion has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from msgm_builtin.backbones.networks import check_halvings, num_groups


def conditional_unet(
    shape: tuple[int, ...], channels: Sequence[int], layers: int, heads: int, text_width: int
) -> Any:
    """A new ``UNet2DConditionModel`` with attention at every resolution; its first output is zero.

    Args:
        shape: ``(C, H, W)``.
        channels: Width of each resolution; there are ``len(channels) - 1`` halvings.
        layers: Residual blocks a resolution.
        heads: Heads of each attention.
        text_width: d, width of the text's hidden states.

    Raises:
        IncompatibleError: The image cannot be halved that often, or the items are no images.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel  # takes seconds

    check_halvings(shape, len(channels) - 1)
    net = UNet2DConditionModel(
        sample_size=shape[1:],
        in_channels=shape[0],
        out_channels=shape[0],
        block_out_channels=tuple(channels),
        layers_per_block=layers,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        norm_num_groups=num_groups(channels),
        attention_head_dim=heads,  # diffusers' name for the number of heads
        cross_attention_dim=text_width,
    )
    for weight in net.conv_out.parameters():
        nn.init.zeros_(weight)
    return net
