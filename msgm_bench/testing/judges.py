"""What keeps the rulers straight: judges and embedders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from msgm_bench.api import Data, Embedder, Examples, Judge
from msgm_bench.testing.plugins import check_plugin
from msgm_bench.testing.toys import CPU, SEED, ToyJudge, toy_images

ROUNDING = 1e-3  # of float32 sums in another order


def check_judge(cls: type[Judge], data: Data, options: Mapping[str, Any] | None = None) -> None:
    """A restored judge says what the fitted one says; the report is JSON and has the accuracy.

    The same seed fits the same judge, whatever the labels of the held-out items say; a verdict
    has a class in range, and does not depend on the rest of the batch; the accuracy is that of
    its own verdicts where they are single classes.
    """
    check_plugin(cls)
    fitted, restored = cls.create(options), cls.create(options)
    fitted.check(data)
    torch.manual_seed(SEED)
    fitted.fit(data, SEED, CPU)
    _check_report(fitted)
    restored.restore(data, fitted.state(), CPU)
    restored.report = json.loads(json.dumps(fitted.report, allow_nan=False))
    for target in range(len(data.classes)):
        quality = fitted.quality([target])
        assert quality is None or 0 <= quality <= 1, f"{cls.name}: quality is {quality}"
        assert quality == restored.quality([target]), f"{cls.name}: quality is not in the report"
    x = _visible(data, data.test.x)
    _check_verdicts(fitted, restored, data, x)
    _check_protocol(fitted)
    _check_fit(cls, options, data, fitted, x)


def _visible(data: Data, x: Tensor) -> Tensor:
    return x if data.levels is None else (x.float() + 0.5) / data.levels


def _check_report(judge: Judge) -> None:
    assert "accuracy" in judge.report, f"{judge.name}: report lacks the accuracy"
    accuracy = judge.report["accuracy"]
    share = accuracy is None or 0 <= accuracy <= 1
    assert share, f"{judge.name}: the accuracy is {accuracy}, not a share in [0, 1]"


def _check_verdicts(fitted: Judge, restored: Judge, data: Data, x: Tensor) -> None:
    name, K = fitted.name, len(data.classes)
    a, b, first = fitted.predict(x), restored.predict(x), fitted.predict(x[:3])
    assert torch.equal(a.classes, b.classes), f"{name}: restored, it judges otherwise"
    assert torch.equal(a.recognised, b.recognised), f"{name}: restored, it recognises otherwise"
    assert a.recognised.shape == (len(x),), f"{name}: recognised is not one bool an item"
    assert a.recognised.dtype == torch.bool, f"{name}: recognised is {a.recognised.dtype}"
    if a.classes.ndim == 1:
        assert a.classes.shape == (len(x),), f"{name}: not one class an item"
        inside = int(a.classes.min()) >= 0 and int(a.classes.max()) < K
        assert inside, f"{name}: classes beyond 0 .. {K - 1}"
    else:
        assert a.classes.shape == (len(x), K), f"{name}: not one bool an item and attribute"
        assert a.classes.dtype == torch.bool, f"{name}: attributes are {a.classes.dtype}"
    assert torch.equal(a.classes[:3], first.classes), f"{name}: a verdict depends on its batch"
    features = fitted.features(x)
    if features is not None:
        assert features.ndim == 2, f"{name}: features have shape {tuple(features.shape)}"
        alike = torch.allclose(
            features[:3], _features(fitted, x[:3]), rtol=ROUNDING, atol=ROUNDING / 10
        )
        assert alike, f"{name}: features depend on the rest of the batch"


def _features(judge: Judge, x: Tensor) -> Tensor:
    features = judge.features(x)
    assert features is not None, f"{judge.name}: features are there, and then not"
    return features


def _check_fit(
    cls: type[Judge], options: Mapping[str, Any] | None, data: Data, fitted: Judge, x: Tensor
) -> None:
    again, blind = cls.create(options), cls.create(options)
    torch.manual_seed(SEED + 1)  # a generator of its own, not torch's global one
    again.fit(data, SEED, CPU)
    first, second = fitted.state(), again.state()
    same = first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    same = same and torch.equal(again.predict(x).classes, fitted.predict(x).classes)
    assert same, f"{cls.name}: the same seed fits another judge"
    order = torch.arange(len(data.test) - 1, -1, -1)
    blind.fit(replace(data, test=Examples(data.test.x, data.test.y[order])), SEED, CPU)
    same = torch.equal(blind.predict(x).classes, fitted.predict(x).classes)
    assert same, f"{cls.name}: fit learns from the labels of held-out items"


def _check_protocol(plugin: Judge | Embedder) -> None:
    name, protocol, checksum = plugin.name, plugin.protocol(), plugin.checksum()
    text = json.dumps(protocol, allow_nan=False)
    again = json.dumps(plugin.protocol(), allow_nan=False)
    assert text == again, f"{name}: its protocol changes from call to call"
    assert not re.search(r'"(/|[A-Za-z]:\\\\)', text), f"{name}: its protocol holds a path"
    if checksum:
        assert re.fullmatch(r"[0-9a-f]{64}", checksum), f"{name}: checksum is no SHA-256"
        assert checksum in text, f"{name}: its protocol does not hold the weights' checksum"


def check_embedder(
    cls: type[Embedder],
    options: Mapping[str, Any] | None = None,
    *,
    data: Data | None = None,
    judge: Judge | None = None,
) -> None:
    """Features are finite, of one width, repeatable, and of one image only.

    Its protocol is JSON without a path, holds the weights' checksum, and stays the same.

    Args:
        cls: The embedder.
        options: Its options.
        data: Images of a size that it takes; toy images of 8x8 pixels without them.
        judge: A fitted judge of these data, for embedders that look with it.
    """
    check_plugin(cls)
    data = data or toy_images(size=8)
    if judge is None:
        judge = ToyJudge.create()
        judge.fit(data, SEED, CPU)
    embedder, second = cls.create(options), cls.create(options)
    missing = embedder.missing_weights(judge)
    assert missing is None, f"{cls.name}: cannot be checked here: {missing}"
    embedder.load(judge, CPU)
    second.load(judge, CPU)
    x = _visible(data, data.test.x[:8])
    before, features = x.clone(), embedder.embed(x)
    assert torch.equal(before, x), f"{cls.name}: embed changes the images"
    assert features.ndim == 2, f"{cls.name}: features have shape {tuple(features.shape)}"
    assert len(features) == len(x), f"{cls.name}: {len(features)} features of {len(x)} images"
    assert features.is_floating_point(), f"{cls.name}: features are {features.dtype}"
    assert bool(torch.isfinite(features).all()), f"{cls.name}: features are not finite"
    assert not features.requires_grad, f"{cls.name}: features carry a graph"
    assert bool((features[:1] != features).any()), f"{cls.name}: all images have one feature"
    assert torch.equal(features, embedder.embed(x)), (
        f"{cls.name}: features change from call to call"
    )
    assert torch.equal(features, second.embed(x)), f"{cls.name}: loaded again, it embeds otherwise"
    parts = torch.cat([embedder.embed(part) for part in torch.split(x, 3)])
    alike = torch.allclose(features, parts, rtol=ROUNDING, atol=ROUNDING / 10)
    assert alike, f"{cls.name}: features depend on the rest of the batch"
    _check_protocol(embedder)
