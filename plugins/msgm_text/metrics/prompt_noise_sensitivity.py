"""UA of prompts against the sampler."""

from __future__ import annotations

from collections.abc import Sequence

from msgm_bench import Metric, MetricColumn, hookimpl
from msgm_builtin.metrics.noise_sensitivity import NoiseSensitivity


class PromptNoiseSensitivity(NoiseSensitivity):
    """The smallest UA of prompts for D_f among all samplers, budgets, guidance weights and noises.

    Rows and rules are those of ``noise_sensitivity``; an image shows its prompt's concept where
    the judge recognises it and sees the concept.
    """

    name = "prompt_noise_sensitivity"
    tasks = ("prompt_noise_sensitivity",)
    columns = (
        MetricColumn(
            metric="ua_worst",
            label="UA, worst sampler",
            digits=1,
            direction="up",
            track="text",
            position=70,
        ),
        MetricColumn(
            metric="ua_fall", label="fall", digits=1, direction="down", track="text", position=71
        ),
    )
    protocols = ("prompt_noise_sensitivity/",)


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """Noise sensitivity of text-to-image models."""
    return [PromptNoiseSensitivity]
