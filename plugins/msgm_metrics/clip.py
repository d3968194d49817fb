"""Image features of CLIP, through open_clip and from local files only."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import Config, Embedder, Judge, StorageError, hookimpl
from msgm_metrics.weights import WHERE, damage, find, sha256

CARD = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # open_clip's order
FAILURES = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    AssertionError,  # open_clip's own, of shapes
    pickle.UnpicklingError,
    SafetensorError,
)


class CLIP(Embedder):
    """CLIP's image embedding, not normalised.

    Images are resized (bicubic, antialiased, clamped to [0, 1]) to the model's size and
    normalised with its mean and deviation; grey ones are repeated in three channels. Nothing is
    rounded to eight bits.
    """

    name = "clip"
    citation = "Radford et al. 2021, arXiv:2103.00020; open_clip"

    class Config(Config):
        """Which model."""

        repo: str = Field(
            "timm/vit_base_patch32_clip_224.openai",
            description="repository of the Hugging Face hub, looked for in its cache; a folder "
            f"with the last part of its name may also lie in {WHERE}",
        )
        path: str | None = Field(
            None, description=f"folder with {CARD} and weights, or a weights file of `model`"
        )
        model: str = Field(
            "ViT-B-32-quickgelu", description="open_clip's name of the network of a weights file"
        )

    def missing(self, judge: Judge) -> str | None:
        """The files may not be there."""
        files = self._files()
        if files:
            return damage(files[-1])
        return (
            f"the CLIP model {self.config.path or self.config.repo} is not there: run "
            f"`hf download {self.config.repo}`, or put {CARD} and the weights into a folder "
            f"{self.config.repo.rpartition('/')[2]} in {WHERE}"
        )

    def checksum(self) -> str:
        """SHA-256 over those of the files."""
        sums = "".join(sha256(file) for file in self._files())
        return hashlib.sha256(sums.encode()).hexdigest() if sums else ""

    def protocol(self) -> dict[str, Any]:
        """The model's name, and the start of the checksum where another was given."""
        given = {"weights": self.checksum()[:8]} if self.config.path else {}
        return {"name": self.name, "model": self.config.repo, **given}

    def load(self, judge: Judge, device: torch.device) -> None:
        """Read the weights.

        Raises:
            StorageError: They are not there, not readable or of another network.
        """
        import open_clip  # takes seconds

        files, missing = self._files(), self.missing(judge)
        if missing is not None:
            raise StorageError(missing)
        whole = len(files) == 2  # a card and the weights
        source = f"local-dir:{files[0].parent}" if whole else self.config.model
        weights = None if whole else str(files[0])
        try:
            self.network = open_clip.create_model(source, pretrained=weights, device=device).eval()
        except FAILURES as error:
            first = str(error).partition("\n")[0]
            raise StorageError(f"{files[-1].name} is no CLIP model: {first}") from error
        told = open_clip.get_model_preprocess_cfg(self.network)
        size = told["size"]
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.mean = torch.tensor(told["mean"], device=device).reshape(3, 1, 1)
        self.std = torch.tensor(told["std"], device=device).reshape(3, 1, 1)

    @torch.no_grad()
    def embed(self, x: Tensor) -> Tensor:
        """Embeddings ``[N, E]``."""
        x = x.float().expand(-1, 3, -1, -1) if x.shape[1] == 1 else x.float()
        if x.shape[2:] != self.size:
            x = F.interpolate(x, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        embedded: Tensor = self.network.encode_image((x - self.mean) / self.std)
        return embedded

    def _files(self) -> list[Path]:
        """Card and weights, or weights alone; empty where they are not there."""
        c = self.config
        place = find(c.repo.rpartition("/")[2], c.path)
        if place is None and c.path is None:
            cached = try_to_load_from_cache(c.repo, CARD)
            place = Path(cached).parent if isinstance(cached, str) else None
        if place is None or place.is_file():
            return [] if place is None else [place]
        weights = [place / name for name in WEIGHTS if (place / name).is_file()]
        return [place / CARD, weights[0]] if weights and (place / CARD).is_file() else []


@hookimpl
def register_embedders() -> Sequence[type[Embedder]]:
    """CLIP."""
    return [CLIP]
