"""``model.json`` and its weights: what a trained model is, stored and loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

import torch
from pydantic import Field

from msgm_bench.api import Backbone, DataStats, Method, Model
from msgm_bench.errors import IncompatibleError, MsgmBenchError, UsageError
from msgm_bench.experiment.stored_result import rerun_hint
from msgm_bench.registry import registry
from msgm_bench.storage import read_json, single_line, write_text
from msgm_bench.storage.cards import CARD_LIMIT, Card, parse_card, short
from msgm_bench.storage.tensors import open_tensors, save_tensors
from msgm_bench.storage.weights import check_finite, check_network

WEIGHTS, CARD = "weights.safetensors", "model.json"
FORMAT = "msgm-bench/model@3"
LAYOUT = f"a run folder with model/ in it, or that folder: {CARD} and {WEIGHTS}"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
Text = Annotated[str, Field(max_length=2_000)]
Number = Annotated[float, Field(ge=0, le=1e12)]


@dataclass(frozen=True)
class Limits:
    """What a model can do, stored with it, so that whoever evaluates it asks for no more.

    Attributes:
        maker: The method that made the model; empty where it limits nothing.
        unsupported_tasks: Tasks that the model can no longer do, and why.
        required_task_options: Options of tasks that it needs, over those of presets and user.
    """

    maker: str = ""
    unsupported_tasks: Mapping[str, str] = field(default_factory=dict)
    required_task_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, method: Method) -> Self:
        """Limits of the models that ``method`` makes."""
        return cls(
            method.name, dict(method.unsupported_tasks), dict(method.required_task_options())
        )

    @classmethod
    def of_card(cls, card: ModelCard) -> Self:
        """Limits that a model's card names; none where it names none."""
        return cls(**card.limits.model_dump())

    def record(self) -> dict[str, Any]:
        """A JSON-ready copy; empty where the model is not limited."""
        if not self.unsupported_tasks and not self.required_task_options:
            return {}
        return asdict(self)


class DataCard(Card):
    """``DataStats`` on a card."""

    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(max_length=4)]
    levels: Annotated[int, Field(ge=2, le=65_536)] | None
    nll_offset: Annotated[float, Field(ge=-1e6, le=1e6)]
    std: Number
    max_distance: Number
    classes: Annotated[int, Field(ge=1, le=1_000_000)] | None
    prompts: Annotated[tuple[Text, ...], Field(max_length=1_000_000)] | None = None
    words: Annotated[tuple[Text, ...], Field(max_length=100_000)] = ()

    def stats(self) -> DataStats:
        """The statistics that a backbone may know."""
        return DataStats(**self.model_dump())


class LimitsCard(Card):
    """``Limits`` on a card; empty where the model is not limited."""

    maker: Text = ""
    unsupported_tasks: dict[str, Text] = {}
    required_task_options: dict[str, dict[str, Any]] = {}


class ModelCard(Card):
    """``model.json``.

    Attributes:
        backbone: Name of the backbone.
        options: Its options.
        data: What it knew of the data.
        process: The process that it was trained on (``Process.spec``).
        network: What the weights mean beside names and shapes (``Backbone.describe``).
        limits: What the model cannot do.
    """

    format: Literal["msgm-bench/model@3"]
    backbone: Name
    options: dict[str, Any]
    data: DataCard
    process: dict[str, Any]
    network: dict[str, Any]
    limits: LimitsCard

    def create(self) -> Backbone:
        """The backbone with its options.

        Raises:
            UsageError: No such backbone is installed, or an option is out of range.
        """
        return cast(Backbone, registry().create("backbones", self.backbone, self.options))

    def stats(self) -> DataStats:
        """The statistics of the data that the backbone knew."""
        return self.data.stats()


def save_model(
    folder: Path,
    model: Model,
    backbone: Backbone,
    stats: DataStats,
    limits: Limits = Limits(),
) -> None:
    """Write weights and card."""
    save_tensors(folder / WEIGHTS, model.network.state_dict())
    card = {
        "format": FORMAT,
        "backbone": backbone.name,
        "options": backbone.options.model_dump(mode="json"),
        "data": stats.record(),
        "process": model.process.spec(),
        "network": dict(backbone.describe(model)),
        "limits": limits.record(),
    }
    write_text(folder / CARD, json.dumps(card, indent=1, sort_keys=True) + "\n")


def model_folder(path: Path) -> Path:
    """The folder with the model: ``path`` itself, or ``model/`` of a run folder."""
    inner = path / "model"
    return inner if not (path / CARD).is_file() and (inner / CARD).is_file() else path


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder.

    Raises:
        UsageError: The folder is none of ours, or its card is of another format or out of bounds.
    """
    name = single_line(folder)
    try:
        card: Any = read_json(folder / CARD, limit=CARD_LIMIT)
    except MsgmBenchError as error:
        raise UsageError(f"{name} holds no readable {CARD}: {error.what}", LAYOUT) from error
    tag = card.get("format") if isinstance(card, dict) else card
    if tag != FORMAT:
        raise UsageError(
            f"{name} has the format {short(tag)}",
            FORMAT,
            f"cards of other formats are not read: {rerun_hint(folder.parent)}",
        )
    return parse_card(card, ModelCard, single_line(folder / CARD))


def check_model(folder: Path, stats: DataStats) -> None:
    """Load a model of another run once, before anything is drawn from it.

    Raises:
        MsgmBenchError: As ``load_model``.
        IncompatibleError: Its items or its classes are not those of the dataset.
        StorageError: Its weights are not finite.
    """
    own = read_card(folder).stats()
    if (own.shape, own.levels) != (stats.shape, stats.levels):
        raise IncompatibleError(
            f"the model in {folder} makes items of shape {own.shape} with {own.levels} levels",
            f"shape {stats.shape} with {stats.levels} levels, as the dataset has",
        )
    if own.classes != stats.classes:
        raise IncompatibleError(
            f"the model in {folder} {_condition(own.classes)}, and the run needs one that "
            f"{_condition(stats.classes)}",
            "the track that the model was trained for, on data with the same classes",
            "set `conditional` as it was in the model's training, or choose its dataset",
        )
    model = load_model(folder, torch.device("cpu"))
    check_finite(single_line(folder / WEIGHTS), model.network.state_dict())


def _condition(classes: int | None) -> str:
    return "takes no class" if classes is None else f"takes one of {classes} classes"


def load_model(folder: Path, device: torch.device) -> Model:
    """A model in evaluation mode.

    Raises:
        UsageError: The folder or its backbone is unknown.
        StorageError: The weights are damaged.
        IncompatibleError: The weights do not fit the network that the card describes, or mean
            something else to the backbone that is installed.
    """
    return load_hashed_model(folder, device, digest=False)[0]


def load_hashed_model(folder: Path, device: torch.device, digest: bool = True) -> tuple[Model, str]:
    """A model in evaluation mode, and the SHA-256 of the bytes of its weights (with ``digest``).

    Raises:
        MsgmBenchError: As ``load_model``.
    """
    card = read_card(folder)
    backbone, stats = card.create(), card.stats()
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
    return model.to(device).eval(), sha256


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
