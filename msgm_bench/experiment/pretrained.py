"""Base checkpoints: models of other runs or programs, known by the hash of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, cast

import torch
from pydantic import Field

from msgm_bench.api import Backbone, DataStats, Method, PretrainedNetwork, Regime, Result
from msgm_bench.errors import IncompatibleError
from msgm_bench.experiment.model_card import (
    CARD,
    WEIGHTS,
    Limits,
    assets_folder,
    is_foreign,
    model_folder,
    read_card,
)
from msgm_bench.experiment.model_io import load_hashed_model, save_model
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.experiment.stored_result import RESULT, read_result
from msgm_bench.registry import registry
from msgm_bench.storage import single_line
from msgm_bench.storage.cards import Card, short
from msgm_bench.storage.cards import read_card as read_schema
from msgm_bench.storage.weights import check_finite, check_network

ORIGIN = "origin.json"
Name = Annotated[str, Field(max_length=1_000)]


class Origin(Card):
    """``origin.json``: which classes of which data a model was made without."""

    dataset: Name
    without: Annotated[tuple[Name, ...], Field(max_length=100_000)]

    @classmethod
    def of(cls, result: Result) -> Self:
        """The origin of the model of a run."""
        without = tuple(result.spec.forget) if is_unlearned(result) else ()
        return cls(dataset=result.spec.dataset, without=without)


@dataclass(frozen=True)
class BaseCheckpoint:
    """The base model that a request names.

    Attributes:
        source: Folder or name on a hub, as the request has it.
        sha256: Hash of its weights' file, by which results and stages know it.
        remark: What could not be checked.
    """

    source: str
    sha256: str
    remark: str = ""

    def __str__(self) -> str:
        """Source, hash, remark."""
        text = f"{self.source}, sha256 {self.sha256}"
        return f"{text}; {self.remark}" if self.remark else text


def resolve_base(
    spec: RunSpec, backbone: Backbone, stats: DataStats, download: bool, forget: Sequence[str]
) -> tuple[Backbone, BaseCheckpoint | None]:
    """The backbone as the base checkpoint has it, and the checkpoint; as it is without one.

    A model of another program that is to be evaluated is a base, unless it changes one.
    ``forget`` holds the names of D_f's classes as the dataset has them.

    Raises:
        UsageError: The base is not there, or fits neither data, process nor options.
        StorageError: Its files are damaged or cannot be downloaded.
    """
    source = spec.base
    if source is None and spec.model is not None:
        if not is_foreign(Path(spec.model)):
            backbone.assets = assets_folder(Path(spec.model))
            return backbone, None
        source = spec.model
    if source is None:
        return backbone, None
    if spec.model is None:
        check_origin(Path(source).expanduser(), spec.dataset, forget)
    network = load_pretrained(backbone, source, stats, download)
    wanted, actual = backbone.options.model_dump(), network.backbone.options.model_dump()
    for key in spec.backbone_params:
        if wanted[key] != actual[key]:
            raise IncompatibleError(
                f"-b {key}={wanted[key]} beside --base, which brings its own network",
                f"{key} {actual[key]}",
                f"leave out -b {key}",
            )
    return network.backbone, BaseCheckpoint(source, network.sha256, network.remark)


def load_pretrained(
    backbone: Backbone, source: str, stats: DataStats, download: bool
) -> PretrainedNetwork:
    """The network at ``source``: the model of a run, or whatever the backbone reads.

    Raises:
        UsageError: It is not there, or fits neither data nor process.
        StorageError: Its files are damaged or cannot be downloaded.
    """
    folder = model_folder(Path(source).expanduser())
    if (folder / CARD).is_file():
        return load_run_model(backbone, folder, stats)
    return backbone.from_pretrained(source, stats, download)


def store_pretrained(network: PretrainedNetwork, stats: DataStats, folder: Path) -> None:
    """Write a base model as runs store their models."""
    with torch.random.fork_rng(devices=[]):
        model = network.backbone.build(stats)
    model.network.load_state_dict(network.weights, strict=True)
    save_model(folder, model, network.backbone, stats)


def stored_base(source: str, backbone: Backbone, stats: DataStats, folder: Path) -> Path:
    """The folder of a stored base model: that of ``source``, or ``folder``, where it is written.

    Raises:
        UsageError: It is not there, or fits neither data nor process.
        StorageError: Its files are damaged.
    """
    own = model_folder(Path(source).expanduser())
    if (own / CARD).is_file():
        return own
    store_pretrained(load_pretrained(backbone, source, stats, download=False), stats, folder)
    return folder


def load_run_model(backbone: Backbone, folder: Path, stats: DataStats) -> PretrainedNetwork:
    """The network of a run, whose card says what it is.

    Raises:
        IncompatibleError: It is another backbone's, or was trained on other data or another
            process, or only its own sampler draws from it.
    """
    card, name = read_card(folder), single_line(folder)
    if card.backbone != backbone.name:
        raise IncompatibleError(
            f"the base {name} of the backbone {card.backbone!r}",
            f"a base of {backbone.name!r}",
            f"choose --backbone {card.backbone}",
        )
    if Limits.of_card(card).required_task_options:
        raise IncompatibleError(
            f"the base {name}, which only its own sampler draws from", "a base of any sampler"
        )
    stored = card.data.model_dump(mode="json")
    for key, value in stats.record().items():
        if stored[key] != value and key != "prompts":  # any prompts, in the same words
            raise IncompatibleError(
                f"the base {name} was trained on data with {key} = {short(stored[key])}",
                f"{short(value)}, as the dataset has",
                "choose the dataset, its options (-d) and the track that the base was trained on",
            )
    model, sha256 = load_hashed_model(folder, torch.device("cpu"))
    process = model.process.spec()
    if not backbone.needs_base and process != backbone.process(stats).spec():
        raise IncompatibleError(
            f"the base {name} was trained on {short(process, 120)}",
            short(backbone.process(stats).spec(), 120),
            "give the backbone's options (-b) of that training",
        )
    weights = model.network.state_dict()
    if card.part is not None:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            whole = card.create(folder).build(stats).network.state_dict()
        check_network(single_line(folder / WEIGHTS), weights, whole)
    check_finite(single_line(folder / WEIGHTS), weights)
    return PretrainedNetwork(card.create(folder), weights, sha256)


def check_origin(folder: Path, dataset: str, forget: Sequence[str]) -> None:
    """Refuse a model that was made without what is to be forgotten.

    Raises:
        IncompatibleError: It does not know one of the classes.
        StorageError: What says so cannot be read.
    """
    origin = origin_of(folder)
    if origin is None:
        return  # a model of another program, whose training data are unknown
    unknown = [name for name in forget if name in origin.without]
    if unknown and origin.dataset == dataset:
        raise IncompatibleError(
            f"--forget {', '.join(unknown)} with the base {folder}, which was made without it",
            "classes that the base knows",
            "choose another base, or other classes to forget",
        )


def origin_of(folder: Path) -> Origin | None:
    """What a folder says of its model's data: ``origin.json``, or the result of a run.

    Raises:
        StorageError: The file is damaged.
        IncompatibleError: It was not written by msgm-bench.
    """
    if (folder / ORIGIN).exists():
        return read_schema(folder / ORIGIN, Origin)
    run = folder.parent if (folder / CARD).is_file() else folder
    if not (model_folder(folder) / CARD).is_file() or not (run / RESULT).exists():
        return None
    return Origin.of(read_result(run / RESULT))


def is_unlearned(result: Result) -> bool:
    """Whether the model is one that was made without D_f, not a base model that knows it."""
    entries = {entry.cls.name: entry.cls for entry in registry().entries("methods")}
    cls = entries.get(result.spec.method)
    return cls is None or not cast(type[Method], cls).trains_base


def regimes_of(method: Method, spec: RunSpec) -> tuple[Regime, ...]:
    """Regimes of the method, the default first; with a base checkpoint those that start from it.

    Baselines and methods that look at a base in every regime keep all of their regimes.
    """
    unrestricted = method.baseline or "base" in method.needs
    if spec.base is None or unrestricted or "finetune" not in method.regimes:
        return method.regimes
    return ("finetune",)


def reason_to_skip_base(method: Method, spec: RunSpec) -> str | None:
    """Reason to skip ``method`` when a base checkpoint is given, or None."""
    if spec.base is None or method.baseline or "base" in method.needs:
        return None
    if "finetune" in method.regimes:
        return None
    return f"{method.name} trains from fresh weights and does not use --base"
