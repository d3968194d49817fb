"""Models: a network, its process, its codec, its conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from msgm_bench.api.conditioning import Conditioning, Labels, Prompts
from msgm_bench.api.data import Data
from msgm_bench.api.dequantization import Codec, IdentityCodec, UniformDequantization
from msgm_bench.diffusion import Process, guided, per_item
from msgm_bench.errors import IncompatibleError, OptionError, did_you_mean

UNIFORM_STD = 12**-0.5
PredictionType = Literal["epsilon", "v"]


@dataclass(frozen=True)
class DataStats:
    """Statistics of a dataset that a backbone may use; stored with the model.

    Attributes:
        shape: Shape of one item.
        levels: Grey levels, or None for points.
        nll_offset: The dataset's convention for points, bits/dim.
        std: Standard deviation over items and dimensions, in units of [0, 1] for images.
        max_distance: Largest Euclidean distance between two training items, same units.
        classes: K, the number of classes of a class-conditional model; None for other models.
        prompts: The prompts of a text-to-image model, by index; None for other models.
        words: Words of the prompts' language, for tokenizers; empty where it is open.
    """

    shape: tuple[int, ...]
    levels: int | None
    nll_offset: float
    std: float
    max_distance: float
    classes: int | None = None
    prompts: tuple[str, ...] | None = None
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Data, limit: int = 2_000) -> Self:
        """Measure ``data`` on about ``limit`` evenly spaced training items.

        Data without items, of which only prompts are known, have the values of uniform images.
        """
        if not len(data.train):
            return cls(data.shape, data.levels, data.nll_offset, UNIFORM_STD, 0.0)
        subset = data.train.x[:: max(1, len(data.train) // limit)].flatten(1).double()
        if data.levels is not None:
            subset = (subset + 0.5) / data.levels
        return cls(
            data.shape,
            data.levels,
            data.nll_offset,
            float((subset - subset.mean(0)).square().mean().sqrt()),
            float(torch.cdist(subset, subset).max()),
        )

    def codec(self, low: float, high: float) -> Codec:
        """Grey levels on [low, high) for images, the identity for points."""
        if self.levels is None:
            return IdentityCodec(self.nll_offset)
        return UniformDequantization(self.levels, low, high)

    def record(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        prompts = None if self.prompts is None else list(self.prompts)
        return asdict(self) | {
            "shape": list(self.shape),
            "prompts": prompts,
            "words": list(self.words),
        }

    @property
    def conditioning(self) -> Conditioning | None:
        """Classes as conditions, where ``classes`` is their number; otherwise None."""
        return None if self.classes is None else Labels(self.classes)


class Model(nn.Module):
    """A network, the process that it denoises and the codec of its data.

    The network predicts the noise, eps_hat = ``network(x_t, t, condition)``, ``[N, *shape]``, for
    times ``t [N]``, or v = a eps - sigma x0, of which eps_hat = a v_hat + sigma x_t. Its condition
    is what ``conditioning`` makes of an index 0 .. K-1 (a class, a prompt) or of the null
    condition K, which stands for any; that of an unconditional model is None.

    Attributes:
        network: The network.
        process: The forward process.
        codec: The map between data and model space.
        shape: Shape of an item in model space.
        conditioning: The conditions; None for an unconditional model.
        prediction_type: What the network predicts, ``epsilon`` or ``v``.
        parts: Names of the network's parameters in each part that may be trained alone.

    Source: Salimans and Ho 2022, arXiv:2202.00512, section 4 (v prediction).
    """

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        codec: Codec,
        shape: tuple[int, ...],
        conditioning: Conditioning | None = None,
        prediction_type: PredictionType = "epsilon",
        parts: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.process, self.codec, self.shape = network, process, codec, shape
        self.conditioning, self.prediction_type = conditioning, prediction_type
        self.parts = {name: frozenset(names) for name, names in (parts or {}).items()}

    @property
    def prompts(self) -> Prompts:
        """The conditions of a text-to-image model.

        Raises:
            IncompatibleError: Its conditions are no prompts.
        """
        if not isinstance(self.conditioning, Prompts):
            raise IncompatibleError("a model that takes no prompt", "text-to-image models (--text)")
        return self.conditioning

    def part(self, name: str) -> frozenset[str]:
        """Names of the network's parameters in a part; ``all`` are all of them.

        Raises:
            OptionError: The network has no such part.
        """
        if name in self.parts:
            return self.parts[name]
        if name == "all":
            return frozenset(key for key, _ in self.network.named_parameters())
        raise OptionError(
            f"weights={name!r}: the network has no such part{did_you_mean(name, list(self.parts))}",
            ", ".join(sorted({*self.parts, "all"})),
        )

    def loss_weight(self, t: Tensor) -> Tensor:
        """w(t) of w |eps_hat - eps|^2, ``[N]``: 1, or 1/a(t)^2 of a network that predicts v.

        eps_hat - eps = a (v_hat - v), so with this weight the loss is |v_hat - v|^2.
        """
        if self.prediction_type == "epsilon":
            return torch.ones_like(t)
        a, _ = self.process.marginal(t)
        return a**-2

    def eps(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """eps_hat(x_t, t[, condition]), ``[N, *shape]``.

        Args:
            x_t: ``[N, *shape]``.
            t: Times ``[N]``.
            condition: Conditions ``int64 [N]`` in 0 .. K, or the embeddings ``float [N, L, d]`` of
                prompts. None: the null condition; an unconditional model has no other.

        Raises:
            IncompatibleError: A condition for an unconditional model.
            OptionError: A condition of another shape, or (seen on the CPU only) out of range.
        """
        output: Tensor = self.network(x_t, t, self.embed(condition, x_t))
        if self.prediction_type == "epsilon":
            return output
        a, sigma = (per_item(v, x_t) for v in self.process.marginal(t))
        return a * output + sigma * x_t

    def null(self, n: int, device: torch.device | None = None) -> Tensor:
        """The null condition K of n items, ``int64 [n]``.

        Raises:
            IncompatibleError: The model is unconditional.
        """
        if self.conditioning is None:
            raise IncompatibleError("an unconditional model has no null class", "--conditional")
        return torch.full((n,), self.conditioning.count, device=device)

    def embed(self, condition: Tensor | None, x_t: Tensor) -> Tensor | None:
        """What the network takes for the conditions of items ``x_t``; None if unconditional.

        Raises:
            IncompatibleError: A condition for an unconditional model.
            OptionError: A condition of another shape, or (seen on the CPU only) out of range.
        """
        if self.conditioning is None:
            if condition is None:
                return None
            raise IncompatibleError(
                "a class for an unconditional model", "no condition, or a model of --conditional"
            )
        if condition is None:
            condition = self.null(len(x_t), x_t.device)
        if condition.is_floating_point() and isinstance(self.conditioning, Prompts):
            return condition
        _check_condition(condition, x_t, self.conditioning.count)
        return self.conditioning.embed(condition)

    def score(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """s = -eps_hat / sigma(t), ``[N, *shape]``."""
        _, sigma = self.process.marginal(t)
        return -self.eps(x_t, t, condition) / sigma.reshape(-1, *[1] * len(self.shape))

    @property
    def dim(self) -> int:
        """Number of dimensions D of an item."""
        return int(torch.Size(self.shape).numel())

    @property
    def eps_fn(self) -> Callable[[Tensor, Tensor], Tensor]:
        """``eps`` without a condition, as samplers and solvers take it."""
        return self.eps


def _check_condition(condition: Tensor, x_t: Tensor, K: int) -> None:
    """Refuse conditions of another shape than ``[N]`` or outside 0 .. K."""
    if condition.shape != (len(x_t),):
        raise OptionError(
            f"a condition of shape {tuple(condition.shape)} for {len(x_t)} items",
            "one condition an item",
        )
    if condition.device.type == "cpu" and len(condition):  # a GPU would have to wait
        low, high = int(condition.min()), int(condition.max())
        if low < 0 or high > K:
            raise OptionError(
                f"conditions from {low} to {high} for a model of {K}",
                f"0 to {K - 1}, and {K} for the null condition",
            )


class Conditioned(Model):
    """eps_hat = (1 + w) eps(x, t, c) - w eps(x, t, null): a model for fixed conditions c.

    Samplers and solvers use it as they use an unconditional model. Both terms go through the
    network in one call, which counts as one evaluation.

    Args:
        model: The model, or another wrapper of one.
        labels: Conditions of the N items that will be drawn: ``int64 [N]`` in 0 .. K, or the
            embeddings ``float [N, L, d]`` of prompts.
        w: The guidance weight, one for all or one an item ``[N]``; 0 is plain conditional.

    Source: Ho and Salimans 2022, arXiv:2207.12598, equation 6 (``guided``).
    """

    def __init__(self, model: Model, labels: Tensor, w: float | Tensor = 0.0) -> None:
        super().__init__(
            model.network,
            model.process,
            model.codec,
            model.shape,
            model.conditioning,
            model.prediction_type,
            model.parts,
        )
        self.model, self.labels, self.w = model, labels, w

    def eps(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Guided eps_hat ``[N, *shape]`` for ``condition``, by default for ``labels``."""
        c = self.labels if condition is None else condition
        if not isinstance(self.w, Tensor) and not self.w:
            return self.model.eps(x_t, t, c)
        null = self.null(len(c), c.device)
        if c.is_floating_point():
            null = self.model.prompts.embed(null)
        x2, t2, c2 = torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([c, null])
        eps_c, eps_null = self.model.eps(x2, t2, c2).chunk(2)
        w = per_item(self.w, x_t) if isinstance(self.w, Tensor) else self.w
        return guided(eps_c, eps_null, w)
