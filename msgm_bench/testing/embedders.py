"""What an embedder keeps: features of one image each, the same ones every time."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from msgm_bench.api import Data, Embedder, Judge
from msgm_bench.testing.checks import Check, require
from msgm_bench.testing.judges import ROUNDING, check_protocol, visible
from msgm_bench.testing.plugins import PLUGIN_CHECKS
from msgm_bench.testing.toys import CPU, SEED, ToyJudge, toy_images


@dataclass(frozen=True, eq=False)
class EmbedderCase:
    """An embedder under check.

    Attributes:
        cls: The embedder.
        options: Its options.
        custom_data: Images of a size that it takes; toy images of 8x8 pixels without them.
        custom_judge: A fitted judge of these data; the toy judge without it.
    """

    cls: type[Embedder]
    options: Mapping[str, Any] | None = None
    custom_data: Data | None = None
    custom_judge: Judge | None = None

    def obstacle(self) -> str | None:
        """Weights that are not here."""
        return self.cls.create(self.options).missing_weights(self.judge)

    @functools.cached_property
    def data(self) -> Data:
        """The images."""
        return self.custom_data or toy_images(size=8)

    @functools.cached_property
    def judge(self) -> Judge:
        """The judge that it may look with."""
        if self.custom_judge is not None:
            return self.custom_judge
        judge = ToyJudge.create()
        judge.fit(self.data, SEED, CPU)
        return judge

    def load(self) -> Embedder:
        """A ready embedder."""
        embedder = self.cls.create(self.options)
        embedder.load(self.judge, CPU)
        return embedder

    @functools.cached_property
    def embedder(self) -> Embedder:
        """Loaded once."""
        return self.load()

    @functools.cached_property
    def x(self) -> Tensor:
        """Eight images in [0, 1]."""
        return visible(self.data, self.data.test.x[:8])

    @functools.cached_property
    def features(self) -> Tensor:
        """Of ``x``, which stays as it is."""
        before, features = self.x.clone(), self.embedder.embed(self.x)
        assert torch.equal(before, self.x), f"{self.cls.name}: embed changes the images"
        return features


def _check_features(case: EmbedderCase) -> None:
    features, x, name = case.features, case.x, case.cls.name
    assert features.ndim == 2, f"{name}: features have shape {tuple(features.shape)}"
    assert len(features) == len(x), f"{name}: {len(features)} features of {len(x)} images"
    assert features.is_floating_point(), f"{name}: features are {features.dtype}"
    assert bool(torch.isfinite(features).all()), f"{name}: features are not finite"
    assert not features.requires_grad, f"{name}: features carry a graph"
    assert bool((features[:1] != features).any()), f"{name}: all images have one feature"


def _check_repeatable(case: EmbedderCase) -> None:
    features, name = case.features, case.cls.name
    again, loaded = case.embedder.embed(case.x), case.load().embed(case.x)
    assert torch.equal(features, again), f"{name}: features change from call to call"
    assert torch.equal(features, loaded), f"{name}: loaded again, it embeds otherwise"


def _check_batch(case: EmbedderCase) -> None:
    parts = torch.cat([case.embedder.embed(part) for part in torch.split(case.x, 3)])
    alike = torch.allclose(case.features, parts, rtol=ROUNDING, atol=ROUNDING / 10)
    assert alike, f"{case.cls.name}: features depend on the rest of the batch"


def _check_protocol(case: EmbedderCase) -> None:
    check_protocol(case.embedder)


EMBEDDER_CHECKS: tuple[Check[EmbedderCase], ...] = (
    *PLUGIN_CHECKS,
    Check("features", "finite, one row an image, and not all alike", _check_features),
    Check("repeatability", "the same from call to call, and loaded again", _check_repeatable),
    Check("batch", "features of an image do not depend on its batch", _check_batch),
    Check("protocol", "JSON without paths, with the checksum of its weights", _check_protocol),
)


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
    require(EMBEDDER_CHECKS, EmbedderCase(cls, options, data, judge))
