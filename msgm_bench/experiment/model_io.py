"""Trained models: weights and card, stored and loaded."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import torch

from msgm_bench.api import Backbone, DataStats, Model
from msgm_bench.errors import IncompatibleError, MsgmBenchError, UsageError
from msgm_bench.experiment.model_card import (
    ASSETS,
    BASE_FOLDER,
    CARD,
    FORMAT,
    LAYOUT,
    WEIGHTS,
    Limits,
    ModelCard,
    PartCard,
    read_card,
)
from msgm_bench.storage import copy_file, single_line, write_text
from msgm_bench.storage.cards import short
from msgm_bench.storage.tensors import open_tensors, save_tensors
from msgm_bench.storage.weights import check_finite, check_network


def save_model(
    folder: Path,
    model: Model,
    backbone: Backbone,
    stats: DataStats,
    limits: Limits | None = None,
    part: PartCard | None = None,
    trained: Collection[str] = (),
) -> None:
    """Write weights, card and assets; of a partial training the ``trained`` ones and buffers."""
    state = model.network.state_dict()
    if part is None:
        backbone.save_assets(folder / ASSETS)
    else:
        frozen = {name for name, _ in model.network.named_parameters()} - set(trained)
        state = {name: tensor for name, tensor in state.items() if name not in frozen}
    save_tensors(folder / WEIGHTS, state)
    card = {
        "format": FORMAT,
        "backbone": backbone.name,
        "options": backbone.options.model_dump(mode="json"),
        "data": stats.record(),
        "process": model.process.spec(),
        "network": dict(backbone.describe(model)),
        "limits": (limits or Limits()).record(),
    }
    if part is not None:
        card["part"] = part.model_dump()
    write_text(folder / CARD, json.dumps(card, indent=1, sort_keys=True) + "\n")


def check_model(folder: Path, stats: DataStats, base: str | None = None) -> None:
    """Load a model of another run once, before anything is drawn from it.

    Where it holds a part and ``base`` names its base model, the cards alone are compared.

    Raises:
        MsgmBenchError: As ``load_model``.
        IncompatibleError: Its items or its classes are not those of the dataset.
        StorageError: Its weights are not finite.
    """
    card = read_card(folder)
    own = card.stats()
    if (own.shape, own.levels) != (stats.shape, stats.levels):
        raise IncompatibleError(
            f"the model in {folder} makes items of shape {own.shape} with {own.levels} levels",
            f"shape {stats.shape} with {stats.levels} levels, as the dataset has",
        )
    if (own.classes, own.prompts is None) != (stats.classes, stats.prompts is None):
        raise IncompatibleError(
            f"the model in {folder} {_condition(own)}, and the run needs one that "
            f"{_condition(stats)}",
            "the track that the model was trained for, on data with the same classes",
            "set `conditional` and `text` as in the model's training, or choose its dataset",
        )
    if card.part is not None and base is not None:
        return
    model = load_model(folder, torch.device("cpu"))
    check_finite(single_line(folder / WEIGHTS), model.network.state_dict())


def _condition(stats: DataStats) -> str:
    if stats.prompts is not None:
        return "takes a prompt"
    return "takes no class" if stats.classes is None else f"takes one of {stats.classes} classes"


def load_model(folder: Path, device: torch.device, base: Path | None = None) -> Model:
    """A model in evaluation mode.

    Args:
        folder: A folder with a model.
        device: Where it is put.
        base: Folder of the base model, for weights that hold a part; by default ``base`` in
            ``folder``.

    Raises:
        UsageError: The folder or its backbone is unknown, or the base model is not there.
        StorageError: The weights are damaged.
        IncompatibleError: The weights do not fit the network that the card describes, or mean
            something else to the backbone that is installed.
    """
    return load_hashed_model(folder, device, base, digest=False)[0]


def load_hashed_model(
    folder: Path, device: torch.device, base: Path | None = None, digest: bool = True
) -> tuple[Model, str]:
    """A model in evaluation mode, and the SHA-256 of the bytes of its weights (with ``digest``).

    Raises:
        MsgmBenchError: As ``load_model``.
    """
    card = read_card(folder)
    if card.part is None:
        model, sha256 = _load_whole(folder, card, digest)
    else:
        model, sha256 = _load_part(folder, card, card.part, base or folder / BASE_FOLDER)
    return model.to(device).eval(), sha256


def _load_part(folder: Path, card: ModelCard, part: PartCard, base: Path) -> tuple[Model, str]:
    """The base model with the part that ``folder`` holds, and the SHA-256 of the part's file."""
    if not (base / CARD).is_file():
        raise UsageError(
            f"{single_line(folder)} holds the part {part.name!r} of a model, and not its base "
            f"{part.base[:12]}",
            f"the base model in {BASE_FOLDER}/ beside it, or as --base",
        )
    model, sha256 = load_hashed_model(base, torch.device("cpu"))
    if sha256 != part.base:
        raise IncompatibleError(
            f"{single_line(folder)} holds the part {part.name!r} of a model of the base "
            f"{part.base[:12]}, and not of {sha256[:12]}",
            "the base model that it was trained from",
        )
    with torch.random.fork_rng(devices=[]):
        add_part(card.create(base), model, part.name)
    own = model.network.state_dict()
    with open_tensors(folder / WEIGHTS) as file:
        wanted = {name: own[name] for name in file.state if name in own}
        check_network(file.name, file.state, wanted)
        state, sha256 = file.read_hashed()
    model.network.load_state_dict(state, strict=False)
    return model, sha256


def copy_model(source: Path, target: Path) -> None:
    """Copy weights, card and assets of a model, without the base beside them.

    Raises:
        StorageError: A file cannot be read or written.
    """
    assets = source / ASSETS
    files = sorted(path for path in assets.rglob("*") if path.is_file())
    for path in (source / WEIGHTS, source / CARD, *files):
        copy_file(path, target / path.relative_to(source))


def weights_hash(folder: Path) -> str:
    """SHA-256 of the weights in the folder of a model."""
    with open_tensors(folder / WEIGHTS) as file:
        _, sha256 = file.read_hashed()
    return sha256


def add_part(backbone: Backbone, model: Model, part: str) -> None:
    """Add the weights of ``part`` to a model that does not have them.

    Raises:
        OptionError: The backbone knows no such part.
    """
    if part != "all" and part not in model.parts:
        backbone.add_adapter(model, part)


def _load_whole(folder: Path, card: ModelCard, digest: bool) -> tuple[Model, str]:
    """The model of which ``folder`` holds all weights, on the CPU."""
    backbone, stats = card.create(folder), card.stats()
    try:
        model = skeleton(backbone, stats)
    except MsgmBenchError:
        raise
    except Exception as error:
        raise IncompatibleError(
            f"{single_line(folder / CARD)}: backbone {backbone.name!r} cannot build such a "
            f"network: {short(str(error), 160)}",
            LAYOUT,
        ) from error
    check_meaning(folder, card, backbone, model)
    with open_tensors(folder / WEIGHTS) as file:
        check_network(file.name, file.state, model.network.state_dict())
        state, sha256 = file.read_hashed() if digest else (file.read(), "")
    with torch.random.fork_rng(devices=[]):
        model = backbone.build(stats)
    model.network.load_state_dict(state, strict=True)
    return model, sha256


def skeleton(backbone: Backbone, stats: DataStats) -> Model:
    """The model without memory for its weights, on torch's ``meta`` device."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = backbone.build(stats)
    return model


def check_meaning(folder: Path, card: ModelCard, backbone: Backbone, model: Model) -> None:
    """Compare process and network of a card with those that the backbone builds of it.

    Raises:
        IncompatibleError: They differ.
    """
    built = {"process": model.process.spec(), "network": backbone.describe(model)}
    for part, values in built.items():
        stored, expected = getattr(card, part), json.loads(json.dumps(dict(values)))
        for key in sorted({*stored, *expected}):
            differs = stored.get(key) != expected.get(key)
            if differs or (key in stored) != (key in expected):
                raise IncompatibleError(
                    f"{single_line(folder / CARD)}: {part} has {single_line(key)} = "
                    f"{short(stored.get(key))}, and the backbone {backbone.name!r} builds "
                    f"{short(expected.get(key))} of its options",
                    "weights of the backbone as it is installed",
                    "repeat the command that trained it",
                )
