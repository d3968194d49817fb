"""Reconstruction of held-out images: to the latent and back, or a little noise and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from msgm_bench import (
    AdamsEncoder,
    Cost,
    CountOptions,
    Encoder,
    HeunEncoder,
    Model,
    ModelContext,
    Noise,
    OptionError,
    Samples,
    Task,
    derive_seed,
    hookimpl,
    reconstruct_latent,
    reconstruct_partial,
)
from msgm_builtin.tasks.restoration import Restoration

LATENT_NFE = {"heun": 400, "adams": 100}  # of an image, encoding and decoding together
PARTIAL_NFE = 20  # a grid of 1000 steps has as many up to t = 0.02


class ReconstructionOptions(CountOptions):
    """Place and size of the perturbation, and the decoder."""

    variant: Literal["latent", "partial"] = Field(
        "latent", description="noise is added to the latent at T, or to the image (partial)"
    )
    t: float = Field(
        0.02, ge=0, le=1, description="time of the perturbation; 0: none (latent only)"
    )
    encoder: Literal["heun", "adams"] = Field(
        "heun",
        description="way to the latent: Heun's steps of two evaluations, or exponential Adams "
        "steps of one, whose images are NaN where the flow is stiff (latent only)",
    )
    sampler: str = Field("heun", description="name of the sampler that decodes")
    nfe: int | None = Field(
        None,
        ge=1,
        description="most network evaluations an image, through the latent half of them each way. "
        "Empty: 400, with encoder=adams 100; partial: 20, or as many as a discrete process has "
        "steps up to t",
    )
    sampler_options: Mapping[str, Any] = Field({}, description="further options of the sampler")


class Reconstruction(Restoration[ReconstructionOptions]):
    """Held-out images, encoded to T and decoded, with noise on the latent or on the image.

    ``variant=latent``, the paper's: x0 is encoded to z at T by the probability-flow ODE, the
    latent is perturbed, z' = a(t) z + sigma(t) eps, and decoded from T by ``sampler``.
    ``variant=partial``: x0 itself is perturbed to x_t and brought back from t by ``sampler``.
    """

    name = "reconstruction"
    citation = "MSGM, arXiv:2412.07229, section 4.3 (reconstruction, t = 0.02), and its code"
    presets = {
        "quick": {"tasks": {"reconstruction": {"count": 500}}},
        "paper": {"tasks": {"reconstruction": {"count": 10_000, "nfe": 1000}}},
    }

    @property
    def is_latent(self) -> bool:
        """Whether the noise is added to the latent."""
        return bool(self.options.variant == "latent")

    @property
    def label(self) -> str:
        """``reconstruction``, and the variant where it is not the paper's."""
        return self.name if self.is_latent else f"{self.name} partial"

    @property
    def version(self) -> int:
        """Of the protocol: 2 for the latent, since version 1 of the name was partial."""
        return 2 if self.is_latent else 1

    @property
    def start(self) -> float:
        """The time at which the sampler starts."""
        return 1.0 if self.is_latent else self.options.t

    @property
    def nfe(self) -> int:
        """Most network evaluations an image."""
        latent = LATENT_NFE[self.options.encoder]
        return int(self.options.nfe or (latent if self.is_latent else PARTIAL_NFE))

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler that decodes."""
        nfe = self.nfe // 2 if self.is_latent else self.nfe
        options = {"nfe": max(nfe, 1), **self.options.sampler_options}
        return {"samplers": (self.options.sampler, options)}

    def with_model_defaults(self, model: Model) -> Self:
        """The task with the budget that the process's grid allows, where the options have none."""
        if self.options.nfe is not None:
            return self
        nfe, points = self.nfe, model.process.grid_points(self.start)
        if not self.is_latent and points is not None:
            nfe = min(nfe, points)
        return type(self)(self.options.model_copy(update={"nfe": nfe}))

    def check(self, model: Model) -> None:
        """Refuse a ``t`` at which samplers stop, and a budget without a step each way.

        Raises:
            OptionError: ``t`` or ``nfe`` is too small.
        """
        if self.is_latent:
            self.encoder()
            return
        if self.options.t <= model.process.t_sampling:
            raise OptionError(
                f"t = {self.options.t:g} for reconstruction",
                f"{model.process.t_sampling:g} < t <= 1",
                "-t reconstruction.t=T",
            )

    def encoder(self) -> Encoder:
        """The encoder to the latent, with half of the budget.

        Raises:
            OptionError: Not one step fits into the budget.
        """
        if self.nfe < 4:
            raise OptionError(
                f"nfe = {self.nfe} for reconstruction", "nfe >= 4", "-t reconstruction.nfe=N"
            )
        is_adams = self.options.encoder == "adams"
        return AdamsEncoder(self.nfe // 2) if is_adams else HeunEncoder(self.nfe // 4)

    def protocol(self, context: ModelContext) -> dict[str, Any]:
        """The options, without the encoder where it is Heun's or there is none."""
        settings = super().protocol(context)
        if settings["encoder"] == "heun" or not self.is_latent:
            del settings["encoder"]
        return settings

    def cost(self, model: Model) -> Cost:
        """The budget."""
        return Cost(self.nfe)

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """``x``: restored images in model space; ``nfe``: network evaluations of each."""
        model, t = context.model, self.options.t
        noise = Noise(derive_seed(context.seed, "reconstruction"), start, count, context.device)
        sampler = context.create("samplers", *self.uses()["samplers"])
        x0 = self.originals(context, start, count)

        def decode(latent: tuple[Tensor, float], noise: Noise) -> Samples:
            samples: Samples = sampler.sample(model, noise, latent)
            return samples

        if self.is_latent:
            eps, process, encode = model.eps_fn, model.process, self.encoder()
            samples = reconstruct_latent(encode, decode, eps, process, x0, t, noise)
        else:
            samples = reconstruct_partial(decode, model.process, x0, t, noise)
        return {"x": samples.x, "nfe": torch.full((count,), samples.nfe)}


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Reconstruction."""
    return [Reconstruction]
