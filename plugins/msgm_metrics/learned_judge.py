"""What judges that are networks share: training, calibration, storage, weights from elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from msgm_bench import Data, Examples, IncompatibleError, Judge, JudgeConfig, derive_seed
from msgm_metrics import judge_files
from msgm_metrics.judge_images import augment, pixels, spoil
from msgm_metrics.judge_networks import TINY, resnet, small
from msgm_metrics.judge_reports import judged, quality_of, report_of
from msgm_metrics.weights import sha256

VALIDATION = 5  # every fifth training item calibrates and trains nothing
BATCH = 1000  # images that are judged at once


class LearnedConfig(JudgeConfig):
    """Network, training, and weights from elsewhere."""

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
    path: str | None = Field(
        None, exclude=True, description=f"weights in place of training: {judge_files.KINDS}"
    )


class LearnedJudge(Judge):
    """A network with one logit for each class or attribute, and a last one for what is no image.

    Attributes:
        calibrated: Names of the tensors that calibration leaves, beside the weights.
    """

    calibrated: ClassVar[tuple[str, ...]]

    class Config(LearnedConfig):
        """Network and training."""

    @abstractmethod
    def suits(self, data: Data) -> None:
        """Look at the labels of images.

        Raises:
            IncompatibleError: The judge is for others.
        """

    @abstractmethod
    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The training loss of real items with labels ``y``, followed by spoiled ones."""

    @abstractmethod
    def calibrate(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The tensors that ``calibrated`` names, from real items that trained nothing."""

    def missing(self) -> str | None:
        """Weights from elsewhere may not be there."""
        path = self.config.path
        if path is None or judge_files.locate(path) is not None:
            return None
        return f"path = {path}: no weights there; give {judge_files.KINDS}"

    def checksum(self) -> str:
        """SHA-256 of the weights from elsewhere."""
        found = judge_files.locate(self.config.path) if self.config.path else None
        return "" if found is None else sha256(found)

    def check(self, data: Data) -> None:
        """Images with labels that suit, and weights from elsewhere that fit.

        Raises:
            IncompatibleError: One of them does not.
            StorageError: The weights are damaged.
        """
        if data.levels is None or len(data.shape) != 3:
            raise IncompatibleError(
                f"the judge {self.name!r} on items of shape {data.shape}", "images"
            )
        self.suits(data)
        state = self._given()
        if state is not None:
            network = self._network(data, state, torch.device("cpu"))
            if isinstance(network, judge_files.Exported):
                network.check(data.shape)

    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Train and calibrate, or take the weights from elsewhere; measure on held-out items.

        Raises:
            MsgmBenchError: As ``check``.
        """
        self.check(data)
        items, state = data.train.to(device), self._given()
        held = torch.arange(len(items), device=device) % VALIDATION == 0
        if state is None:
            cuda = [device] if device.type == "cuda" else []
            with torch.random.fork_rng(cuda):
                torch.manual_seed(derive_seed(seed, "judge"))
                self.network = self._fresh(data, device)
                self._train(data, items, (~held).nonzero().flatten(), seed)
        else:
            self.network = self._network(data, state, device)
        found = {name: state[name].to(device) for name in self.calibrated if name in (state or {})}
        if not found:
            parts = [self.logits(pixels(data, part)) for part in items.x[held].split(BATCH)]
            found = self.calibrate(torch.cat(parts), items.y[held])
        self.calibration = found
        self.report = report_of(data, judged(self, data, device))

    def _given(self) -> dict[str, Tensor] | None:
        """The state from elsewhere, if there is to be one."""
        found = judge_files.locate(self.config.path) if self.config.path else None
        return None if found is None else judge_files.read(found)

    def _fresh(self, data: Data, device: torch.device) -> nn.Module:
        c, outputs = self.config, len(data.classes) + 1
        tiny = max(data.shape[1:]) <= TINY
        if c.network == "small" or (c.network == "auto" and tiny):
            network = small(data.shape[0], c.width, outputs)
        else:
            network = resnet(data.shape, c.width, c.blocks, c.embedding, outputs)
        return network.to(device)

    def _network(self, data: Data, state: Mapping[str, Tensor], device: torch.device) -> nn.Module:
        """The network that ``state`` holds, in evaluation mode."""
        if judge_files.EXPORTED in state:
            content = state[judge_files.EXPORTED]
            return judge_files.Exported(content, len(data.classes) + 1).to(device)
        with torch.random.fork_rng(devices=[]):
            network = self._fresh(data, torch.device("cpu"))
        weights = {name: value for name, value in state.items() if name not in self.calibrated}
        judge_files.fit_into(network, weights)
        return network.to(device).eval()

    def _train(self, data: Data, items: Examples, used: Tensor, seed: int) -> None:
        c, device = self.config, items.x.device
        generator = torch.Generator(device).manual_seed(derive_seed(seed, "judge batches"))
        optimizer = torch.optim.Adam(self.network.parameters(), lr=c.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, c.steps)
        self.network.train()
        for _ in range(c.steps):
            i = used[torch.randint(len(used), (c.batch_size,), generator=generator, device=device)]
            seen = augment(pixels(data, items.x[i]), c.shift, data.flip, generator)
            clean = seen + 0.03 * torch.randn(seen.shape, generator=generator, device=device)
            spoiled = spoil(seen[: c.batch_size // 2], generator)
            loss = self.loss(self.network(torch.cat([clean.clamp(0, 1), spoiled])), items.y[i])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        self.network.eval()

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Logits of [0, 1] images; what is not finite counts as 0 or as the largest number."""
        return torch.cat([self.network(part) for part in torch.nan_to_num(x).split(BATCH)])

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """What the linear layer sees: 8 ``width`` numbers, or ``embedding`` of the resnet."""
        return torch.cat([self.network.features(part) for part in x.split(BATCH)])

    def quality(self, targets: Sequence[int]) -> float | None:
        """Accuracy; of attributes, the lowest balanced accuracy among ``targets``."""
        return quality_of(self.report, targets)

    def state(self) -> dict[str, Tensor]:
        """Weights and calibration; an exported network as it came."""
        given = self._given() or {}
        whole = {name: given[name] for name in (judge_files.EXPORTED,) if name in given}
        return {**(whole or self.network.state_dict()), **self.calibration}

    def restore(self, data: Data, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Rebuild the network from ``state``."""
        self.network = self._network(data, state, device)
        self.calibration = {name: state[name].to(device) for name in self.calibrated}
