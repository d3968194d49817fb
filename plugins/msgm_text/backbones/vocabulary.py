"""Vocabulary and merges of a CLIP tokenizer, read from the files that transformers writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msgm_bench import IncompatibleError, OptionError
from msgm_bench.storage import error_summary, read_json, read_text, single_line
from msgm_bench.storage.cards import parse_card, short
from msgm_builtin.backbones.diffusers_io import read_object
from msgm_text.backbones.pipeline_cards import TokenizerCard
from msgm_text.extra import require_text

CONFIG, SPECIAL, WHOLE = "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"
VOCAB, MERGES = "vocab.json", "merges.txt"
CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast")
TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
LAYOUT = f"{VOCAB} and {MERGES}, or {WHOLE}; and {CONFIG}"
FILES = (CONFIG, SPECIAL, WHOLE, VOCAB, MERGES)


@dataclass(frozen=True)
class Vocabulary:
    """A byte-pair encoding and its special tokens.

    Attributes:
        tokens: Number of each token.
        merges: Pairs of pieces, in the order in which they are merged.
        card: Special tokens, and L.
    """

    tokens: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]
    card: TokenizerCard

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @property
    def sha256(self) -> str:
        """Hash of tokens and merges, whatever files hold them."""
        text = json.dumps([dict(self.tokens), self.merges], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class ClipTokenizer:
    """transformers' ``CLIPTokenizer``: prompts to tokens, padded to L.

    Args:
        vocabulary: Vocabulary and special tokens.

    Attributes:
        clip: The tokenizer, whose ``save_pretrained`` writes its files.
        length: L.

    Raises:
        IncompatibleError: There is no such tokenizer.
        UsageError: The extra ``[text]`` is not installed.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        require_text()
        from transformers import CLIPTokenizer  # takes seconds

        card = vocabulary.card
        self.length = card.length
        try:
            self.clip: Any = CLIPTokenizer(
                vocab=dict(vocabulary.tokens),
                merges=list(vocabulary.merges),  # type: ignore[arg-type]
                model_max_length=card.length,
                **card.model_dump(include=set(TOKENS)),
            )
        except Exception as error:
            raise IncompatibleError(
                f"there is no such tokenizer: {error_summary(error)}", "vocabulary and merges"
            ) from error

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokens ``int64 [N, L]``, on the CPU.

        Raises:
            OptionError: A prompt has more than L tokens.
        """
        rows = self.clip(list(texts), padding="max_length", max_length=self.length)["input_ids"]
        for text, row in zip(texts, rows, strict=True):
            if len(row) > self.length:
                raise OptionError(
                    f"the prompt {short(text)} has {len(row)} tokens, its start and end included",
                    f"at most {self.length}, as the model reads",
                    "shorten the prompt: what is cut off would not be drawn",
                )
        return torch.tensor(rows, dtype=torch.int64, device="cpu").reshape(-1, self.length)


def read_vocabulary(folder: Path, inside: Path) -> Vocabulary:
    """The tokenizer in a folder, in the layout of transformers 5 or of 2022.

    Raises:
        StorageError: A file is damaged or not there.
        IncompatibleError: It is no CLIP tokenizer.
    """
    config = read_object(folder / CONFIG, inside)
    special = read_object(folder / SPECIAL, inside) if (folder / SPECIAL).exists() else {}
    if config.get("tokenizer_class") not in (None, *CLASSES):
        raise IncompatibleError(
            f"{single_line(folder / CONFIG)} describes {short(config['tokenizer_class'])}",
            " or ".join(CLASSES),
        )
    length = config.get("model_max_length")
    values = {key: _token((config | special)[key]) for key in TOKENS if key in config | special}
    card = parse_card(values | {"length": length}, TokenizerCard, single_line(folder / CONFIG))
    if (folder / VOCAB).exists():
        name, tokens = single_line(folder / VOCAB), read_json(folder / VOCAB, inside)
        lines = read_text(folder / MERGES, inside).split("\n")
        merges: Any = [line.split() for line in lines if line and not line.startswith("#version")]
    else:
        name, tokens, merges = _whole(folder / WHOLE, inside)
    return Vocabulary(_checked_tokens(name, tokens, card), _checked_merges(name, merges), card)


def _whole(path: Path, inside: Path) -> tuple[str, Any, Any]:
    """Name of the file, vocabulary and merges of a ``tokenizer.json``."""
    name, model = single_line(path), read_object(path, inside).get("model")
    if not isinstance(model, dict) or model.get("end_of_word_suffix") != "</w>":
        raise IncompatibleError(f"{name} is no byte-pair encoding of CLIP", LAYOUT)
    merges = model.get("merges")
    if isinstance(merges, list):
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    return name, model.get("vocab"), merges


def _token(value: Any) -> Any:
    """The text of a special token, which older versions write with its properties."""
    return value.get("content") if isinstance(value, dict) else value


def _checked_tokens(name: str, tokens: Any, card: TokenizerCard) -> Mapping[str, int]:
    if not isinstance(tokens, dict) or sorted(
        number if type(number) is int else -1 for number in tokens.values()
    ) != list(range(len(tokens))):
        raise IncompatibleError(
            f"{name} holds no vocabulary", "tokens with the numbers 0, 1, 2, ..., each once"
        )
    for key in TOKENS:
        if getattr(card, key) not in tokens:
            raise IncompatibleError(
                f"{name} lacks the {key} {short(getattr(card, key))}", "the tokenizer's own files"
            )
    return tokens


def _checked_merges(name: str, merges: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(merges, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair)
        for pair in merges
    ):
        raise IncompatibleError(f"{name} has no merges", "pairs of pieces, in order")
    return tuple((left, right) for left, right in merges)
