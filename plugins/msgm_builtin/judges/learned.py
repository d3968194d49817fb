"""Judges that are networks: training, calibration, storage, external weights."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench import Data, Examples, IncompatibleError, Judge, JudgeOptions, derive_seed
from msgm_bench.storage import single_line
from msgm_builtin.judges import judge_weights
from msgm_builtin.judges.augmentation import augment, pixels, spoil
from msgm_builtin.judges.networks import (
    TINY,
    ExternalNetwork,
    LibraryNetwork,
    Network,
    parse_network,
    probe,
    resnet,
    small,
)
from msgm_builtin.judges.reports import predict_held_out, quality_of, report_of
from msgm_builtin.weights_files import sha256, skeleton

VALIDATION = 5  # every fifth training item calibrates in place of training
BATCH = 1000  # images that are judged at once
MOST_BLOCKS = 64
JudgeNetwork = Network | ExternalNetwork


class LearnedOptions(JudgeOptions):
    """Network, training, and external weights."""

    network: Literal["auto", "small", "resnet"] | LibraryNetwork = Field(
        "auto",
        description="auto: small up to 16 px, resnet above; or {library: timm or torchvision, "
        "name, mean, std, size} of one of theirs",
    )
    width: int = Field(24, ge=4, le=1024, multiple_of=2, description="channels of the first stage")
    blocks: tuple[int, int, int, int] = Field(
        (1, 1, 1, 1), description="residual blocks of each stage; (2, 2, 2, 2) is ResNet-18"
    )
    embedding_dim: int = Field(64, ge=2, le=8192, description="features of the residual network")
    steps: int = Field(600, ge=1, description="optimiser steps")
    batch_size: int = Field(64, ge=8, description="items a step; half as many are spoiled")
    max_shift: int = Field(0, ge=0, description="largest shift of training images, px")
    learning_rate: float = Field(2e-3, gt=0, description="Adam's step size, cosine decay")
    rejection_rate: float = Field(0.01, gt=0, lt=1, description="share of real items to reject")
    path: str | None = Field(
        None, exclude=True, description=f"weights in place of training: {judge_weights.KINDS}"
    )

    @field_validator("network", mode="before")
    @classmethod
    def _parse_network(cls, value: Any) -> Any:
        return parse_network(value)

    @field_validator("blocks")
    @classmethod
    def _check_blocks(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= count <= MOST_BLOCKS for count in value):
            raise ValueError(f"1 to {MOST_BLOCKS} blocks each")
        return value


LearnedOptionsT = TypeVar(
    "LearnedOptionsT", bound=LearnedOptions, default=LearnedOptions, covariant=True
)


class LearnedJudge(Judge[LearnedOptionsT]):
    """A network with one logit for each class or attribute, and a last one that rejects.

    Attributes:
        calibrated: Names of the calibration's tensors, beside the weights.
    """

    calibrated: ClassVar[tuple[str, ...]]

    @abstractmethod
    def check_labels(self, data: Data) -> None:
        """Refuse images whose labels are not for this judge.

        Raises:
            IncompatibleError: The labels are of another kind.
        """

    @abstractmethod
    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss of ``logits [N + M, K + 1]``: N real items with labels ``y``, then M spoiled."""

    @abstractmethod
    def calibrate(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The tensors that ``calibrated`` names, from real items outside training."""

    def missing_weights(self) -> str | None:
        """Reason why external weights cannot be read, or None."""
        path = self.options.path
        if path is None or judge_weights.locate(path) is not None:
            return None
        return f"path = {path}: no weights there; name {judge_weights.KINDS}"

    def checksum(self) -> str:
        """SHA-256 of the external weights; empty without any."""
        path = self._path()
        return "" if path is None else sha256(path)

    def check(self, data: Data) -> None:
        """Refuse data, a network or external weights that do not go together.

        Raises:
            IncompatibleError: The data are no images, or one of the others does not fit them.
            StorageError: The weights are damaged.
        """
        if data.levels is None or len(data.shape) != 3:
            raise IncompatibleError(
                f"the judge {self.name!r} on items of shape {data.shape}", "images"
            )
        self.check_labels(data)
        path, network = self._path(), None
        if path is not None:
            self._num_logits(data, judge_weights.read_shapes(path), single_line(path))
            state = judge_weights.read(path, self.checksum())
            network = self._load_network(data, state, torch.device("cpu"))
        if isinstance(self.options.network, LibraryNetwork):
            with torch.random.fork_rng(devices=[]):
                probe(network or self._new_network(data), data.shape)

    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Train and calibrate, or read external weights; measure the accuracy on held-out items.

        Raises:
            MsgmBenchError: As ``check``.
        """
        self.check(data)
        items, state = data.train.to(device), self._external_state()
        validation = torch.arange(len(items), device=device) % VALIDATION == 0
        if state is None:
            cuda = [device] if device.type == "cuda" else []
            with torch.random.fork_rng(cuda):
                torch.manual_seed(derive_seed(seed, "judge"))
                self.network = self._new_network(data).to(device)
                self._train(data, items, (~validation).nonzero().flatten(), seed)
        else:
            self.network = self._load_network(data, state, device)
        stored = state or {}
        calibration = {name: stored[name].to(device) for name in self.calibrated if name in stored}
        if not calibration:
            parts = [self.logits(pixels(data, part)) for part in items.x[validation].split(BATCH)]
            calibration = self.calibrate(torch.cat(parts), items.y[validation])
        self.calibration = calibration
        self.report = report_of(data, predict_held_out(self, data, device))

    def _path(self) -> Path | None:
        """The file of external weights, or None."""
        return judge_weights.locate(self.options.path) if self.options.path else None

    def _external_state(self) -> dict[str, Tensor] | None:
        """The state in the file of external weights, or None."""
        path = self._path()
        return None if path is None else judge_weights.read(path, self.checksum())

    def _new_network(self, data: Data, logits: int | None = None) -> JudgeNetwork:
        """An untrained network with ``logits`` outputs, by default all that a judge needs."""
        c, outputs = self.options, len(data.classes) + 1
        logits = logits or outputs
        is_tiny = max(data.shape[1:]) <= TINY
        network: JudgeNetwork
        if isinstance(c.network, LibraryNetwork):
            network = ExternalNetwork(c.network, data.shape[0], logits, outputs)
        elif c.network == "small" or (c.network == "auto" and is_tiny):
            network = small(data.shape[0], c.width, logits)
        else:
            network = resnet(data.shape, c.width, c.blocks, c.embedding_dim, logits)
        return network

    def _num_logits(self, data: Data, state: Mapping[str, Tensor], name: str) -> int:
        """Number of logits of ``state``'s network, which may lack the last if it is a library's.

        Raises:
            IncompatibleError: The state is of another network, or calibrated for other classes.
        """
        judge_weights.check_calibration(name, state, self.calibrated, len(data.classes))
        weights = {key: value for key, value in state.items() if key not in self.calibrated}
        outputs = len(data.classes) + 1
        is_external = isinstance(self.options.network, LibraryNetwork)
        errors: list[IncompatibleError] = []
        for logits in (outputs, outputs - 1) if is_external else (outputs,):
            try:
                network = skeleton(functools.partial(self._new_network, data, logits)).core
                judge_weights.check_weights(name, weights, network.state_dict())
                return logits
            except IncompatibleError as error:
                errors.append(error)
        raise errors[0]

    def _load_network(
        self, data: Data, state: Mapping[str, Tensor], device: torch.device
    ) -> JudgeNetwork:
        """The network with the weights of ``state``, in evaluation mode."""
        logits = self._num_logits(data, state, "the judge's state")
        weights = {name: value for name, value in state.items() if name not in self.calibrated}
        with torch.random.fork_rng(devices=[]):
            network = self._new_network(data, logits)
        network.core.load_state_dict(weights, strict=True)
        return network.to(device).eval()

    def _train(self, data: Data, items: Examples, indices: Tensor, seed: int) -> None:
        """Train on ``items[indices]`` and half as many spoiled images: Adam, cosine decay."""
        c, device = self.options, items.x.device
        generator = torch.Generator(device).manual_seed(derive_seed(seed, "judge batches"))
        optimizer = torch.optim.Adam(self.network.parameters(), lr=c.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, c.steps)
        self.network.train()
        for _ in range(c.steps):
            i = indices[
                torch.randint(len(indices), (c.batch_size,), generator=generator, device=device)
            ]
            x = augment(pixels(data, items.x[i]), c.max_shift, data.flip, generator)
            clean = x + 0.03 * torch.randn(x.shape, generator=generator, device=device)
            spoiled = spoil(x[: c.batch_size // 2], generator)
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
        """Input of the last layer: 8 ``width`` numbers, or ``embedding_dim`` of the resnet."""
        return torch.cat([self.network.features(part) for part in x.split(BATCH)])

    def quality(self, targets: Sequence[int]) -> float | None:
        """Accuracy; of attributes, the lowest balanced accuracy among ``targets``."""
        return quality_of(self.report, targets)

    def state(self) -> dict[str, Tensor]:
        """Weights and calibration."""
        return {**self.network.core.state_dict(), **self.calibration}

    def restore(self, data: Data, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Rebuild the network from ``state``."""
        self.network = self._load_network(data, state, device)
        self.calibration = {name: state[name].to(device) for name in self.calibrated}
