"""Image features of CLIP, through open_clip and from local files only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from msgm_bench import Embedder, Judge, hookimpl
from msgm_builtin.embedders import clip_files


class CLIP(Embedder[clip_files.ClipOptions]):
    """CLIP's image embedding, not normalised.

    Images are resized (bicubic, antialiased, clamped to [0, 1]) to the model's size and
    normalised with its mean and deviation; grey ones are repeated in three channels. Nothing is
    rounded to eight bits.
    """

    name = "clip"
    citation = "Radford et al. 2021, arXiv:2103.00020; open_clip"

    def missing_weights(self, judge: Judge) -> str | None:
        """Reason why the files cannot be read, or None."""
        return clip_files.missing_weights(self.options)

    def checksum(self) -> str:
        """SHA-256 over the checksums of the files."""
        return clip_files.checksum(self.options)

    def protocol(self) -> dict[str, Any]:
        """The model's name, and the start of the checksum of weights that the user names."""
        weights = {"weights": self.checksum()[:8]} if self.options.path else {}
        return {"name": self.name, "model": self.options.repo, **weights}

    def load(self, judge: Judge, device: torch.device) -> None:
        """Read the weights.

        Raises:
            StorageError: The weights are missing, damaged or of another network.
        """
        self.clip = clip_files.load(self.options, device)

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings ``[N, E]``."""
        return self.clip.image_features(x)


@hookimpl
def register_embedders() -> Sequence[type[Embedder]]:
    """CLIP."""
    return [CLIP]
