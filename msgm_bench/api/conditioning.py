"""Conditions of a model: classes, or prompts."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from msgm_bench.errors import OptionError

BLOCK = 32
"""Prompts that are encoded at once; fixed, so that no embedding depends on a batch."""

MEMO_BYTES = 2**29


class Conditioning(ABC):
    """The conditions 0 .. K-1 of a model, and the null condition K, which stands for any.

    Attributes:
        count: K.
    """

    count: int

    @abstractmethod
    def embed(self, index: Tensor) -> Tensor:
        """What the network takes for conditions ``int64 [N]`` in 0 .. K: ``[N, ...]``."""


class Labels(Conditioning):
    """Classes, which the network embeds itself.

    Args:
        count: K, the number of classes.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def embed(self, index: Tensor) -> Tensor:
        """``index``."""
        return index


class TextEncoder(Protocol):
    """A module that encodes tokens, or the embeddings of their words."""

    def parameters(self) -> object:
        """Its parameters."""

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of the words' embeddings, ``[V, d_w]``."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """Tokens ``int64 [N, L]`` or word embeddings ``float [N, L, d_w]`` to ``[N, L, d]``."""


class Tokenizer(Protocol):
    """Turns prompts into tokens of one length."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokens ``int64 [N, L]``, on the CPU.

        Raises:
            OptionError: A prompt has more than L tokens.
        """


class Prompts(Conditioning):
    """Prompts, which a text encoder embeds; the null condition is the empty prompt.

    Embeddings are computed in fixed blocks of prompts, so that they depend on no batch, and are
    memoised as long as no gradient can reach the encoder. A GPU computes all of a frozen encoder
    at first, where they fit: the host would wait for it to learn which ones a batch needs.

    Args:
        texts: The prompts 0 .. K-1.
        tokenizer: Turns prompts into tokens.
        encoder: Embeds tokens; a part of the model's network.

    Raises:
        OptionError: A prompt is too long for the tokenizer.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, encoder: nn.Module) -> None:
        self.texts, self.tokenizer, self.encoder = (*texts, ""), tokenizer, encoder
        self.count = len(texts)
        with torch.device("cpu"):  # a model without memory has its prompts all the same
            self.tokens = tokenizer(self.texts)
        self._memo: OrderedDict[int, Tensor] = OrderedDict()
        self._table: Tensor | None = None  # all embeddings, where the memo has them
        self._version: object = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Prompts:
        """The same prompts for a copy of the encoder; tokenizer and tokens are shared."""
        same = copy.copy(self)
        memo[id(self)] = same
        same.encoder, same._memo = copy.deepcopy(self.encoder, memo), OrderedDict()
        same._table = same._version = None
        return same

    def embed(self, index: Tensor) -> Tensor:
        """Embeddings ``float [N, L, d]`` of prompts ``int64 [N]``."""
        is_trained = any(p.requires_grad for p in self.encoder.parameters())
        if torch.is_grad_enabled() and is_trained:
            used, inverse = index.unique(return_inverse=True)
            embeddings: Tensor = self.encoder(self.tokens.to(index.device)[used])
            return embeddings[inverse]
        self._forget_outdated()
        if self._table is None and index.device.type != "cpu" and not is_trained:
            self._fill(index.device)
        if self._table is not None:
            return self._table[index]
        used, inverse = index.unique(return_inverse=True)
        rows = used.tolist()
        blocks = {block: self._block(block, index.device) for block in {r // BLOCK for r in rows}}
        self._tabulate()
        return torch.stack([blocks[row // BLOCK][row % BLOCK] for row in rows])[inverse]

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings ``float [N, L, d]`` of prompts that need not be in the table.

        Raises:
            OptionError: A prompt is too long for the tokenizer.
        """
        device = next(self.encoder.parameters()).device
        embeddings: Tensor = self.encoder(self.tokenizer(texts).to(device))
        return embeddings

    def indices(self, texts: Sequence[str]) -> list[int]:
        """Indices of prompts of the table.

        Raises:
            OptionError: A prompt is not in the table.
        """
        known = {text: i for i, text in reversed(list(enumerate(self.texts)))}
        for text in texts:
            if text not in known:
                raise OptionError(f"the prompt {text!r} is not one of the model's", "its prompts")
        return [known[text] for text in texts]

    @torch.no_grad()
    def _block(self, block: int, device: torch.device) -> Tensor:
        """Embeddings of the prompts of a block, from the memo where it has them."""
        if block not in self._memo:
            tokens = self.tokens[block * BLOCK : (block + 1) * BLOCK].to(device)
            self._memo[block] = self.encoder(tokens)
            size = self._memo[block].nbytes
            while len(self._memo) > 1 and size * len(self._memo) > MEMO_BYTES:
                self._memo.popitem(last=False)
        self._memo.move_to_end(block)
        return self._memo[block]

    def _fill(self, device: torch.device) -> None:
        """Embed all prompts, where the memo has room for them."""
        if self._block(0, device).nbytes * self._num_blocks <= MEMO_BYTES:
            for block in range(self._num_blocks):
                self._block(block, device)
            self._tabulate()

    def _tabulate(self) -> None:
        """Join the blocks of a memo that has all of them."""
        if len(self._memo) == self._num_blocks:
            self._table = torch.cat([self._memo[block] for block in range(self._num_blocks)])
            self._memo.clear()

    @property
    def _num_blocks(self) -> int:
        return math.ceil(len(self.texts) / BLOCK)

    def _forget_outdated(self) -> None:
        """Empty the memo where the encoder's weights have changed since."""
        version = [(p.data_ptr(), p._version, p.dtype) for p in self.encoder.parameters()]
        if version != self._version:
            self._memo.clear()
            self._table, self._version = None, version
