"""CLIP's text encoder, which also takes embeddings of words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from msgm_text.extra import require_text


class PromptEncoder(nn.Module):
    """The hidden states of a ``CLIPTextModel``, of tokens or of the embeddings of words.

    h = LN(E(w + p)), with w the words' embeddings, p those of their positions and E the layers
    under a causal mask. Where a prompt is padded with its end token, as CLIP pads, the last
    position has seen all of it.

    Args:
        clip: The text encoder.

    Source: Radford et al. 2021, arXiv:2103.00020, section 2.4.
    """

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of the words' embeddings, ``[V, d_w]``."""
        table: nn.Embedding = self.clip.get_input_embeddings()
        return table

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens ``int64 [N, L]`` or embeddings of words ``float [N, L, d_w]``: ``[N, L, d]``."""
        if not tokens.is_floating_point():
            return self._hidden(tokens)
        with self._words(tokens):
            return self._hidden(torch.zeros_like(tokens[..., 0], dtype=torch.int64))

    def _hidden(self, tokens: Tensor) -> Tensor:
        states: Tensor = self.clip(input_ids=tokens).last_hidden_state
        return states

    @contextlib.contextmanager
    def _words(self, words: Tensor) -> Iterator[None]:
        """A block in which the table gives ``words``: transformers' encoder takes tokens alone."""
        handle = self.get_input_embeddings().register_forward_hook(lambda *_: words)
        try:
            yield
        finally:
            handle.remove()


def text_encoder(
    vocabulary: int, start: int, end: int, length: int, width: int, layers: int, heads: int
) -> Any:
    """A new ``CLIPTextModel``.

    Args:
        vocabulary: Number of tokens.
        start: The token before a prompt.
        end: The token behind a prompt.
        length: L, tokens of a prompt.
        width: d, of words and of hidden states; the layers inside are twice as wide.
        layers: Number of layers.
        heads: Number of heads.

    Raises:
        UsageError: The extra ``[text]`` is not installed.
    """
    require_text()
    from transformers import CLIPTextConfig, CLIPTextModel  # takes seconds

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=length,
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
