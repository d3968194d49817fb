"""Toy images with captions, and a toy text-to-image model: what checks of text models run on."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from msgm_bench.api import (
    Backbone,
    Data,
    DataStats,
    Examples,
    Model,
    Prediction,
    Prompt,
    PromptBook,
    Prompts,
    dsm_loss,
)
from msgm_bench.diffusion import Process, VariancePreserving
from msgm_bench.errors import OptionError
from msgm_bench.testing.toys import BASE_STEPS, SEED, ToyJudge, toy_images
from msgm_bench.training import NoisedBatches

CONCEPTS = ("top", "middle", "low")
LENGTH, WIDTH = 6, 8  # tokens of a prompt, entries of a word's embedding


def toy_prompts() -> PromptBook:
    """Two captions of each place of the bright pixel, and a prompt of it in most groups."""
    texts = [
        ("a {} light", "train"),
        ("the {} light", "train"),
        ("one {} light", "target"),
        ("one light {}", "synonym"),
        ("a light {}", "unrelated"),
    ]
    prompts = [
        Prompt(text.format(name), (i,), group, None if group == "train" else i)  # type: ignore[arg-type]
        for text, group in texts
        for i, name in enumerate(CONCEPTS)
    ]
    n = len(CONCEPTS)
    prompts += [
        Prompt(f"a {name} {CONCEPTS[(i + 1) % n]} light", (i, (i + 1) % n), "pair", i)
        for i, name in enumerate(CONCEPTS)
    ]
    anchors = dict(zip(CONCEPTS, (*CONCEPTS[1:], CONCEPTS[0]), strict=True))
    words = ("a", "light", "one", "the", *CONCEPTS)
    return PromptBook(CONCEPTS, tuple(prompts), {"place": CONCEPTS}, anchors, words)


def toy_captions(count: int = 96, size: int = 4) -> Data:
    """The toy images, with the place of the bright pixel as an attribute and as a caption."""
    data = toy_images(count, size)

    def captioned(items: Examples) -> Examples:
        c = items.y + len(CONCEPTS) * (torch.arange(len(items)) % 2)
        return Examples(items.x, items.y[:, None] == torch.arange(len(CONCEPTS)), c)

    return replace(
        data,
        train=captioned(data.train),
        test=captioned(data.test),
        classes=CONCEPTS,
        protocol="toy/captions@1",
        prompts=toy_prompts(),
    )


class ToyTextBackbone(Backbone):
    """VP SDE with a network of a few hundred weights that attends to a prompt."""

    name = "toy_text"
    text = True

    def process(self, stats: DataStats) -> Process:
        """The usual schedule."""
        return VariancePreserving()

    def network(self, stats: DataStats, process: Process) -> nn.Module:
        """A text encoder, and one layer of cross-attention."""
        return _ToyTextNetwork(torch.Size(stats.shape).numel(), len(stats.words))

    def build(self, stats: DataStats) -> Model:
        """A model of the prompts of ``stats``."""
        model = super().build(stats)
        assert isinstance(model.network, _ToyTextNetwork)
        tokenizer = ToyTokenizer(stats.words)
        model.conditioning = Prompts(stats.prompts or (), tokenizer, model.network.text_encoder)
        return model

    def parts(self, network: nn.Module) -> Mapping[str, Iterable[str]]:
        """The parts that Stable Diffusion has."""
        names = [name for name, _ in network.named_parameters()]
        unet = [name for name in names if name.startswith("unet.")]
        cross = [name for name in unet if ".attn2." in name]
        return {
            "text": [name for name in names if name.startswith("text_encoder.")],
            "unet": unet,
            "cross": cross,
            "cross_kv": [name for name in cross if ".to_k." in name or ".to_v." in name],
            "not_cross": [name for name in unet if name not in cross],
        }


class ToyTokenizer:
    """A token a word; 0 begins a prompt, 1 ends it and fills it up.

    Args:
        words: Words of the language.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.numbers = {word: i + 2 for i, word in enumerate(words)}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokens ``int64 [N, LENGTH]``.

        Raises:
            OptionError: A prompt has more words than fit, or an unknown one.
        """
        return torch.tensor([self._row(text) for text in texts])

    def _row(self, text: str) -> list[int]:
        words = text.split()
        unknown = [word for word in words if word not in self.numbers]
        if unknown or len(words) > LENGTH - 2:
            raise OptionError(
                f"the prompt {text!r}", f"{LENGTH - 2} words of {', '.join(self.numbers)}"
            )
        tokens = [0, *(self.numbers[word] for word in words)]
        return tokens + [1] * (LENGTH - len(tokens))


class _ToyTextEncoder(nn.Module):
    """Each token sees those before it."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words + 2, WIDTH)
        self.mixer = nn.Linear(2 * WIDTH, WIDTH)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, tokens: Tensor) -> Tensor:
        own = tokens if tokens.is_floating_point() else self.embedding(tokens)
        count = torch.arange(1, own.shape[1] + 1, device=own.device)[:, None]
        before = own.cumsum(1) / count
        return torch.tanh(self.mixer(torch.cat([own, before], dim=2)))


class _CrossAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, WIDTH, bias=False)
        self.to_k, self.to_v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.to_out = nn.ModuleList([nn.Linear(WIDTH, width)])

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        q, k, v = self.to_q(x)[:, None], self.to_k(hidden), self.to_v(hidden)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)[:, 0]
        result: Tensor = self.to_out[0](attended)
        return result


class _ToyUnet(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attn2 = _CrossAttention(dim + 1)
        self.layers = nn.Sequential(nn.Linear(dim + 1, 16), nn.SiLU(), nn.Linear(16, dim))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        result: Tensor = self.layers(x + self.attn2(x, hidden))
        return result


class _ToyTextNetwork(nn.Module):
    def __init__(self, dim: int, words: int) -> None:
        super().__init__()
        self.text_encoder, self.unet = _ToyTextEncoder(words), _ToyUnet(dim)

    def forward(self, x_t: Tensor, t: Tensor, hidden: Tensor) -> Tensor:
        flat = torch.cat([x_t.flatten(1), t[:, None].to(x_t.dtype)], dim=1)
        result: Tensor = self.unet(flat, hidden)
        return result.reshape(x_t.shape)


class ToyTextJudge(ToyJudge):
    """The toy judge, whose class is the one concept of an image."""

    name = "toy_text"

    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Nothing to learn."""
        assert data.levels is not None
        x = (data.test.x.float() + 0.5) / data.levels
        right = (self.predict(x).classes == data.test.y).all(dim=1).double().mean()
        self.report = {"accuracy": float(right), "items": len(data.test)}

    def predict(self, x: Tensor) -> Prediction:
        """The place of the brightest pixel, as concepts ``bool [N, 3]``."""
        prediction = super().predict(x)
        concepts = nn.functional.one_hot(prediction.classes, len(CONCEPTS)).bool()
        return Prediction(concepts, prediction.recognised)


def toy_text_model(data: Data | None = None) -> Model:
    """A text-to-image model with fresh weights from torch's current random state."""
    data = data or toy_captions()
    assert data.prompts is not None
    stats = replace(DataStats.of(data), prompts=data.prompts.texts, words=data.prompts.words)
    return ToyTextBackbone.create().build(stats)


def toy_text_base() -> Model:
    """A frozen model that was trained on all captioned toy images, the same one every time."""
    model = toy_text_model()
    model.load_state_dict(_base_weights())
    return model.eval().requires_grad_(False)


@functools.cache
def _base_weights() -> Mapping[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = toy_text_model()
    noised_batches = NoisedBatches({"all": toy_captions().train}, model, SEED, 64)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(BASE_STEPS):
        adam.zero_grad()
        dsm_loss(model, noised_batches.batch("all", step)).backward()
        adam.step()
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}
