"""What a judge keeps: predictions that depend on the seed, the training data and the item."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from msgm_bench.api import Data, Embedder, Examples, Judge, JudgeOptions
from msgm_bench.errors import UsageError
from msgm_bench.testing.checks import Check, require
from msgm_bench.testing.plugins import PLUGIN_CHECKS
from msgm_bench.testing.toys import CPU, SEED, toy_attributes, toy_images, toy_points

ROUNDING = 1e-3  # of float32 sums in another order


@dataclass(frozen=True, eq=False)
class JudgeCase:
    """A judge under check.

    Attributes:
        cls: The judge.
        options: Its options.
        custom_data: What it judges; the first kind of toy data that it does not refuse without it.
    """

    cls: type[Judge]
    options: Mapping[str, Any] | None = None
    custom_data: Data | None = None

    def obstacle(self) -> str | None:
        """Weights that are not here, or toy data that are nothing for it."""
        missing = self.cls.create(self.options).missing_weights()
        return missing if missing is not None else self.choice[1] or None

    @functools.cached_property
    def choice(self) -> tuple[Data, str]:
        """The data, and why there are none for it."""
        judge, reasons = self.cls.create(self.options), list[str]()
        if self.custom_data is not None:
            judge.check(self.custom_data)
            return self.custom_data, ""
        for data in (toy_images(960, size=8), toy_attributes(), toy_points()):
            try:
                judge.check(data)
            except UsageError as error:
                reasons.append(error.what)
                continue
            return data, ""
        return data, f"it refuses all toy data: {'; '.join(reasons)}"

    @property
    def data(self) -> Data:
        """What it judges."""
        return self.choice[0]

    @functools.cached_property
    def x(self) -> Tensor:
        """The held-out items as it sees them."""
        return visible(self.data, self.data.test.x)

    def fit(self, data: Data) -> Judge:
        """Fitted on ``data``."""
        judge = self.cls.create(self.options)
        judge.fit(data, SEED, CPU)
        return judge

    @functools.cached_property
    def fitted(self) -> Judge:
        """Fitted once."""
        torch.manual_seed(SEED)
        return self.fit(self.data)

    @functools.cached_property
    def restored(self) -> Judge:
        """The same from its state and its report."""
        judge = self.cls.create(self.options)
        judge.restore(self.data, self.fitted.state(), CPU)
        judge.report = json.loads(json.dumps(self.fitted.report, allow_nan=False))
        return judge


def _check_gate(case: JudgeCase) -> None:
    is_judge = issubclass(case.cls.options_type, JudgeOptions)
    assert is_judge, f"{case.cls.name}: its options are no JudgeOptions"


def _check_reports(case: JudgeCase) -> None:
    _check_report(case.fitted)
    for target in range(len(case.data.classes)):
        quality = case.fitted.quality([target])
        label = case.cls.name
        assert quality is None or 0 <= quality <= 1, f"{label}: quality is {quality}"
        assert quality == case.restored.quality([target]), f"{label}: quality is not in the report"


def _check_restored(case: JudgeCase) -> None:
    a, b, name = case.fitted.predict(case.x), case.restored.predict(case.x), case.cls.name
    assert torch.equal(a.classes, b.classes), f"{name}: restored, it judges otherwise"
    assert torch.equal(a.recognised, b.recognised), f"{name}: restored, it recognises otherwise"


def _check_settings(case: JudgeCase) -> None:
    check_protocol(case.fitted)


def _check_seed(case: JudgeCase) -> None:
    torch.manual_seed(SEED + 1)  # a generator of its own, not torch's global one
    first, again = case.fitted.state(), case.fit(case.data)
    second = again.state()
    same = first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    same = same and _judges_alike(case, again)
    assert same, f"{case.cls.name}: the same seed fits another judge"


def _check_held_out(case: JudgeCase) -> None:
    test = case.data.test
    other = Examples(test.x, test.y[torch.arange(len(test) - 1, -1, -1)])
    same = _judges_alike(case, case.fit(replace(case.data, test=other)))
    assert same, f"{case.cls.name}: fit learns from the labels of held-out items"


def _judges_alike(case: JudgeCase, other: Judge) -> bool:
    return torch.equal(other.predict(case.x).classes, case.fitted.predict(case.x).classes)


def visible(data: Data, x: Tensor) -> Tensor:
    """Items as judges and embedders see them: [0, 1] images, or points."""
    return x if data.levels is None else (x.float() + 0.5) / data.levels


def _check_report(judge: Judge) -> None:
    assert "accuracy" in judge.report, f"{judge.name}: report lacks the accuracy"
    accuracy = judge.report["accuracy"]
    share = accuracy is None or 0 <= accuracy <= 1
    assert share, f"{judge.name}: the accuracy is {accuracy}, not a share in [0, 1]"


def _check_predictions(case: JudgeCase) -> None:
    fitted, x, name, K = case.fitted, case.x, case.cls.name, len(case.data.classes)
    a, first = fitted.predict(x), fitted.predict(x[:3])
    assert a.recognised.shape == (len(x),), f"{name}: recognised is not one bool an item"
    assert a.recognised.dtype == torch.bool, f"{name}: recognised is {a.recognised.dtype}"
    if a.classes.ndim == 1:
        assert a.classes.shape == (len(x),), f"{name}: not one class an item"
        inside = int(a.classes.min()) >= 0 and int(a.classes.max()) < K
        assert inside, f"{name}: classes beyond 0 .. {K - 1}"
    else:
        assert a.classes.shape == (len(x), K), f"{name}: not one bool an item and attribute"
        assert a.classes.dtype == torch.bool, f"{name}: attributes are {a.classes.dtype}"
    assert torch.equal(a.classes[:3], first.classes), f"{name}: a prediction depends on its batch"
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


def check_protocol(plugin: Judge | Embedder) -> None:
    """Settings that can be stored and compared: JSON, no path, the weights' checksum, stable."""
    name, protocol, checksum = plugin.name, plugin.protocol(), plugin.checksum()
    text = json.dumps(protocol, allow_nan=False)
    again = json.dumps(plugin.protocol(), allow_nan=False)
    assert text == again, f"{name}: its protocol changes from call to call"
    assert not re.search(r'"(/|[A-Za-z]:\\\\)', text), f"{name}: its protocol holds a path"
    if checksum:
        assert re.fullmatch(r"[0-9a-f]{64}", checksum), f"{name}: checksum is no SHA-256"
        assert checksum in text, f"{name}: its protocol does not hold the weights' checksum"


JUDGE_CHECKS: tuple[Check[JudgeCase], ...] = (
    *PLUGIN_CHECKS,
    Check("gate", "its options hold the gate of every judge", _check_gate, True),
    Check("report", "JSON with an accuracy and a quality in [0, 1]", _check_reports),
    Check("restore", "restored from its state, it judges the same", _check_restored),
    Check("predictions", "classes in range, features, one item at a time", _check_predictions),
    Check("protocol", "JSON without paths, with the checksum of its weights", _check_settings),
    Check("seed", "the same seed fits the same judge", _check_seed),
    Check("held-out", "learns nothing from the labels of held-out items", _check_held_out),
)


def check_judge(
    cls: type[Judge], data: Data | None = None, options: Mapping[str, Any] | None = None
) -> None:
    """A restored judge says what the fitted one says; the report is JSON and has the accuracy.

    The same seed fits the same judge, whatever the labels of the held-out items say; a prediction
    has a class in range, and does not depend on the rest of the batch; the accuracy is that of
    its own verdicts where they are single classes.

    Args:
        cls: The judge.
        data: What it judges; toy images, attributes or points without it.
        options: Its options.
    """
    require(JUDGE_CHECKS, JudgeCase(cls, options, data))
