"""Options of every task of the text track that draws images: sampler and budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from msgm_bench import TaskOptions


class SamplingOptions(TaskOptions):
    """Sampler of every image."""

    sampler: str = Field("ddim", description="name of a sampler")
    nfe: int = Field(
        50,
        ge=1,
        description="most evaluations of eps_hat an image; with guidance each costs two passes",
    )
    sampler_options: Mapping[str, Any] = Field({}, description="further options of the sampler")

    @property
    def samplers(self) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The sampler, as ``Task.uses`` names it."""
        return {"samplers": (self.sampler, {"nfe": self.nfe, **self.sampler_options})}
