"""A text-to-image model whose noise prediction is exact, and images that show concepts in pixels.

Concept k of an image is its pixel k of the first row; a bright pixel in the last row means noise.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from msgm_bench import (
    Data,
    Examples,
    Judge,
    Model,
    ModelContext,
    Prediction,
    Prompt,
    PromptBook,
    Prompts,
    UniformDequantization,
    VariancePreserving,
    registry,
)

CPU = torch.device("cpu")
CONCEPTS = ("circle", "square", "bar", "red", "blue")
DOMAINS = {"shape": ("circle", "square", "bar"), "colour": ("red", "blue")}
SHAPE, STD = (1, 5, 5), 0.1
TEXTS = ("", *(f"prompt {i}" for i in range(40)))


def book(*extra):
    """Prompts of every group; concepts by name."""
    rows = [
        ("circle red", "train", None),
        ("square", "train", None),
        ("circle red", "target", "circle"),
        ("circle blue", "target", "circle"),
        ("circle", "synonym", "circle"),
        ("circle", "implicit", "circle"),
        ("circle square red", "pair", "circle"),
        ("circle bar", "pair", "circle"),
        ("square red", "target", "square"),
        ("bar", "target", "bar"),
        ("square bar", "pair", "square"),
        ("red", "unrelated", "red"),
        ("blue", "unrelated", "blue"),
        *extra,
    ]
    return book_of_rows(rows)


def book_of_rows(rows):
    """A book of rows (names of concepts, group, concept that is probed, further fields)."""
    prompts = tuple(
        Prompt(
            TEXTS[i + 1],
            tuple(CONCEPTS.index(name) for name in names.split()),
            group,
            None if concept is None else CONCEPTS.index(concept),
            **(more[0] if more else {}),
        )
        for i, (names, group, concept, *more) in enumerate(rows)
    )
    return PromptBook(CONCEPTS, prompts, DOMAINS)


def paint(shown, recognised=None):
    """Images in model space ``[N, 1, 5, 5]`` that show concepts ``bool [N, A]``."""
    x = torch.full((len(shown), *SHAPE), -0.9)
    x[:, 0, 0] = torch.where(shown, 0.9, -0.9)
    if recognised is not None:
        x[:, 0, 4, 4] = torch.where(recognised, -0.9, 0.9)
    return x


class Pixels(Judge):
    """Reads concepts off the pixels."""

    name = "pixels"

    def fit(self, data, seed, device):
        """Nothing to learn."""

    def predict(self, x):
        """Bright pixels."""
        return Prediction(x[:, 0, 0] > 0.5, x[:, 0, 4, 4] < 0.5)


class Means(nn.Module):
    """A text encoder: the mean image of each prompt of ``TEXTS``, as one token."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        means = torch.rand(len(TEXTS), 25, generator=generator) - 0.5
        self.means = nn.Parameter(means, requires_grad=False)

    def forward(self, tokens):
        """Means ``[N, 1, D]`` of tokens ``[N, 1]``, or themselves."""
        return tokens if tokens.is_floating_point() else self.means[tokens]


class Exact(nn.Module):
    """eps_hat = sigma (x_t - a m) / (a^2 s^2 + sigma^2), the optimum for x0 ~ N(m, s^2 I)."""

    def __init__(self, process):
        super().__init__()
        self.process, self.text_encoder = process, Means()

    def forward(self, x_t, t, hidden):
        """eps_hat."""
        a, sigma = (v.reshape(-1, 1, 1, 1) for v in self.process.marginal(t))
        m = hidden[:, 0].reshape(x_t.shape)
        return sigma * (x_t - a * m) / (a**2 * STD**2 + sigma**2)


def tokens(texts):
    """Positions in ``TEXTS``, ``int64 [N, 1]``."""
    return torch.tensor([[TEXTS.index(text)] for text in texts])


def exact_model(texts):
    """The exact model with these prompts in its table."""
    process = VariancePreserving()
    network = Exact(process)
    prompts = Prompts(texts, tokens, network.text_encoder)
    codec = UniformDequantization(256, -1.0, 1.0)
    return Model(network, process, codec, SHAPE, prompts).eval()


def items(shown):
    """Items that show concepts ``bool [N, A]``, with the first caption."""
    x = ((paint(shown) + 1) * 127.5).to(torch.uint8)
    return Examples(x, shown, torch.zeros(len(x), dtype=torch.int64))


def context(prompts=None, judge=None, targets=(0,), real=None, seed=3):
    """The exact model under evaluation; circle is to be forgotten."""
    prompts = prompts or book()
    if real is None:
        generator = torch.Generator().manual_seed(1)
        real = torch.rand(40, len(CONCEPTS), generator=generator) < 0.4
    data = Data(items(real), items(real), CONCEPTS, 256, protocol="pixels@1", prompts=prompts)
    retain, forget = data.split(data.test, targets)
    judge = judge or Pixels.create()
    return ModelContext(
        data=data,
        targets=targets,
        judge=judge,
        judge_id=judge.protocol(),
        device=CPU,
        create=registry.registry().create,
        model=exact_model(prompts.texts),
        retain=retain,
        forget=forget,
        seed=seed,
    )


def all_concepts(model_context, prompts):
    """Concepts ``bool [N, A]`` that prompts ``[N]`` ask for."""
    shown = torch.zeros(len(prompts), len(CONCEPTS), dtype=torch.bool)
    for row, i in zip(shown, prompts.tolist(), strict=True):
        row[list(model_context.data.prompts[i].concepts)] = True
    return shown


def without_targets(model_context, prompts):
    """What a perfect model shows of prompts: all but the concepts to forget."""
    shown = all_concepts(model_context, prompts)
    shown[:, list(model_context.targets)] = False
    return shown


def named(rows):
    """Rows by metric."""
    rows = list(rows)
    assert len({row.key for row in rows}) == len(rows)
    return {row.metric: row for row in rows}


def with_model(model_context, texts):
    """The context with a model whose table holds other prompts."""
    return replace(model_context, model=exact_model(texts))
