"""Noise sensitivity: samples by many samplers, budgets, guidance weights and scales of noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from msgm_bench import (
    Artifact,
    Conditioned,
    Cost,
    CountOptions,
    Model,
    ModelContext,
    Noise,
    Task,
    derive_seed,
    hookimpl,
)
from msgm_builtin.tasks.skip_reasons import skip_other_tracks, track_of

PREVIEW_IMAGES = 10  # of each setting in a picture
MOST = 16  # values of each option


@dataclass(frozen=True)
class SamplerSetting:
    """How samples are drawn.

    Attributes:
        sampler: Name of the sampler.
        nfe: Most evaluations of eps_hat a sample.
        guidance: w, or None of a model without a condition.
        noise_scale: Standard deviation of x_T in units of the prior's.
        options: Further options of the sampler.
    """

    sampler: str
    nfe: int
    guidance: float | None = None
    noise_scale: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``SAMPLER:NFE``, with a condition ``SAMPLER:NFE:wW``, and ``:noiseS`` of scaled noise."""
        guidance = "" if self.guidance is None else f":w{self.guidance:g}"
        noise = "" if self.noise_scale == 1 else f":noise{self.noise_scale:g}"
        return f"{self.sampler}:{self.nfe}{guidance}{noise}"

    @property
    def passes(self) -> int:
        """Passes through the network that an evaluation takes."""
        return 2 if self.guidance else 1

    @property
    def choice(self) -> tuple[str, dict[str, Any]]:
        """The sampler with its options."""
        return self.sampler, {"nfe": self.nfe, **self.options}


class NoiseSensitivityOptions(CountOptions):
    """The default setting, and what it is compared with."""

    count: int = Field(1_000, ge=1, description="number of samples of each setting")
    sampler: str = Field("dpmpp_2m_sde", description="sampler of the default setting")
    nfe: int = Field(32, ge=1, description="most evaluations of eps_hat a sample there")
    sampler_options: Mapping[str, Any] = Field({}, description="further options of that sampler")
    guidance: float = Field(
        2.0,
        ge=0,
        description="w of (1 + w) eps(x, t, c) - w eps(x, t, null) there, of models with a "
        "condition",
    )
    samplers: tuple[str, ...] = Field(
        ("dpmpp_2m_sde", "ancestral", "deis", "heun"),
        max_length=MOST,
        description="samplers that are tried with each of `budgets`",
    )
    budgets: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (8, 16, 32, 100), max_length=MOST, description="budgets of evaluations of `samplers`"
    )
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (0.0, 1.0, 3.0),
        max_length=MOST,
        description="w that are tried with the default sampler, of models with a condition",
    )
    noise_scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.9, 1.1),
        max_length=MOST,
        description="standard deviations of x_T, in units of the prior's, that are tried with "
        "`noise_sampler`",
    )
    noise_sampler: str = Field(
        "deis",
        description="sampler of `noise_scales`, with the default budget; on its way a stochastic "
        "one forgets them",
    )

    @model_validator(mode="after")
    def _has_settings(self) -> NoiseSensitivityOptions:
        """Refuse a default setting with nothing to compare it with."""
        if not ((self.samplers and self.budgets) or self.weights or self.noise_scales):
            raise ValueError("samplers and budgets, weights or noise_scales: one setting at least")
        return self


class NoiseSensitivity(Task[NoiseSensitivityOptions]):
    """Samples by many samplers and budgets, to see whether one of them undoes the forgetting.

    The settings are the default one, then every sampler with every budget at its guidance, then
    other guidance, then x_T ~ N(0, s^2 sigma_prior^2 I) by a sampler that carries it to the end.
    Of class-conditional models the samples are of the classes to forget, in turn. Sample j of each
    setting begins with the same noise, which all methods of a board share.

    Attributes:
        has_prompts: Whether it draws images of prompts.
    """

    name = "noise_sensitivity"
    citation = "Sharma et al. 2024, arXiv:2409.05668 (by guidance); the other settings are ours"
    on_request = True
    has_prompts: ClassVar[bool] = False
    presets = {"quick": {"tasks": {"noise_sensitivity": {"guidance": 0.0}}}}

    def skip(self, model: Model) -> str | None:
        """Skip text-to-image models, and models that no other setting is for."""
        track = track_of(model)
        reason = skip_other_tracks(self.name, model, "class" if track == "text" else track)
        if reason is None and len(self.settings(model)) < 2:
            reason = f"{self.name} has one setting, {self.settings(model)[0].label}, and no other"
        return reason

    def uses(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The default sampler, and those that it is compared with."""
        default, *others = distinct([*self.default_and_grid(None), *self.scaled(None)])
        return {"samplers": default.choice} | {
            f"samplers:{setting.label}": setting.choice for setting in others
        }

    def cost(self, model: Model) -> Cost:
        """The mean over the settings, twice with guidance."""
        settings = self.settings(model)
        passes = sum(setting.nfe * setting.passes for setting in settings)
        return Cost(math.ceil(passes / len(settings)), assumed=f"mean of {len(settings)} settings")

    def default_and_grid(self, guidance: float | None) -> list[SamplerSetting]:
        """The default setting, and every sampler with every budget."""
        c = self.options
        default = SamplerSetting(c.sampler, c.nfe, guidance, options=c.sampler_options)
        grid = [SamplerSetting(name, nfe, guidance) for name in c.samplers for nfe in c.budgets]
        return distinct([default, *grid])

    def scaled(self, guidance: float | None) -> list[SamplerSetting]:
        """The settings of scaled noise."""
        c = self.options
        options = c.sampler_options if c.noise_sampler == c.sampler else {}
        return [
            SamplerSetting(c.noise_sampler, c.nfe, guidance, scale, options)
            for scale in c.noise_scales
        ]

    def settings(self, model: Model) -> list[SamplerSetting]:
        """All settings, the default one first; of one label there is one."""
        c, has_condition = self.options, model.conditioning is not None
        w = c.guidance if has_condition else None
        guided = [
            SamplerSetting(c.sampler, c.nfe, weight, 1.0, c.sampler_options)
            for weight in (c.weights if has_condition else ())
        ]
        return distinct([*self.default_and_grid(w), *guided, *self.scaled(w)])

    def total(self, context: ModelContext) -> int:
        """``count`` samples of each setting."""
        return len(self.settings(context.model)) * self.options.count

    def draw(self, context: ModelContext, start: int, count: int) -> dict[str, Tensor]:
        """``x``: samples in model space, one setting after the other; ``setting``: its index.

        ``y``: the classes of a class-conditional model; ``nfe``: network passes of each.
        """
        parts, stop = [], start + count
        while start < stop:
            k, first = divmod(start, self.options.count)
            n = min(self.options.count - first, stop - start)
            parts.append(self._draw_setting(context, k, first, n))
            start += n
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _draw_setting(
        self, context: ModelContext, k: int, first: int, count: int
    ) -> dict[str, Tensor]:
        """Samples ``first .. first+count-1`` of setting k."""
        setting, process = self.settings(context.model)[k], context.model.process
        noise = Noise(derive_seed(context.seed, self.name), first, count, context.device)
        x_T = None
        if setting.noise_scale != 1:
            prior = process.prior_sampling(context.model.shape, noise)
            x_T = setting.noise_scale * prior, process.T
        model, labels = self.conditioned(context, setting.guidance, first, count)
        samples = context.create("samplers", *setting.choice).sample(model, noise, x_T)
        return labels | {
            "x": samples.x,
            "setting": torch.full((count,), k),
            "nfe": torch.full((count,), samples.nfe * setting.passes),
        }

    def conditioned(
        self, context: ModelContext, guidance: float | None, first: int, count: int
    ) -> tuple[Model, dict[str, Tensor]]:
        """The model for the conditions of samples ``first .. first+count-1``, and their labels."""
        if guidance is None:
            return context.model, {}
        targets = torch.tensor(context.targets)
        y = targets[torch.arange(first, first + count) % len(targets)].to(context.device)
        return Conditioned(context.model, y, guidance), {"y": y}

    def protocol(self, context: ModelContext) -> dict[str, Any]:
        """The options that the model has a use for."""
        settings = super().protocol(context)
        if context.model.conditioning is None:
            del settings["guidance"], settings["weights"]
        return settings

    def preview(self, context: ModelContext, artifact: Artifact) -> dict[str, Tensor]:
        """A row of images for each setting, from the same noise."""
        if len(context.model.shape) != 3:
            return {}
        rows = {}
        for k, setting in enumerate(self.settings(context.model)):
            x = artifact["x"][artifact["setting"] == k][:PREVIEW_IMAGES]
            rows[setting.label] = context.model.codec.decode(x.to(context.device)).cpu()
        return rows


def distinct(settings: Sequence[SamplerSetting]) -> list[SamplerSetting]:
    """The first setting of each label, in their order."""
    first = dict[str, SamplerSetting]()
    for setting in settings:
        first.setdefault(setting.label, setting)
    return [*first.values()]


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Noise sensitivity."""
    return [NoiseSensitivity]
