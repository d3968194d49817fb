"""A convolutional classifier with a reject class, trained on the dataset at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import (
    Config,
    Data,
    IncompatibleError,
    Judge,
    Verdict,
    derive_seed,
    hookimpl,
)
from msgm_metrics.classifier_networks import TINY, resnet, small

VALIDATION = 5  # every fifth training item calibrates the threshold and trains nothing


class Classifier(Judge):
    """Convolutional network with a reject class for what is no image of the dataset.

    Beside the K classes it learns to reject images under strong noise, shuffled pixels and
    uniform noise. An item is recognised unless it is rejected or its confidence is below the
    ``level`` quantile of real items that took no part in training.
    """

    name = "classifier"

    class Config(Config):
        """Network and training."""

        network: Literal["auto", "small", "resnet"] = Field(
            "auto", description="auto: small up to 16 px, resnet above"
        )
        width: int = Field(24, ge=4, multiple_of=2, description="channels of the first stage")
        blocks: tuple[int, int, int, int] = Field(
            (1, 1, 1, 1), description="residual blocks of each stage; (2, 2, 2, 2) is ResNet-18"
        )
        embedding: int = Field(64, ge=2, description="features of the residual network")
        steps: int = Field(600, ge=1, description="optimiser steps")
        batch_size: int = Field(64, ge=8, description="items a step; half as many are spoiled")
        shift: int = Field(0, ge=0, description="training moves images by up to so many pixels")
        learning_rate: float = Field(2e-3, gt=0, description="Adam's step size, cosine decay")
        level: float = Field(0.01, gt=0, lt=1, description="share of real items given up")

    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Train, calibrate, measure on the held-out items.

        Raises:
            IncompatibleError: The items are no images, or carry attributes and not classes.
        """
        if data.levels is None or len(data.shape) != 3 or data.train.y.ndim != 1:
            raise IncompatibleError(
                f"the judge 'classifier' on items of shape {data.shape}",
                "images with one class each",
            )
        x, y = pixels(data, data.train.x).to(device), data.train.y.to(device)
        kept = torch.arange(len(x), device=device) % VALIDATION != 0
        cuda = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(cuda):
            torch.manual_seed(derive_seed(seed, "judge"))
            self._build(data, device)
            self._train(x[kept], y[kept], seed, data.flip)
        held = self._probabilities(x[~kept])
        sure = held[:, :-1].amax(dim=1)
        self.threshold = torch.quantile(sure, self.config.level)
        self._measure(data, device)

    def _build(self, data: Data, device: torch.device) -> None:
        c, outputs = self.config, len(data.classes) + 1
        tiny = max(data.shape[1:]) <= TINY
        if c.network == "small" or (c.network == "auto" and tiny):
            network = small(data.shape[0], c.width, outputs)
        else:
            network = resnet(data.shape, c.width, c.blocks, c.embedding, outputs)
        self.network = network.to(device)

    def _train(self, x: Tensor, y: Tensor, seed: int, flip: bool) -> None:
        c = self.config
        generator = torch.Generator(x.device).manual_seed(derive_seed(seed, "judge batches"))
        optimizer = torch.optim.Adam(self.network.parameters(), lr=c.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, c.steps)
        rejected = torch.full((c.batch_size // 2,), self.network.head.out_features - 1).to(y)
        self.network.train()
        for _ in range(c.steps):
            i = torch.randint(len(x), (c.batch_size,), generator=generator, device=x.device)
            seen = augment(x[i], c.shift, flip, generator)
            clean = seen + 0.03 * torch.randn(seen.shape, generator=generator, device=x.device)
            batch = torch.cat([clean.clamp(0, 1), spoil(seen[: len(rejected)], generator)])
            loss = F.cross_entropy(self.network(batch), torch.cat([y[i], rejected]))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        self.network.eval()

    def _measure(self, data: Data, device: torch.device) -> None:
        judged = self.verdict(pixels(data, data.test.x).to(device))
        y, classes = data.test.y, judged.classes.cpu()
        count = len(data.classes)
        confusion = torch.bincount(y * count + classes, minlength=count**2).reshape(count, count)
        self.report = {
            "accuracy": float((classes == y).double().mean()),
            "recognised": float(judged.recognised.double().mean()),
            "items": len(y),
            "confusion": confusion.tolist(),
        }

    @torch.no_grad()
    def _probabilities(self, x: Tensor) -> Tensor:
        return torch.cat([self.network(part).softmax(dim=1) for part in x.split(1000)])

    def verdict(self, x: Tensor) -> Verdict:
        """The most likely of the K classes, and whether it is likely enough."""
        finite = torch.isfinite(x).flatten(1).all(dim=1)
        probabilities = self._probabilities(torch.nan_to_num(x))
        sure, classes = probabilities[:, :-1].max(dim=1)
        recognised = (sure >= self.threshold) & (sure > probabilities[:, -1]) & finite
        return Verdict(classes, recognised)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """What the linear layer sees: 8 ``width`` numbers, or ``embedding`` of the resnet."""
        return torch.cat([self.network.features(part) for part in x.split(1000)])

    def state(self) -> dict[str, Tensor]:
        """Weights and threshold."""
        return {**self.network.state_dict(), "threshold": self.threshold}

    def restore(self, data: Data, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Rebuild the network from ``state``."""
        self._build(data, device)
        weights = {name: value for name, value in state.items() if name != "threshold"}
        self.network.load_state_dict(weights)
        self.network.eval()
        self.threshold = state["threshold"].to(device)


def pixels(data: Data, x: Tensor) -> Tensor:
    """Grey levels to [0, 1], the centre of each bin."""
    assert data.levels is not None
    return (x.float() + 0.5) / data.levels


def augment(x: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Images moved by up to ``shift`` pixels, black where nothing was, and mirrored or not."""
    n, device = len(x), x.device
    if shift:
        offsets = torch.randint(-shift, shift + 1, (2, n), generator=generator, device=device)
        height, width = x.shape[2:]
        padded = F.pad(x, [shift] * 4)
        rows = torch.arange(height, device=device) + shift + offsets[0, :, None]
        columns = torch.arange(width, device=device) + shift + offsets[1, :, None]
        items = torch.arange(n, device=device)[:, None, None]
        x = padded.movedim(1, 3)[items, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
    if flip:
        mirrored = torch.rand(n, 1, 1, 1, generator=generator, device=device) < 0.5
        x = torch.where(mirrored, x.flip(3), x)
    return x


def spoil(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images that no longer show anything: strong noise, shuffled pixels or uniform noise."""
    n, device = len(x), x.device
    strength = 0.35 + 0.65 * torch.rand(n, 1, 1, 1, generator=generator, device=device)
    noisy = (x + strength * torch.randn(x.shape, generator=generator, device=device)).clamp(0, 1)
    order = torch.rand(n, x[0, 0].numel(), generator=generator, device=device).argsort(dim=1)
    flat = x.flatten(2)
    shuffled = flat.gather(2, order[:, None].expand_as(flat)).reshape(x.shape)
    uniform = torch.rand(x.shape, generator=generator, device=device)
    kind = torch.randint(4, (n, 1, 1, 1), generator=generator, device=device)
    return torch.where(kind <= 1, noisy, torch.where(kind == 2, shuffled, uniform))


@hookimpl
def register_judges() -> Sequence[type[Judge]]:
    """The classifier."""
    return [Classifier]
