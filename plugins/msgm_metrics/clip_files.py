"""CLIP models through open_clip, from files on this machine only."""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import Config, StorageError
from msgm_metrics.weights import WHERE, ExistingPath, damage, find, in_short, sha256

CARD = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # open_clip's order
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")
FAILURES = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    IndexError,
    AssertionError,  # open_clip's own, of shapes
    pickle.UnpicklingError,
    SafetensorError,
)


class ClipConfig(Config):
    """Which model."""

    repo: str = Field(
        "timm/vit_base_patch32_clip_224.openai",
        description="repository of the Hugging Face hub, looked for in its cache; a folder "
        f"with the last part of its name may also lie in {WHERE}",
    )
    path: ExistingPath = Field(
        None,
        exclude=True,
        description=f"folder with {CARD} and weights, or a weights file of `model`",
    )
    model: str = Field(
        "ViT-B-32-quickgelu", description="open_clip's name of the network of a weights file"
    )


def files(c: ClipConfig) -> list[Path]:
    """Card and weights, or weights alone; empty where they are not there."""
    place = find(c.repo.rpartition("/")[2], c.path)
    if place is None and c.path is None:
        cached = try_to_load_from_cache(c.repo, CARD)
        place = Path(cached).parent if isinstance(cached, str) else None
    if place is None or place.is_file():
        return [] if place is None else [place]
    weights = [place / name for name in WEIGHTS if (place / name).is_file()]
    return [place / CARD, weights[0]] if weights and (place / CARD).is_file() else []


def missing(c: ClipConfig) -> str | None:
    """Why the model cannot be read, and how to get it; or None."""
    found = files(c)
    if found:
        return damage(found[-1])
    return (
        f"the CLIP model {c.path or c.repo} is not there: run "
        f"`hf download {c.repo}`, or put {CARD} and the weights into a folder "
        f"{c.repo.rpartition('/')[2]} in {WHERE}"
    )


def checksum(c: ClipConfig) -> str:
    """SHA-256 over those of the files; empty where they are not there."""
    sums = "".join(sha256(file) for file in files(c))
    return hashlib.sha256(sums.encode()).hexdigest() if sums else ""


@dataclass(frozen=True)
class Clip:
    """A model in evaluation mode, with what it takes to show it images.

    Attributes:
        source: What open_clip calls it.
        network: open_clip's model.
        size: Height and width of its images.
        mean: Of each channel, ``[3, 1, 1]``.
        std: Deviation of each channel, ``[3, 1, 1]``.
    """

    source: str
    network: Any
    size: tuple[int, int]
    mean: Tensor
    std: Tensor

    @torch.no_grad()
    def image_features(self, x: Tensor) -> Tensor:
        """Embeddings ``[N, E]``, not normalised, of [0, 1] images ``[N, C, H, W]``."""
        x = x.float().expand(-1, 3, -1, -1) if x.shape[1] == 1 else x.float()
        if x.shape[2:] != self.size:
            x = F.interpolate(x, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        embedded: Tensor = self.network.encode_image((x - self.mean) / self.std)
        return embedded


def load(c: ClipConfig, device: torch.device) -> Clip:
    """Read the weights.

    Raises:
        StorageError: They are not there, not readable or of another network.
    """
    import open_clip  # takes seconds

    found, reason = files(c), missing(c)
    if reason is not None:
        raise StorageError(reason)
    whole = len(found) == 2  # a card and the weights
    source = f"local-dir:{found[0].parent}" if whole else c.model
    weights = None if whole else str(found[0])
    network = _network(source, weights, found[-1].name, checksum(c), device)
    told = open_clip.get_model_preprocess_cfg(network)
    size = told["size"]
    mean, std = (torch.tensor(told[k], device=device).reshape(3, 1, 1) for k in ("mean", "std"))
    size = (size, size) if isinstance(size, int) else tuple(size)
    return Clip(source, network, size, mean, std)


@functools.lru_cache(maxsize=2)
def _network(
    source: str, weights: str | None, name: str, checksum: str, device: torch.device
) -> Any:
    """open_clip's model; ``checksum`` tells files apart that follow each other in one place."""
    import open_clip

    try:
        network = open_clip.create_model(source, pretrained=weights, device=device)
        return network.eval().requires_grad_(False)
    except FAILURES as error:
        raise StorageError(
            f"{name} is no CLIP model: {in_short(error)}",
            hint="a weights file needs open_clip's name of its network: model=NAME",
        ) from error


def tokenizer(source: str) -> Any:
    """The model's own tokenizer, open_clip's built-in one unless files beside the weights are it.

    Raises:
        StorageError: It would have to be downloaded, or its files are damaged.
    """
    import open_clip

    folder = Path(source.removeprefix("local-dir:")) if source.startswith("local-dir:") else None
    if folder is None:
        told = open_clip.get_model_config(source) or {}
        foreign = "siglip" in source.lower() or "hf_tokenizer_name" in told.get("text_cfg", {})
    else:
        told = json.loads((folder / CARD).read_text(encoding="utf-8"))["model_cfg"]
        foreign = bool(told.get("text_cfg", {}).get("hf_tokenizer_name"))
    here = folder is not None and any((folder / name).is_file() for name in TOKENIZERS)
    if foreign and not here:
        raise StorageError(
            f"the tokenizer of {source} is not on this machine",
            f"a folder with {CARD}, weights and {' or '.join(TOKENIZERS)}",
        )
    try:
        return open_clip.get_tokenizer(source)
    except FAILURES as error:
        raise StorageError(f"no tokenizer for {source}: {in_short(error)}") from error
