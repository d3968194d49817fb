"""Samples of copies of a model whose weights are rounded to a few bits."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor
from typing_extensions import TypeVar

from msgm_bench import Artifact, Cost, Data, Model, ModelContext, Task, TaskOptions, Track, hookimpl
from msgm_builtin.tasks.class_generation import ClassGeneration, ClassGenerationOptions
from msgm_builtin.tasks.generation import Generation, GenerationOptions
from msgm_builtin.tasks.skip_reasons import skip_other_tracks

SAMPLER, NFE = "dpmpp_2m_sde", 32


class BitsOptions(TaskOptions):
    """Bits of a weight."""

    bits: tuple[Annotated[int, Field(ge=2, le=16)], ...] = Field(
        (8, 4), min_length=1, max_length=8, description="bits of a weight; a copy for each number"
    )

    @field_validator("bits")
    @classmethod
    def _once(cls, bits: tuple[int, ...]) -> tuple[int, ...]:
        """Refuse a number that is there twice."""
        if len(set(bits)) < len(bits):
            raise ValueError("different numbers")
        return bits


BitsOptionsT = TypeVar("BitsOptionsT", bound=BitsOptions, default=BitsOptions, covariant=True)


class QuantisedTask(Task[BitsOptionsT]):
    """A task that draws samples, done by the model and by copies of it with rounded weights.

    All draw from the noise of the task ``drawing``, so that samples differ by the rounding alone.
    """

    drawing: ClassVar[type[Task]]
    track: ClassVar[Track]
    on_request = True

    @property
    def generation(self) -> Task:
        """The task that draws, with its options."""
        return self.drawing.create(self.options.model_dump(exclude={"bits"}))

    def skip(self, model: Model) -> str | None:
        """Skip models of other tracks."""
        return skip_other_tracks(self.name, model, self.track)

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler."""
        return self.generation.uses()

    def check_data(self, data: Data, targets: Sequence[int]) -> None:
        """Refuse what ``drawing`` refuses.

        Raises:
            UsageError: It cannot be done on such data.
        """
        self.generation.check_data(data, targets)

    def cost(self, model: Model) -> Cost | None:
        """The sampler's budget, once for the model and once for each copy."""
        cost = self.generation.cost(model)
        return None if cost is None else replace(cost, nfe=cost.nfe * (1 + len(self.options.bits)))

    def total(self, context: ModelContext) -> int:
        """Number of samples of the model."""
        return self.generation.total(context)

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """What ``drawing`` draws, with ``x_intB``: the samples of the copy of B bits."""
        generation = self.generation
        drawn = generation.draw(context, start, count)
        for bits in self.options.bits:
            rounded = replace(context, model=quantised(context.model, bits))
            samples = generation.draw(rounded, start, count)
            drawn |= {f"x_int{bits}": samples["x"], "nfe": drawn["nfe"] + samples["nfe"]}
        return drawn

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """The rows of ``drawing``, of the model and of each copy."""
        names = {"full precision": "x"} | {f"{b} bits": f"x_int{b}" for b in self.options.bits}
        rows = dict[str, Tensor]()
        for label, name in names.items():
            pictures = self.generation.preview(context, {**artifact, "x": artifact[name]})
            rows |= {f"{label}: {caption}": images for caption, images in pictures.items()}
        return rows


class QuantisedGenerationOptions(BitsOptions, GenerationOptions):
    """Bits, sampler and number of samples."""

    batch_size: int = Field(250, ge=1, description="items drawn at once and stored together")
    count: int = Field(1_000, ge=1, description="number of samples of the model and of each copy")
    sampler: str = Field(SAMPLER, description="name of a sampler")
    nfe: int = Field(NFE, ge=1, description="most network evaluations a sample")


class QuantisedGeneration(QuantisedTask[QuantisedGenerationOptions]):
    """Unconditional samples of the model and of copies with weights of 8 and of 4 bits.

    Weights are rounded to nearest, symmetrically and per output channel (``quantised``). They are
    the first samples of ``generation`` under the same sampler.
    """

    name = "quantised_generation"
    citation = "Zhang et al. 2025, arXiv:2410.16454"
    drawing = Generation
    track = "unconditional"
    presets = {"quick": {"tasks": {"quantised_generation": {"count": 500}}}}


class QuantisedClassGenerationOptions(BitsOptions, ClassGenerationOptions):
    """Bits, sampler, guidance and numbers of samples."""

    batch_size: int = Field(250, ge=1, description="items drawn at once and stored together")
    per_class: int = Field(50, ge=1, description="number of samples of a class")
    per_forget_class: int | None = Field(
        500,
        ge=1,
        description="number of samples of a class to forget; empty: as many as of the others",
    )
    guidance: float = Field(0.0, ge=0, description="w of (1 + w) eps(x, t, c) - w eps(x, t, null)")
    sampler: str = Field(SAMPLER, description="name of a sampler")
    nfe: int = Field(
        NFE, ge=1, description="most evaluations of eps_hat a sample; two passes with guidance"
    )


class QuantisedClassGeneration(QuantisedTask[QuantisedClassGenerationOptions]):
    """Samples of every class, of the model and of copies with weights of 8 and of 4 bits.

    As ``quantised_generation``; the noise is that of ``class_generation``.
    """

    name = "quantised_class_generation"
    citation = QuantisedGeneration.citation
    drawing = ClassGeneration
    track = "class"
    presets = {
        "quick": {
            "tasks": {"quantised_class_generation": {"per_class": 25, "per_forget_class": 250}}
        }
    }


def quantised(model: Model, bits: int) -> Model:
    """A copy of ``model`` whose weights have ``bits`` bits; the model itself stays as it is.

    All parameters of two dimensions or more are rounded (``rounded_to_nearest``); biases and the
    scales of norms stay.
    """
    shared = {id(part): part for part in (model.process, model.codec)}
    rounded = copy.deepcopy(model, shared)
    with torch.no_grad():
        for parameter in rounded.network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(rounded_to_nearest(parameter, bits))
    return rounded


def rounded_to_nearest(w: Tensor, bits: int) -> Tensor:
    """s_c round(w_c / s_c) with s_c = max |w_c| / (2^(bits - 1) - 1) of each output channel c.

    Args:
        w: Weights ``[C, ...]``.
        bits: Bits of a weight, at least 2.

    Source: Zhang et al. 2025, arXiv:2410.16454 (round to nearest), without a zero point.
    """
    largest = w.flatten(1).abs().amax(dim=1).reshape(-1, *[1] * (w.ndim - 1))
    scale = largest / (2 ** (bits - 1) - 1)
    return torch.where(scale > 0, scale * torch.round(w / scale), w)


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Both tracks."""
    return [QuantisedGeneration, QuantisedClassGeneration]
