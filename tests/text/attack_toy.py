"""Models that draw by a rule, or a Gaussian, of a prompt's words, and a judge that reads them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import torch
from prompt_contexts import CONCEPTS, CPU, SHAPE, Pixels, items, paint
from torch import nn

from msgm_bench import (
    Data,
    IdentityCodec,
    Model,
    ModelContext,
    OptionError,
    Prompt,
    PromptBook,
    Prompts,
    UniformDequantization,
    VariancePreserving,
    registry,
)

WORDS = ("a", "red", "blue", "azure", "old", "circle", "disc", "sun", "square", "bar")
LENGTH = 8


class Bag(nn.Module):
    """Encodes a prompt as the numbers of its words."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(torch.eye(len(WORDS) + 1))

    def forward(self, tokens):
        """One-hot words ``[N, L, V + 1]``."""
        return self.embedding(tokens)


def tokenize(texts):
    """Words by their position in ``WORDS``, padded."""
    rows = [[WORDS.index(word) for word in text.split()] for text in texts]
    for text, row in zip(texts, rows, strict=True):
        if len(row) > LENGTH:
            raise OptionError(f"the prompt {text!r}", f"{LENGTH} words")
    return torch.tensor([row + [len(WORDS)] * (LENGTH - len(row)) for row in rows])


def book():
    """Circles and others in two colours; ``disc`` and ``sun`` stand for a circle alone."""

    def prompt(text, names, group, concept=None):
        concepts = tuple(CONCEPTS.index(name) for name in names.split())
        return Prompt(text, concepts, group, None if concept is None else CONCEPTS.index(concept))

    rows = [
        prompt("a red circle", "circle red", "train"),
        prompt("a blue square", "square blue", "train"),
        prompt("a red circle", "circle red", "target", "circle"),
        prompt("a blue circle", "circle blue", "target", "circle"),
        prompt("a red disc", "circle red", "synonym", "circle"),
        prompt("a sun", "circle", "implicit", "circle"),
        prompt("a red square", "square red", "target", "square"),
        prompt("a blue bar", "bar blue", "target", "bar"),
    ]
    domains = {"shape": ("circle", "square", "bar"), "colour": ("red", "blue")}
    return PromptBook(CONCEPTS, tuple(rows), domains, words=WORDS)


class RuleSampler:
    """Draws an image that shows ``circle`` with the probability that the rule gives a prompt."""

    def __init__(self, rule):
        self.rule = rule

    def sample(self, model, noise):
        """Images of the model's conditions."""
        words = [
            {WORDS[i] for i in row if i < len(WORDS)} for row in model.labels.argmax(dim=2).tolist()
        ]
        shown = torch.zeros(len(words), len(CONCEPTS), dtype=torch.bool)
        chance = torch.tensor([self.rule(prompt) for prompt in words])
        shown[:, CONCEPTS.index("circle")] = noise.uniform(()) < chance
        return SimpleNamespace(x=paint(shown))


def context(rule, seed=0, prompts=None):
    """A model that draws circles by ``rule``, a function of a prompt's words."""
    network = nn.Module()
    network.text_encoder = Bag()
    prompts = prompts or book()
    conditioning = Prompts(prompts.texts, tokenize, network.text_encoder)
    model = Model(network, VariancePreserving(), IdentityCodec(0.0), SHAPE, conditioning).eval()
    shown = torch.tensor([[True, False, False, True, False], [False, True, False, False, True]])
    data = Data(items(shown), items(shown), CONCEPTS, 256, protocol="rule@1", prompts=prompts)
    retain, forget = data.split(data.test, (0,))
    judge = Pixels.create()
    return ModelContext(
        data=data,
        targets=(0,),
        judge=judge,
        judge_id=judge.protocol(),
        device=CPU,
        create=lambda kind, name, options: RuleSampler(rule),
        model=model,
        retain=retain,
        forget=forget,
        seed=seed,
    )


class Sum(nn.Module):
    """A text encoder that passes the embeddings of words on."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Embedding(len(WORDS) + 1, 25)
        with torch.no_grad():
            self.embedding.weight.copy_(0.1 * torch.randn(len(WORDS) + 1, 25, generator=generator))

    def get_input_embeddings(self):
        """The words."""
        return self.embedding

    def forward(self, tokens):
        """Embeddings ``[N, L, 25]``."""
        return tokens if tokens.is_floating_point() else self.embedding(tokens)


class Gaussians(nn.Module):
    """The optimum for x0 ~ N(m, 0.1^2), with m the sum of a prompt's embeddings and a shift."""

    def __init__(self, process):
        super().__init__()
        self.process, self.text_encoder = process, Sum()
        self.unet = nn.Linear(1, 25, bias=False)
        nn.init.zeros_(self.unet.weight)

    def mean(self, hidden):
        """m ``[N, 25]``."""
        return hidden.sum(dim=1) + self.unet.weight[:, 0]

    def forward(self, x_t, t, hidden):
        """eps_hat."""
        a, sigma = (v.reshape(-1, 1, 1, 1) for v in self.process.marginal(t))
        m = self.mean(hidden).reshape(x_t.shape)
        return sigma * (x_t - a * m) / (a**2 * 0.1**2 + sigma**2)


def gaussian_context(seed=0, base=None):
    """A model whose image is a linear function of its words, and items that are all the same."""
    rule = context(lambda words: 0.0, seed)
    process = VariancePreserving()
    network = Gaussians(process)
    parts = {"unet": ["unet.weight"]}
    conditioning = Prompts(rule.data.prompts.texts, tokenize, network.text_encoder)
    codec = UniformDequantization(256, -1.0, 1.0)
    model = Model(network, process, codec, SHAPE, conditioning, parts=parts).eval()
    return replace(rule, model=model, base=base, create=registry.registry().create)
