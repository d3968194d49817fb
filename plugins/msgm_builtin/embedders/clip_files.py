"""CLIP models through open_clip, from files on this machine only."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from msgm_bench import IncompatibleError, Options, StorageError
from msgm_bench.storage import error_summary, parse_json, read_bytes, single_line
from msgm_bench.storage.cards import CARD_LIMIT, parse_card
from msgm_bench.storage.weights import boundary
from msgm_builtin.embedders.clip_card import ClipCard, build
from msgm_builtin.weights_files import (
    ANYWHERE,
    SEARCHED,
    ExistingPath,
    checksum_mismatch,
    find_weights,
    read_state,
    sha256,
    skeleton,
)

CARD = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # open_clip's order
HINT = "a weights file needs open_clip's name of its network: model=NAME"
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
)


class ClipOptions(Options):
    """The model, and the place of its files."""

    repo: str = Field(
        "timm/vit_base_patch32_clip_224.openai",
        description="repository of the Hugging Face hub, read from the hub's cache; a folder "
        f"with the last part of its name may also lie in {SEARCHED}",
    )
    path: ExistingPath = Field(
        None,
        exclude=True,
        description=f"folder with {CARD} and weights, or a weights file of `model`",
    )
    model: str = Field(
        "ViT-B-32-quickgelu", description="open_clip's name of the network of a weights file"
    )


def files(c: ClipOptions) -> list[Path]:
    """Card and weights, or weights alone; empty where they are missing."""
    place = find_weights(c.repo.rpartition("/")[2], c.path)
    if place is None and c.path is None:
        cached = try_to_load_from_cache(c.repo, CARD)
        place = Path(cached).parent if isinstance(cached, str) else None
    if place is None or place.is_file():
        return [] if place is None else [place]
    weights = [place / name for name in WEIGHTS if (place / name).is_file()]
    return [place / CARD, weights[0]] if weights and (place / CARD).is_file() else []


def boundary_of(c: ClipOptions) -> Path:
    """The folder that the files may not leave: the one that the user names.

    Files in the user's own data folder may be links to any place.
    """
    folder = Path(c.path).expanduser() if c.path else None
    return boundary(folder) if folder is not None and folder.is_dir() else ANYWHERE


def missing_weights(c: ClipOptions) -> str | None:
    """Reason why the model cannot be read and how to get it, or None."""
    if paths := files(c):
        return checksum_mismatch(paths[-1])
    return (
        f"the CLIP model {c.path or c.repo} is not on this machine: run "
        f"`hf download {c.repo}`, or put {CARD} and the weights into a folder "
        f"{c.repo.rpartition('/')[2]} in {SEARCHED}"
    )


def checksum(c: ClipOptions) -> str:
    """SHA-256 over the checksums of the files; empty where they are missing."""
    sums = "".join(sha256(file) for file in files(c))
    return hashlib.sha256(sums.encode()).hexdigest() if sums else ""


@dataclass(frozen=True)
class Clip:
    """A model in evaluation mode, with what it takes to show it images.

    Attributes:
        network: open_clip's model.
        size: Height and width of its images.
        mean: Of each channel, ``[3, 1, 1]``.
        std: Deviation of each channel, ``[3, 1, 1]``.
        context_length: Of its texts in tokens; None where its tokenizer is not open_clip's own.
    """

    network: Any
    size: tuple[int, int]
    mean: Tensor
    std: Tensor
    context_length: int | None

    @torch.no_grad()
    def image_features(self, x: Tensor) -> Tensor:
        """Embeddings ``[N, E]``, not normalised, of [0, 1] images ``[N, C, H, W]``."""
        x = x.float().expand(-1, 3, -1, -1) if x.shape[1] == 1 else x.float()
        if x.shape[2:] != self.size:
            x = F.interpolate(x, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        embedded: Tensor = self.network.encode_image((x - self.mean) / self.std)
        return embedded


def load(c: ClipOptions, device: torch.device) -> Clip:
    """Read the weights.

    Raises:
        StorageError: The weights are missing, damaged or of another network.
        IncompatibleError: The card has a field that is not supported.
    """
    reason = missing_weights(c)
    if reason is not None:
        raise StorageError(reason)
    return _load(tuple(files(c)), c.model, boundary_of(c), checksum(c), device)


@functools.lru_cache(maxsize=2)
def _load(
    paths: tuple[Path, ...], model: str, inside: Path, checksum: str, device: torch.device
) -> Clip:
    """The model in ``paths``; ``checksum`` is part of the key of the cache."""
    *cards, weights = paths
    if cards:
        card, sums = read_clip_card(cards[0], inside)
        own = True
    else:
        (card, own), sums = builtin_card(model), []
    try:
        empty = skeleton(lambda: build(card.model_cfg))
        state, sha256 = read_state(
            weights, inside, empty, lambda content: converted(content, empty), weights.name
        )
        network = build(card.model_cfg)
        network.load_state_dict(state, strict=True)
    except IncompatibleError as error:
        raise StorageError(f"{weights.name} is no CLIP model: {error.what}", hint=HINT) from error
    except FAILURES as error:
        raise StorageError(
            f"{weights.name} is no CLIP model: {error_summary(error)}", hint=HINT
        ) from error
    if hashlib.sha256("".join([*sums, sha256]).encode()).hexdigest() != checksum:
        raise StorageError(
            f"{weights.parent} has changed since the run began", hint="repeat the command"
        )
    network.to(device).eval().requires_grad_(False)
    size = getattr(network.visual, "image_size", card.model_cfg.vision_cfg.image_size)
    size = (size, size) if isinstance(size, int) else tuple(size)
    normal = card.preprocess_cfg
    mean, std = (
        torch.tensor(values, device=device).reshape(3, 1, 1) for values in (normal.mean, normal.std)
    )
    context = card.model_cfg.text_cfg.context_length if own else None
    return Clip(network, size, mean, std, context)


def read_clip_card(path: Path, inside: Path) -> tuple[ClipCard, list[str]]:
    """The card, and the SHA-256 of its bytes.

    Raises:
        StorageError: The card cannot be read.
        IncompatibleError: The card has a field that is not supported.
    """
    content, name = read_bytes(path, inside, CARD_LIMIT), single_line(path)
    values = parse_json(content.decode("utf-8-sig", "replace"), name)
    if not isinstance(values, dict):
        raise StorageError(f"{name} is no card of open_clip", "a JSON object")
    return parse_card(values, ClipCard, name), [hashlib.sha256(content).hexdigest()]


def builtin_card(model: str) -> tuple[ClipCard, bool]:
    """open_clip's own card of a network, and whether its tokenizer is open_clip's own, too.

    Raises:
        StorageError: open_clip has no network of this name.
    """
    import open_clip

    config = open_clip.get_model_config(model)
    if config is None:
        raise StorageError(f"open_clip has no network {model!r}", hint=HINT)
    text = config.get("text_cfg", {})
    external = [key for key in text if key.startswith(("hf_tokenizer", "tokenizer_"))]
    own = not external and "siglip" not in model.lower()
    config = config | {"text_cfg": {k: v for k, v in text.items() if k not in external}}
    return parse_card({"model_cfg": config}, ClipCard, f"open_clip's network {model!r}"), own


def converted(state: Any, network: nn.Module) -> dict[str, Tensor]:
    """The state under today's names, as open_clip converts older ones.

    Raises:
        IncompatibleError: ``state`` is not a mapping of names to tensors.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise IncompatibleError("the file does not hold names and tensors alone")
    named = {str(key).removeprefix("module."): value for key, value in state.items()}
    weights: dict[str, Tensor] = convert_state_dict(network, named)
    if "positional_embedding" in weights and not hasattr(network, "positional_embedding"):
        weights = convert_to_custom_text_state_dict(weights)
    for key in ("logit_scale", "logit_bias"):
        own = getattr(network, key, None)
        if key in weights and own is not None and weights[key].numel() == own.numel():
            weights[key] = weights[key].reshape(own.shape)
    return dict(weights)


def tokenizer(clip: Clip) -> Any:
    """open_clip's own tokenizer.

    Raises:
        StorageError: The model has another tokenizer.
    """
    from open_clip import SimpleTokenizer

    if clip.context_length is None:
        raise StorageError(
            "the tokenizer of this CLIP model is not open_clip's own",
            f"a folder with {CARD} and weights, or a network with open_clip's tokenizer",
        )
    return SimpleTokenizer(context_length=clip.context_length)
