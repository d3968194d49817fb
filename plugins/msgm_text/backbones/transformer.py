"""A transformer of Stable Diffusion's blocks on the patches of a small image."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msgm_bench import IncompatibleError

TextOffset = Literal["image", "patch"]


class PatchTransformer(nn.Module):
    """Self-attention, cross-attention and a feed-forward layer a block, on patches of an image.

    Patch i of p x p pixels becomes

        h_i = W x_i + pos_i + e(t) + V c_L        (text_offset ``image``)
        h_i = W x_i + pos_i + e(t) + (V c_L)_i    (``patch``, with a block of V's rows a patch),

    with the features e of the time and the hidden state c_L of the text's last position, which has
    seen all of the prompt. Blocks are diffusers' ``BasicTransformerBlock``, as Stable Diffusion's
    U-Net has them, and read all of the text; their feed-forward layers are twice as wide. The
    first output is zero.

    Args:
        shape: ``(C, H, W)``.
        patch: p.
        width: Width of the blocks.
        depth: Number of blocks.
        heads: Heads of each attention.
        text_width: d, width of the text's hidden states.
        text_offset: Whether V c_L is one offset of the whole image, or one of each patch.

    Raises:
        IncompatibleError: The items are no images, or their sides no multiples of p.

    Source: Rombach et al. 2022, arXiv:2112.10752, appendix E.2.1 (blocks); Peebles and Xie 2022,
    arXiv:2212.09748, section 3.2 (patches).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        patch: int,
        width: int,
        depth: int,
        heads: int,
        text_width: int,
        text_offset: TextOffset = "image",
    ) -> None:
        super().__init__()
        from diffusers.models.attention import BasicTransformerBlock  # takes seconds
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps

        check_patches(shape, patch)
        self.shape, self.patch, self.text_offset = shape, patch, text_offset
        dim, count = shape[0] * patch**2, shape[1] * shape[2] // patch**2
        self.proj_in = nn.Linear(dim, width)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(count, width))
        self.time_proj = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(width, width)
        offsets = count if text_offset == "patch" else 1
        self.text_embedding = nn.Linear(text_width, offsets * width)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(
                width,
                heads,
                width // heads,
                cross_attention_dim=text_width,
                ff_inner_dim=2 * width,
            )
            for _ in range(depth)
        )
        self.norm_out = nn.LayerNorm(width)
        self.proj_out = nn.Linear(width, dim)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    @property
    def config(self) -> dict[str, Any]:
        """The function that the weights stand for, beyond their shapes."""
        attention: Any = self.transformer_blocks[0].attn1
        return {
            "patch_size": self.patch,
            "num_attention_heads": attention.heads,
            "activation_fn": "geglu",
            "norm_type": "layer_norm",
            "time_embedding_type": "positional",
            "text_offset": self.text_offset,
        }

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """The prediction ``[N, C, H, W]`` for timesteps ``[N]`` and text ``[N, L, d]``.

        It is the only entry of a tuple, as diffusers' networks have it without ``return_dict``.
        """
        e = self.time_embedding(self.time_proj(timestep).to(sample.dtype))
        offset = self.text_embedding(encoder_hidden_states[:, -1])
        e = e[:, None] + offset.unflatten(1, (-1, e.shape[1]))  # [N, 1 or patches, width]
        patches = F.unfold(sample, self.patch, stride=self.patch).transpose(1, 2)
        h = self.proj_in(patches) + self.pos_embed + e
        for block in self.transformer_blocks:
            h = block(h, encoder_hidden_states=encoder_hidden_states)
        h = self.proj_out(self.norm_out(h)).transpose(1, 2)
        return (F.fold(h, self.shape[1:], self.patch, stride=self.patch),)


def check_patches(shape: tuple[int, ...], patch: int) -> None:
    """Refuse items that are no images, or whose sides are no multiples of ``patch``.

    Raises:
        IncompatibleError: ``shape`` is one of these.
    """
    if len(shape) != 3:
        raise IncompatibleError(
            f"a text-to-image model of items of shape {shape}", "a dataset of images with prompts"
        )
    if any(side % patch for side in shape[1:]):
        raise IncompatibleError(
            f"patches of {patch} px on images of {shape[1]}x{shape[2]}",
            "a number that divides both sides: -b patch=N",
        )
