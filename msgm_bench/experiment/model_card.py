"""``model.json``: what the weights beside it are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field

from msgm_bench.api import Backbone, DataStats, Method, Model
from msgm_bench.errors import MsgmBenchError, UsageError
from msgm_bench.experiment.stored_result import rerun_hint
from msgm_bench.registry import registry
from msgm_bench.storage import read_json, single_line
from msgm_bench.storage.cards import CARD_LIMIT, Card, parse_card, short

WEIGHTS, CARD = "weights.safetensors", "model.json"
ASSETS = "assets"  # files that a model needs beside them (Backbone.save_assets)
BASE_FOLDER = "base"  # in the folder of a part: the base model that it belongs to
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
    def of(cls, method: Method, model: Model) -> Self:
        """Limits of the models that ``method`` makes of one like ``model``."""
        required = method.required_task_options(model)
        return cls(method.name, dict(method.unsupported_tasks), dict(required))

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


class PartCard(Card):
    """The part of a model that its weights' file holds; the rest is the base model's.

    Attributes:
        name: The backbone's name of the part, such as ``cross`` or ``lora:4``.
        base: SHA-256 of the file of the base model's weights.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_:.-]*$", max_length=64)]
    base: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelCard(Card):
    """``model.json``.

    Attributes:
        backbone: Name of the backbone.
        options: Its options.
        data: What it knew of the data.
        process: The process that it was trained on (``Process.spec``).
        network: What the weights mean beside names and shapes (``Backbone.describe``).
        limits: What the model cannot do.
        part: The part that was trained, where the weights hold no more; None: they hold all.
    """

    format: Literal["msgm-bench/model@3"]
    backbone: Name
    options: dict[str, Any]
    data: DataCard
    process: dict[str, Any]
    network: dict[str, Any]
    limits: LimitsCard
    part: PartCard | None = None

    def create(self, folder: Path) -> Backbone:
        """The backbone with its options, and its assets in the folder of the model.

        Raises:
            UsageError: No such backbone is installed, or an option is out of range.
        """
        backbone = cast(Backbone, registry().create("backbones", self.backbone, self.options))
        backbone.assets = assets_folder(folder)
        return backbone

    def stats(self) -> DataStats:
        """The statistics of the data that the backbone knew."""
        return self.data.stats()


def model_folder(path: Path) -> Path:
    """The folder with the model: ``path`` itself, or ``model/`` of a run folder."""
    inner = path / "model"
    return inner if not (path / CARD).is_file() and (inner / CARD).is_file() else path


def is_foreign(model: Path) -> bool:
    """Whether a model to evaluate is a file or folder of another program."""
    return model.exists() and not (model / CARD).is_file()


def assets_folder(folder: Path) -> Path | None:
    """The assets of a model: its own, or of a part those of the base beside it; None without."""
    places = (folder / ASSETS, folder / BASE_FOLDER / ASSETS)
    return next((place for place in places if place.is_dir()), None)


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
