"""A few steps of the real trainer on toy data, watched."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msgm_bench.api import (
    Batch,
    Data,
    Examples,
    Method,
    Model,
    Prompts,
    Regime,
    Split,
    Training,
)
from msgm_bench.testing.toy_tracks import UNCONDITIONAL, ToyTrack
from msgm_bench.testing.toys import CPU, LEVELS, SEED
from msgm_bench.training import NoisedBatches, Runtime, Trainer

STEPS = 6
BUDGET = Training(batch_size=16, learning_rate=1e-2, ema_decay=0.5)
LEVEL = LEVELS - 1  # the brightest grey of the toy images


class _Killed(Exception):  # noqa: N818 - not an error but an event
    """Stands for a kill between two steps."""


class _Entrance:
    """Sees to it that a network is entered by calling it: that is what the session counts.

    ``network.forward(x)`` and a call of one of its layers compute as much and count nothing.
    Deep copies of a network that is watched are watched, too. A text encoder, which the model's
    conditioning calls, is not.
    """

    def __init__(self, name: str, models: Sequence[Model]) -> None:
        self.name, self.depth = name, 0
        for model in models:
            network, conditioning = model.network, model.conditioning
            free = {network}
            if isinstance(conditioning, Prompts):
                free |= set(conditioning.encoder.modules())
            for part in network.modules():
                if part not in free:
                    part.register_forward_pre_hook(lambda *_: self.check())
            network.register_forward_pre_hook(lambda *_: self.move(1))
            network.register_forward_hook(lambda *_: self.move(-1), always_call=True)

    def move(self, by: int) -> None:
        """In or out."""
        self.depth += by

    def check(self) -> None:
        """Raise ``AssertionError`` outside of a call of the network."""
        assert self.depth, (
            f"{self.name}: goes round the counting of passes: it calls network.forward or a layer "
            "of it (call model.eps, or the network itself)"
        )


class _WatchedBatches(NoisedBatches):
    """Batches, of which those of D_g are looked at."""

    forget_labels: tuple[int, ...]

    def batch(self, split: Split, *args: Any, **options: Any) -> Batch:
        """The batch."""
        batch = super().batch(split, *args, **options)
        leaked = torch.isin(batch.y, torch.tensor(self.forget_labels)).any()
        assert split != "retain" or not leaked, "a batch of D_g holds items of D_f"
        return batch


class _WatchedTrainer(Trainer):
    """A trainer that knows which values its own steps left, and compares them with what it has.

    Version counters, which the trainer itself looks at, do not see ``weight.data``.
    """

    free = False  # in an inner loop, which ends where it began

    def watch(self) -> None:
        """Remember the values of all weights, the base's included."""
        self.left = [weight.detach().clone() for weight in self._watched()]

    def compare(self) -> None:
        """Raise ``AssertionError`` where a weight is not what the session left."""
        if self.free or not hasattr(self, "left"):
            return
        pairs = list(zip(self._watched(), self.left, strict=True))
        own = len(list(self.model.parameters()))
        moved = [not torch.equal(_bits(now), _bits(then)) for now, then in pairs]
        name = self.method.name
        assert not any(moved[own:]), f"{name}: moves the weights of the base model"
        assert not any(moved), (
            f"{name}: moves weights round the session, which its average does not see "
            "(minimise and descend step, edit declares a move of the method's own)"
        )

    def _watched(self) -> list[Tensor]:
        base = [] if self._base is None else list(self._base.parameters())
        return [*self.model.parameters(), *base]

    def minimise(self, *args: Any, **options: Any) -> None:
        """A step of the session."""
        self.compare()
        super().minimise(*args, **options)
        self.watch()

    def descend(self, *args: Any, **options: Any) -> None:
        """A step of the session."""
        self.compare()
        super().descend(*args, **options)
        self.watch()

    @contextlib.contextmanager
    def inner_loop(self, *args: Any, **options: Any) -> Iterator[None]:
        """An inner loop of the session."""
        self.compare()
        with super().inner_loop(*args, **options):
            self.free, before = True, self.free
            yield
            self.free = before
        self.watch()

    @contextlib.contextmanager
    def edit(self) -> Iterator[None]:
        """A move of the method's own, declared."""
        self.compare()
        with super().edit():
            yield
        self.watch()


def _bits(weight: Tensor) -> Tensor:
    """The bytes of a tensor: NaN is equal to itself."""
    return weight.detach().contiguous().view(torch.uint8)


def _watched(method: Method, trainer: _WatchedTrainer) -> None:
    """Compare values before and after each call of the method."""
    for name in ("setup", "preparation_step", "update"):
        call = getattr(method, name)

        def compared(*args: Any, call: Any = call) -> Any:
            trainer.watch()
            result = call(*args)
            trainer.compare()
            return result

        setattr(method, name, compared)


def trained(
    cls: type[Method],
    options: Mapping[str, Any] | None,
    regime: Regime,
    data: Data,
    targets: tuple[int, ...],
    kills: Sequence[tuple[str, int]] = (),
    track: ToyTrack = UNCONDITIONAL,
    *,
    spoiled: Split | None = None,
    steps: int = STEPS,
) -> list[Tensor]:
    """Weights of the toy model after a few steps of the real trainer.

    Args:
        cls: The method.
        options: Its options.
        regime: Fresh weights, or those of a base that was trained on all toy images.
        data: The data.
        targets: What is to be forgotten.
        kills: (part, step) after which it is killed and resumed, in this order.
        track: Its models.
        spoiled: A split that shows other pixels, while the other splits stay as they are.
        steps: How many.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for kill in (*kills, None):
            trainer = _trainer(cls, options, regime, data, targets, track, spoiled, steps)
            with contextlib.suppress(_Killed):
                trainer.run(folder, _killing(trainer, folder, kill))
    return [weight.detach().clone() for weight in trainer.model.parameters()]


def _trainer(
    cls: type[Method],
    options: Mapping[str, Any] | None,
    regime: Regime,
    data: Data,
    targets: tuple[int, ...],
    track: ToyTrack,
    spoiled: Split | None,
    steps: int,
) -> _WatchedTrainer:
    base, labels = track.base(), data.labels(targets)
    torch.manual_seed(SEED)
    model = track.model()
    if regime == "finetune":
        model.load_state_dict(base.state_dict())
    method = cls.create(options)
    names = method.trains(model, regime)
    for name, parameter in model.network.named_parameters():
        parameter.requires_grad_(name in names)
    noised_batches = _noised_batches(method, model, data, targets, spoiled)
    budget = BUDGET.model_copy(update={"steps": steps})
    trainer = _WatchedTrainer(
        model,
        method,
        noised_batches,
        budget,
        Runtime(CPU),
        SEED,
        base,
        labels,
        concepts=targets,
        prompts=data.prompts,
    )
    _watched(method, trainer)
    _Entrance(method.name, [model, base])
    return trainer


def _noised_batches(
    method: Method, model: Model, data: Data, targets: tuple[int, ...], spoiled: Split | None
) -> NoisedBatches:
    retain, forget = data.split(data.train, targets)
    assert not data.members(retain, targets).any(), "D_g holds items of D_f"
    splits: dict[Split, Examples] = {"all": data.train, "retain": retain, "forget": forget}
    if spoiled is not None:
        splits[spoiled] = replace(splits[spoiled], x=LEVEL - splits[spoiled].x)
    noised_batches = _WatchedBatches(
        {k: v for k, v in splits.items() if k in method.needs}, model, SEED, 16
    )
    noised_batches.forget_labels = data.labels(targets)["forget"]
    return noised_batches


def _killing(trainer: Trainer, folder: Path, kill: tuple[str, int] | None) -> Any:
    def on_step(step: int, total: int, values: Mapping[str, float], part: str = "", /) -> None:
        if (part, step) == kill:
            trainer.store(folder)
            raise _Killed

    return on_step


def with_other_pixels(data: Data, items: Tensor) -> Data:
    """The data with other pixels in ``items [N]`` of the training part, in every split."""
    x = data.train.x.clone()
    x[items] = LEVEL - x[items]
    return replace(data, train=replace(data.train, x=x))


def differ(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Whether any weight has another bit."""
    return any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
