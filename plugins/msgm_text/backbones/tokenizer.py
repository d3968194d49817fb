"""Tokenizers of a closed language, in which each word is one token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import OptionError, digest
from msgm_text.extra import require_text

START, END = "<|startoftext|>", "<|endoftext|>"


class WordTokenizer:
    """CLIP's tokenizer, with a byte-pair encoding that is trained on the words of a language.

    A prompt becomes ``<|startoftext|>``, its words, ``<|endoftext|>``, and the latter again up to
    L tokens, as CLIP pads. A word is what CLIP's pattern splits a text into: a run of letters in
    lower case, a digit, a run of signs. The encoding depends on the set of words alone.

    Args:
        texts: Texts that hold all words of the language.
        length: L.

    Attributes:
        clip: transformers' ``CLIPTokenizer``, whose ``save_pretrained`` writes its files.
        length: L.

    Raises:
        OptionError: The texts hold no word.
        UsageError: The extra ``[text]`` is not installed.

    Source: Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2021, arXiv:2103.00020.
    """

    def __init__(self, texts: Iterable[str], length: int) -> None:
        require_text()
        from transformers import CLIPTokenizer  # takes seconds

        self.length = length
        self.clip: Any = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[])
        self._words = {word for text in texts for word in self._split(text)}
        if not self._words:
            raise OptionError("prompts without a word", "prompts with words, or words of a dataset")
        vocabulary, merges = _train_bpe(sorted(self._words), self.clip.backend_tokenizer)
        self.clip = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokens ``int64 [N, L]``, on the CPU.

        Raises:
            OptionError: A prompt has more than L tokens, or a word that is not of the language.
        """
        for text in texts:
            self._check(text)
        padding: dict[str, Any] = {"padding": "max_length", "max_length": self.length}
        rows = [self.clip(text, **padding)["input_ids"] for text in texts]
        return torch.tensor(rows, dtype=torch.int64, device="cpu").reshape(-1, self.length)

    def __len__(self) -> int:
        """Number of tokens of the vocabulary."""
        return len(self.clip)

    @property
    def start(self) -> int:
        """The token before a prompt."""
        return int(self.clip.bos_token_id)

    @property
    def end(self) -> int:
        """The token behind a prompt, up to L."""
        return int(self.clip.eos_token_id)

    @property
    def digest(self) -> str:
        """SHA-256 of the vocabulary: which token is which word."""
        return digest(self.clip.get_vocab())

    def _split(self, text: str) -> list[str]:
        """The words of a text, their bytes written as letters."""
        backend = self.clip.backend_tokenizer
        normal = backend.normalizer.normalize_str(text)
        return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]

    def _check(self, text: str) -> None:
        words = self._split(text)
        if len(words) + 2 > self.length:
            raise OptionError(
                f"the prompt {text!r} has {len(words) + 2} tokens, its start and end included",
                f"at most {self.length} tokens",
                "shorten the prompt, or choose a longer text encoder: -b tokens=N",
            )
        for word in words:
            if word not in self._words:
                raise OptionError(
                    f"the word {word!r} of the prompt {text!r} is not in the model's language",
                    f"its {len(self._words)} words, which are those of its dataset",
                )


def _train_bpe(words: list[str], clip: Any) -> tuple[dict[str, int], Any]:
    """Vocabulary and merges of a byte-pair encoding that makes each word one token.

    Every word counts once and no pair is too rare, so merging ends when no word has two pieces:
    with W letters in all there are less than W merges, and at most 2 W letters and last letters.
    The trainer numbers last letters in the order of a hash table, by which it breaks ties; stated
    as special tokens they have numbers of their own.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    suffix = clip.model.end_of_word_suffix
    last_letters = sorted({word[-1] + suffix for word in words})
    trainer = trainers.BpeTrainer(
        vocab_size=2 + 3 * sum(map(len, words)),
        min_frequency=0,
        show_progress=False,
        special_tokens=[START, END, *last_letters],
        end_of_word_suffix=suffix,
    )
    bpe = Tokenizer(models.BPE(end_of_word_suffix=suffix))
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bpe.train_from_iterator(words, trainer)
    model = json.loads(bpe.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]
