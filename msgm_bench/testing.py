"""Conformance checks that plugin authors run on their own classes.

Each check raises ``AssertionError`` with a sentence on what is wrong, and takes seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from msgm_bench.api import (
    Backbone,
    Batch,
    Data,
    DataInfo,
    Dataset,
    Examples,
    Judge,
    JudgeConfig,
    Method,
    Model,
    Plugin,
    Regime,
    Split,
    Training,
)
from msgm_bench.diffusion import Process, VariancePreserving
from msgm_bench.training import Feed, Runtime, Trainer

__all__ = ["check_backbone", "check_dataset", "check_judge", "check_method", "check_plugin"]

STEPS, SEED = 6, 0
TARGETS = ((0,), (1,))
CPU = torch.device("cpu")


def check_plugin(cls: type[Plugin]) -> None:
    """Name, summary and a description on every option; unknown options are refused."""
    assert getattr(cls, "name", ""), f"{cls.__name__} has no name"
    assert cls.summary(), f"{cls.name}: the class has no docstring"
    for key, field in cls.Config.model_fields.items():
        assert field.description, f"{cls.name}: option {key!r} has no description"
    assert cls.Config.model_config.get("extra") == "forbid", f"{cls.name}: Config takes any key"


def check_method(cls: type[Method], options: Mapping[str, Any] | None = None) -> None:
    """What a method must keep on toy data, in each regime that it declares.

    Models are unconditional and class-conditional in turn, but for those that ``skip`` refuses.

    Weights stay finite; another forget set gives other weights; a training that was killed in
    its preparation or between two steps, and resumed, ends with the same bits; batches of D_g
    hold no item of D_f; a method that does not declare a split gives the same weights whatever
    that split holds (and reading it anyway is an error).
    """
    check_plugin(cls)
    data, tried = toy_images(), 0
    for regime, classes in itertools.product(cls.regimes, (None, len(data.classes))):
        if cls.create(options).skip(_toy_model(classes), regime) is not None:
            continue
        tried += 1
        first, second = (trained(cls, options, regime, data, t, classes=classes) for t in TARGETS)
        label = f"{cls.name} ({regime}{', class-conditional' if classes else ''})"
        assert all(bool(torch.isfinite(w).all()) for w in first), f"{label}: weights not finite"
        if cls.needs & {"retain", "forget"} or (classes and "all" not in cls.needs):
            assert _differ(first, second), f"{label}: the forget set does not change the weights"
        for kill in (("prepare", 1), ("", STEPS // 2)):
            resumed = trained(cls, options, regime, data, TARGETS[0], kill, classes)
            assert not _differ(first, resumed), f"{label}: a resumed training ends elsewhere"
        forget = data.members(data.train, TARGETS[0])
        for split, name, items in (("forget", "D_f", forget), ("retain", "D_g", ~forget)):
            if not cls.needs & {split, "all"}:
                other = _spoil(data, items)
                spoiled = trained(cls, options, regime, other, TARGETS[0], classes=classes)
                leak = f"{label}: {name} leaks into a method without it"
                assert not _differ(first, spoiled), leak
    assert tried, f"{cls.name}: skips unconditional and class-conditional models alike"


def check_dataset(cls: type[Dataset], options: Mapping[str, Any] | None = None) -> None:
    """Loads twice the same, and what its sketch says; both splits hold every class."""
    check_plugin(cls)
    first, second = (cls.create(options).load() for _ in range(2))
    for a, b in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(a.x, b.x), f"{cls.name}: loads other items the second time"
        assert torch.equal(a.y, b.y), f"{cls.name}: loads other labels the second time"
    assert first.protocol, f"{cls.name}: the data protocol has no name"
    sketch = cls.create(options).sketch()
    if sketch is not None:
        told = (sketch.shape, sketch.levels, sketch.classes, sketch.attributes)
        here = (first.shape, first.levels, first.classes, first.train.y.ndim == 2)
        assert told == here, f"{cls.name}: its sketch says {told}, its items are {here}"
    for name, part in (("train", first.train), ("test", first.test)):
        assert len(part.x) == len(part.y), f"{cls.name}: {name} has items without labels"
        if first.levels is not None:
            assert part.x.dtype == torch.uint8, f"{cls.name}: images are {part.x.dtype}, not uint8"
            assert int(part.x.max()) < first.levels, f"{cls.name}: grey levels beyond levels"
        for i, label in enumerate(first.classes):
            held = first.members(part, (i,))
            assert bool(held.any()), f"{cls.name}: no {label!r} among the {name} items"


def check_backbone(cls: type[Backbone], options: Mapping[str, Any] | None = None) -> None:
    """Predicts noise of the right shape at every time, the same for the same seed.

    One that is ``conditional`` tells the classes and the null class apart.
    """
    check_plugin(cls)
    info = DataInfo.of(toy_images())
    models = []
    for _ in range(2):
        torch.manual_seed(SEED)
        models.append(cls.create(options).build(info).eval())
    t = models[0].process.sample_times(torch.linspace(0, 0.999, 5))
    x = torch.randn(5, *info.shape, generator=torch.Generator().manual_seed(SEED))
    with torch.no_grad():
        first, second = (model.eps(x, t) for model in models)
    assert first.shape == x.shape, f"{cls.name}: eps_hat has shape {tuple(first.shape)}"
    assert bool(torch.isfinite(first).all()), f"{cls.name}: eps_hat is not finite"
    assert torch.equal(first, second), f"{cls.name}: the same seed builds other networks"
    if cls.conditional:
        _check_classes(cls.create(options), info, x, t)


@torch.no_grad()
def _check_classes(backbone: Backbone, info: DataInfo, x: Tensor, t: Tensor) -> None:
    torch.manual_seed(SEED)
    model = backbone.build(replace(info, classes=3)).eval()
    for weight in model.parameters():  # fresh weights may silence the network
        weight.add_(0.1 * torch.randn_like(weight))
    told = [model.eps(x, t, torch.full((len(x),), c)) for c in range(4)]
    for a, b in itertools.combinations(range(4), 2):
        same = torch.equal(told[a], told[b])
        assert not same, f"{backbone.name}: classes {a} and {b} of 3 get one prediction"


def check_judge(cls: type[Judge], data: Data, options: Mapping[str, Any] | None = None) -> None:
    """A restored judge says what the fitted one says; the report is JSON and has the accuracy."""
    check_plugin(cls)
    assert issubclass(cls.Config, JudgeConfig), f"{cls.name}: Config is no JudgeConfig"
    fitted, restored = cls.create(options), cls.create(options)
    fitted.check(data)
    fitted.fit(data, SEED, CPU)
    assert "accuracy" in fitted.report, f"{cls.name}: report lacks the accuracy"
    restored.restore(data, fitted.state(), CPU)
    restored.report = json.loads(json.dumps(fitted.report, allow_nan=False))
    for target in range(len(data.classes)):
        quality = fitted.quality([target])
        assert quality is None or 0 <= quality <= 1, f"{cls.name}: quality is {quality}"
        assert quality == restored.quality([target]), f"{cls.name}: quality is not in the report"
    x = data.test.x if data.levels is None else (data.test.x.float() + 0.5) / data.levels
    a, b = fitted.verdict(x), restored.verdict(x)
    assert torch.equal(a.classes, b.classes), f"{cls.name}: restored, it judges otherwise"
    assert torch.equal(a.recognised, b.recognised), f"{cls.name}: restored, it recognises otherwise"


# Toys -------------------------------------------------------------------------------------


def toy_images(count: int = 96) -> Data:
    """Three classes of 4x4 images with 16 grey levels: a bright corner each."""
    generator = torch.Generator().manual_seed(SEED)
    y = torch.arange(count) % 3
    x = torch.randint(0, 6, (count, 1, 4, 4), generator=generator)
    x[torch.arange(count), 0, y, y] += 9
    items = Examples(x.to(torch.uint8), y)
    held = torch.arange(count) // 3 % 4 == 0
    return Data(items[~held], items[held], ("a", "b", "c"), levels=16, protocol="toy/corners@1")


class ToyBackbone(Backbone):
    """VP SDE with a network of a few hundred weights."""

    name = "toy"
    conditional = True

    def process(self, info: DataInfo) -> Process:
        """The usual schedule."""
        return VariancePreserving()

    def network(self, info: DataInfo, process: Process) -> nn.Module:
        """One hidden layer."""
        return _ToyNetwork(torch.Size(info.shape).numel(), info.classes)


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


def _toy_model(classes: int | None) -> Model:
    return ToyBackbone.create().build(replace(DataInfo.of(toy_images()), classes=classes))


class _Killed(Exception):  # noqa: N818 - not an error but an event
    """Stands for a kill between two steps."""


class _Watched(Feed):
    """A feed whose batches of D_g are looked at."""

    forgotten: tuple[int, ...]

    def batch(self, split: Split, step: int, draw: int | str = 0) -> Batch:
        """The batch."""
        batch = super().batch(split, step, draw)
        leaked = torch.isin(batch.y, torch.tensor(self.forgotten)).any()
        assert split != "retain" or not leaked, f"batch {step} of D_g holds items of D_f"
        return batch


def trained(
    cls: type[Method],
    options: Mapping[str, Any] | None,
    regime: Regime,
    data: Data,
    targets: tuple[int, ...],
    kill: tuple[str, int] | None = None,
    classes: int | None = None,
) -> list[Tensor]:
    """Weights after a few steps of the real trainer.

    With ``kill`` it is killed on the way, after so many steps of a part, and resumed.
    """
    with tempfile.TemporaryDirectory() as folder:
        if kill is not None:
            with contextlib.suppress(_Killed):
                _train(cls, options, regime, data, targets, Path(folder), kill, classes)
        model = _train(cls, options, regime, data, targets, Path(folder), None, classes)
    return [weight.detach().clone() for weight in model.parameters()]


def _train(
    cls: type[Method],
    options: Mapping[str, Any] | None,
    regime: Regime,
    data: Data,
    targets: tuple[int, ...],
    folder: Path,
    kill: tuple[str, int] | None,
    classes: int | None,
) -> Model:
    torch.manual_seed(SEED)
    model = _toy_model(classes)
    base = _toy_model(classes).eval().requires_grad_(False)
    if regime == "finetune":
        model.load_state_dict(base.state_dict())
    retain, forget = data.split(data.train, targets)
    assert not data.members(retain, targets).any(), "D_g holds items of D_f"
    splits: dict[Split, Examples] = {"all": data.train, "retain": retain, "forget": forget}
    feed = _Watched({k: v for k, v in splits.items() if k in cls.needs}, model, SEED, 16)
    feed.forgotten = targets
    budget = Training(steps=STEPS, batch_size=16, learning_rate=1e-2, ema=0.5)
    method, labels = cls.create(options), data.labels(targets)
    trainer = Trainer(model, method, feed, budget, Runtime(CPU), SEED, base, labels)

    def on_step(step: int, total: int, values: Mapping[str, float], part: str = "", /) -> None:
        if (part, step) == kill:
            trainer.store(folder)
            raise _Killed

    trainer.run(folder, on_step)
    return model


def _spoil(data: Data, items: Tensor) -> Data:
    """The data with other pixels in ``items [N]``."""
    x = data.train.x.clone()
    x[items] = 15 - x[items]
    return replace(data, train=Examples(x, data.train.y))


def _differ(first: list[Tensor], second: list[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
