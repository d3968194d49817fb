"""Toy data, a toy network and a toy judge: what the checks of all kinds run on."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msgm_bench.api import (
    Backbone,
    Data,
    DataStats,
    Examples,
    Judge,
    Model,
    ModelContext,
    Prediction,
    dsm_loss,
)
from msgm_bench.diffusion import EpsFn, GaussianMixture, Process, VariancePreserving
from msgm_bench.experiment.copy_trainer import CopyTrainer
from msgm_bench.registry import registry
from msgm_bench.training import NoisedBatches, Runtime

SEED = 0
CPU = torch.device("cpu")
BASE_STEPS = 150
LEVELS = 16  # grey levels of the toy images
PROMPTS = ("a dark corner", "a bright corner", "a corner")


def toy_images(count: int = 96, size: int = 4) -> Data:
    """Three classes of images with 16 grey levels: one bright pixel on the diagonal each."""
    generator = torch.Generator().manual_seed(SEED)
    y = torch.arange(count) % 3
    x = torch.randint(0, 6, (count, 1, size, size), generator=generator)
    x[torch.arange(count), 0, y, y] += 9
    items = Examples(x.to(torch.uint8), y)
    held = torch.arange(count) // 3 % 4 == 0
    return Data(items[~held], items[held], ("a", "b", "c"), levels=LEVELS, protocol="toy/corners@1")


def toy_attributes(count: int = 960, size: int = 8) -> Data:
    """The toy images with two attributes of any number: a bright corner, a bright border."""
    data, generator = toy_images(count, size), torch.Generator().manual_seed(SEED)

    def marked(items: Examples) -> Examples:
        y = torch.rand(len(items), 2, generator=generator) < 0.5
        x = items.x.clone()
        x[y[:, 0], :, :2, :2] = LEVELS - 1
        x[y[:, 1], :, -1] = LEVELS - 1
        return Examples(x, y)

    train, test = marked(data.train), marked(data.test)
    return replace(data, train=train, test=test, classes=("corner", "border"))


class _ToyDensity:
    """0.5 N((-2, 0), I) + 0.5 N((2, 0), I), with a class for each component."""

    def __init__(self) -> None:
        eye = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
        means = torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
        self.mixture = GaussianMixture(torch.ones(2), means, eye)

    def _of(self, classes: Sequence[int] | None) -> GaussianMixture:
        return self.mixture if classes is None else self.mixture.subset(classes)

    def log_prob(self, x: Tensor, classes: Sequence[int] | None = None) -> Tensor:
        """Log density in nats ``[N]``."""
        return self._of(classes).log_prob(x)

    def posterior(self, x: Tensor) -> Tensor:
        """Probability of each class ``[N, 2]``."""
        return self.mixture.posterior(x)

    def typicality(self, x: Tensor) -> Tensor:
        """exp(-d^2 / 2), d the distance to the nearest mean."""
        return torch.exp(-torch.cdist(x.double(), self.mixture.means).amin(dim=1).square() / 2)

    def eps(self, process: Process, classes: Sequence[int] | None = None) -> EpsFn:
        """The exact eps_hat."""
        return self._of(classes).eps(process)


def toy_points(count: int = 200) -> Data:
    """Points in the plane of two classes, with their exact density."""
    density, generator = _ToyDensity(), torch.Generator().manual_seed(SEED)

    def draw() -> Examples:
        x, y = density.mixture.sample(count, generator)
        return Examples(x.float(), y)

    return Data(draw(), draw(), ("left", "right"), density=density, protocol="toy/points@1")


class ToyBackbone(Backbone):
    """VP SDE with a network of a few hundred weights."""

    name = "toy"
    conditional = True

    def process(self, stats: DataStats) -> Process:
        """The usual schedule."""
        return VariancePreserving()

    def network(self, stats: DataStats, process: Process) -> nn.Module:
        """One hidden layer."""
        return _ToyNetwork(torch.Size(stats.shape).numel(), stats.classes)

    def parts(self, network: nn.Module) -> Mapping[str, Iterable[str]]:
        """``class``: the embeddings of classes, where there are any."""
        names = [name for name, _ in network.named_parameters() if name.startswith("label.")]
        return {"class": names} if names else {}


class _ToyNetwork(nn.Module):
    def __init__(self, dim: int, classes: int | None) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim + 1, 16), nn.SiLU(), nn.Linear(16, dim))
        self.label = None if classes is None else nn.Embedding(classes + 1, dim)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        flat = x_t.flatten(1)
        if self.label is not None:
            flat = flat + self.label(condition)
        result: Tensor = self.layers(torch.cat([flat, t[:, None].to(x_t.dtype)], dim=1))
        return result.reshape(x_t.shape)


def toy_model(classes: int | None, data: Data | None = None) -> Model:
    """A model with fresh weights from torch's current random state."""
    stats = replace(DataStats.of(data or toy_images()), classes=classes)
    return ToyBackbone.create().build(stats)


def toy_base(classes: int | None) -> Model:
    """A frozen model that was trained on all toy images, the same one every time."""
    model = toy_model(classes)
    model.load_state_dict(_base_weights(classes))
    return model.eval().requires_grad_(False)


@functools.cache
def _base_weights(classes: int | None) -> Mapping[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = toy_model(classes)
    noised_batches = NoisedBatches({"all": toy_images().train}, model, SEED, 64)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(BASE_STEPS):
        adam.zero_grad()
        dsm_loss(model, noised_batches.batch("all", step)).backward()
        adam.step()
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


class ToyJudge(Judge):
    """The class is the brightest of the first pixels on the diagonal; features are quadrants."""

    name = "toy"

    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Nothing to learn."""
        assert data.levels is not None
        x = (data.test.x.float() + 0.5) / data.levels
        right = (self.predict(x).classes == data.test.y).double().mean()
        self.report = {"accuracy": float(right), "items": len(data.test)}

    def predict(self, x: Tensor) -> Prediction:
        """The brightest pixel; all that is a finite image is recognised."""
        finite = torch.nan_to_num(x)
        corners = torch.stack([finite[:, 0, i, i] for i in range(3)], dim=1)
        return Prediction(corners.argmax(dim=1), torch.isfinite(x).flatten(1).all(dim=1))

    def features(self, x: Tensor) -> Tensor:
        """Means of the quadrants ``[N, 4 C]``."""
        return F.adaptive_avg_pool2d(x.float(), 2).flatten(1)


class ToyPointsJudge(ToyJudge):
    """The class of a toy point is the sign of its first coordinate; features are the point."""

    name = "toy_points"

    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Nothing to learn."""
        right = (self.predict(data.test.x).classes == data.test.y).double().mean()
        self.report = {"accuracy": float(right), "items": len(data.test)}

    def predict(self, x: Tensor) -> Prediction:
        """The sign; all that is finite is recognised."""
        return Prediction((x[:, 0] > 0).long(), torch.isfinite(x).all(dim=1))

    def features(self, x: Tensor) -> Tensor:
        """The point ``[N, 2]``."""
        return x.float()


def toy_context(
    classes: int | None = None,
    *,
    data: Data | None = None,
    model: Model | None = None,
    judge: Judge | None = None,
    targets: tuple[int, ...] = (0,),
    seed: int = SEED,
    reference: Mapping[str, Any] | None = None,
) -> ModelContext:
    """The trained toy model under evaluation, or another one with its data and judge."""
    model = (model or toy_base(classes)).eval()
    data = data or toy_images()
    if judge is None:
        judge = ToyJudge.create()
        judge.fit(data, SEED, CPU)
    retain, forget = data.split(data.test, targets)
    return ModelContext(
        data=data,
        targets=targets,
        judge=judge,
        judge_id=judge.protocol(),
        device=CPU,
        create=registry().create,
        model=model,
        retain=retain,
        forget=forget,
        seed=seed,
        trainer=functools.partial(_train_copy, model),
        reference=reference or {},
    )


def _train_copy(model: Model, *arguments: Any, **options: Any) -> Model:
    """A trained copy (``ModelTrainer``), with its checkpoint in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return CopyTrainer(model, Path(folder), Runtime(CPU))(*arguments, **options)
