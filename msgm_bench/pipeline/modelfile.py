"""Models on disk: weights in safetensors, and what it takes to build them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from msgm_bench.api import Backbone, DataInfo, Model
from msgm_bench.errors import IncompatibleError, StorageError, UsageError
from msgm_bench.pipeline.limits import Limits
from msgm_bench.registry import registry
from msgm_bench.storage import atomic, write_text

WEIGHTS, CARD = "weights.safetensors", "model.json"
FORMAT = "msgm-bench/model@1"


def save_model(
    folder: Path,
    model: Model,
    backbone: Backbone,
    info: DataInfo,
    limits: Limits = Limits(),  # noqa: B008 - it is immutable
) -> None:
    """Write weights and card."""
    save_tensors(folder / WEIGHTS, model.network.state_dict())
    card = {
        "format": FORMAT,
        "backbone": backbone.name,
        "options": backbone.config.model_dump(mode="json"),
        "data": info.record(),
        "process": model.process.spec(),
        "limits": limits.record(),
    }
    write_text(folder / CARD, json.dumps(card, indent=1, sort_keys=True) + "\n")


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a model folder.

    Raises:
        UsageError: The folder is none of ours.
    """
    wanted = f"the model/ folder of a run: {CARD} and {WEIGHTS}"
    try:
        card: Any = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} holds no readable {CARD}", wanted) from error
    told = card.get("format") if isinstance(card, dict) else card
    if told != FORMAT:
        raise UsageError(f"{folder} has the format {told!r}", FORMAT)
    missing = {"backbone", "options", "data"} - set(card)
    if missing:
        raise UsageError(f"{folder / CARD} lacks {', '.join(sorted(missing))}", wanted)
    return cast(dict[str, Any], card)


def check_model(folder: Path, info: DataInfo) -> None:
    """Try a model from elsewhere before anything is drawn from it.

    Raises:
        MsgmBenchError: As ``load_model``.
        IncompatibleError: Its items or its classes are not those of the dataset.
    """
    mine = info_of(read_card(folder))
    if (mine.shape, mine.levels) != (info.shape, info.levels):
        raise IncompatibleError(
            f"the model in {folder} makes items of shape {mine.shape} with {mine.levels} levels",
            f"shape {info.shape} with {info.levels} levels, as the dataset has",
        )
    if mine.classes != info.classes:
        raise IncompatibleError(
            f"the model in {folder} {_told(mine.classes)}, where one that {_told(info.classes)} "
            "is asked for",
            "the track that the model was trained for, on data with the same classes",
            "set `conditional` as it was in the model's training, or choose its dataset",
        )
    load_model(folder, torch.device("cpu"))


def _told(classes: int | None) -> str:
    return "is told no class" if classes is None else f"is told one of {classes} classes"


def load_model(folder: Path, device: torch.device) -> Model:
    """A model in evaluation mode.

    Raises:
        UsageError: The folder or its backbone is unknown.
        StorageError: The weights are damaged.
        IncompatibleError: The weights do not fit the network that the card describes.
    """
    card = read_card(folder)
    backbone = cast(Backbone, registry().create("backbones", card["backbone"], card["options"]))
    with torch.random.fork_rng(devices=[]):
        model = backbone.build(info_of(card))
    weights = load_tensors(folder / WEIGHTS)
    try:
        model.network.load_state_dict(weights)
    except RuntimeError as error:
        raise IncompatibleError(f"{folder / WEIGHTS} does not fit: {error}") from error
    return model.to(device).eval()


def info_of(card: Mapping[str, Any]) -> DataInfo:
    """What the model was told of its data."""
    data = dict(card["data"])
    return DataInfo(**data | {"shape": tuple(data["shape"])})


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a safetensors file atomically."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        try:
            save_file(whole, temporary)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Raises:
        StorageError: It is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{path} cannot be read: {error}", hint="the file is missing or damaged"
        ) from error
