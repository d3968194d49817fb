"""UA of images that copies with rounded weights draw of prompts for concepts to forget."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import (
    Artifact,
    Evidence,
    Metric,
    MetricColumn,
    MetricProtocol,
    ModelContext,
    PromptGroup,
    Task,
    hookimpl,
)
from msgm_builtin.metrics.judged import check_lengths
from msgm_builtin.metrics.quantised import QuantisedShares, Shares
from msgm_builtin.tasks.quantised_generation import QuantisedTask
from msgm_text.metrics.judged_images import judge_prompts
from msgm_text.metrics.prompt_metric import RETAINED
from msgm_text.tasks.prompt_sets import book_of

GROUPS: tuple[PromptGroup, ...] = ("target", *RETAINED)


class QuantisedPromptAccuracy(QuantisedShares):
    """UA and retain accuracy of images of quantised copies, beside the model's on the same noise.

    UA is the share of images of prompts for concepts to forget that do not show them (``ua``), the
    retain accuracy that of neighbours' and unrelated prompts that do (``ra``): rows ``ua_int8``,
    ``ua_int8_change``, ``ua_unrecognisable_int8``, ``ra_int8`` and so on for each number of bits,
    and ``ua_unquantised``. A change in points is the copy's share less the model's.
    """

    name = "ua-prompts-quantised"
    citation = "Zhang et al. 2025, arXiv:2410.16454; Zhang et al. 2024, arXiv:2402.11846"
    tasks = ("quantised_prompt_generation",)
    columns = (
        MetricColumn(
            metric="ua_int8",
            label="UA int8",
            digits=1,
            direction="up",
            track="text",
            position=72,
            in_tables=False,
        ),
        MetricColumn(
            metric="ua_int4", label="UA int4", digits=1, direction="up", track="text", position=73
        ),
    )
    protocols = ("quantised_accuracy/prompts",)

    def protocol(self, context: ModelContext, task: Task) -> MetricProtocol:
        """The judge, the prompts, the sampler, the numbers of images and the bits."""
        plain = super().protocol(context, task)
        settings = plain.settings | {"prompts": book_of(context.data).digest}
        return plain.model_copy(update={"settings": settings})

    def evidence(
        self, context: ModelContext, task: Task, artifact: Artifact, full: bool = False
    ) -> dict[str, Tensor]:
        """Which images are searched for a concept to forget; what the judge sees of each model's.

        ``SAMPLES_shows``: whether an image shows the concept that it is searched for.
        """
        assert isinstance(task, QuantisedTask)
        bits: tuple[int, ...] = task.options.bits
        tensors = {"bits": torch.tensor(bits)}
        for name in ("x", *(f"x_int{b}" for b in bits)):
            images = {"x": artifact[name], "prompt": artifact["prompt"]}
            groups = [
                judge_prompts(context, images, g) for g in ("target", "neighbour", "unrelated")
            ]
            sizes = torch.tensor([len(group.prompts) for group in groups])
            tensors["forget"] = torch.arange(int(sizes.sum())) < sizes[0]
            samples = name.replace("x", "samples", 1)
            tensors[f"{samples}_shows"] = torch.cat([group.shows_concept for group in groups])
            tensors[f"{samples}_recognised"] = torch.cat([group.recognised for group in groups])
        return tensors

    @classmethod
    def shares(cls, evidence: Evidence, samples: str) -> Shares:
        """UA, the share of the same images that is not recognised, and the retain accuracy."""
        forget = evidence.mask("forget")
        shows, recognised = (evidence.mask(f"{samples}_{k}") for k in ("shows", "recognised"))
        check_lengths(evidence, forget, shows, recognised)
        return {
            "ua": (~shows[forget], "up"),
            "ua_unrecognisable": (~recognised[forget], "down"),
            "ra": (shows[~forget], "up"),
        }


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """UA of quantised copies of text-to-image models."""
    return [QuantisedPromptAccuracy]
