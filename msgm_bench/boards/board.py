"""``board.yaml``: what a leaderboard shows, and what may stand on it."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from msgm_bench.api.method import Regime
from msgm_bench.api.plugin import Options
from msgm_bench.api.result import Name, Result, Row
from msgm_bench.api.settings import Preset
from msgm_bench.api.track import TextFlag, Track, track_of
from msgm_bench.errors import OptionError, UsageError, did_you_mean
from msgm_bench.storage import read_yaml, single_line
from msgm_bench.storage.validation import allowed_value

BOARD_FILE, RESULTS = "board.yaml", "results"
PAGE_FILE, PROTOCOLS_FILE, PLOT_FILE = "README.md", "protocols.md", "plot.svg"
PANELS_FILE = "panels.svg"
PICTURE_FILE = "picture.png"


def _names(value: Any) -> Any:
    listed = [value] if isinstance(value, str | int) else value
    if not isinstance(listed, list):
        return listed
    return [str(name) if type(name) is int else name for name in listed]


Origin = Literal["tuned", "by hand", "published", "preset"]
ORIGINS: Mapping[Origin, str] = {
    "tuned": "the best of as many trials as each tuned method had, on classes and seeds that are "
    "not ranked",
    "by hand": "chosen by hand on this very task",
    "published": "of the method's paper or code",
    "preset": "of the preset, which nobody chose for this task",
}
ALL = "all"  # methods without an origin of their own, but for the reference and the baseline


def _origins(value: Any) -> Any:
    """``{all: word}`` for a lone word."""
    return {ALL: value} if isinstance(value, str) else value


MOST = 100  # entries of any list: a page that somebody reads
WIDEST = 7  # quantities in the table of a page, beside rank and method

Names = Annotated[list[str], BeforeValidator(_names), Field(min_length=1, max_length=MOST)]
Methods = Annotated[list[Name], BeforeValidator(_names), Field(min_length=1, max_length=MOST)]
Values = dict[str, Any]


class Quantity(Options):
    """One measured quantity."""

    metric: str = Field(description="such as the metric column of a result")
    split: str = Field(description="samples, retain or forget")
    protocol: str | None = Field(None, description="name@version, where a result has several")

    def row(self, result: Result) -> Row | None:
        """The row that it means.

        Raises:
            UsageError: Several rows fit.
        """
        fits = [
            row
            for row in result.metrics
            if (row.metric, row.split) == (self.metric, self.split)
            and self.protocol in (None, row.protocol)
        ]
        if len(fits) > 1:
            raise UsageError(
                f"{self} is measured in several ways",
                ", ".join(sorted(row.protocol for row in fits)),
                "add `protocol:` to the column, the gate and the baseline that mean one of them",
            )
        return fits[0] if fits else None

    @property
    def key(self) -> Quantity:
        """Only what identifies the quantity."""
        return Quantity(metric=self.metric, split=self.split, protocol=self.protocol)

    def __str__(self) -> str:
        """``metric on split``."""
        way = f" by {self.protocol}" if self.protocol else ""
        return f"{self.metric} on {self.split}{way}"


class Column(Quantity):
    """A column of the page."""

    label: str | None = Field(None, description="heading; metric and split where there is none")
    digits: int = Field(2, ge=0, le=6, description="decimals")


class Limit(Quantity):
    """How much worse than the reference a method may be."""

    within: float = Field(ge=0, description="largest loss against the reference, in the unit")


class Gate(Options):
    """Retain quality that a method must have to be ranked."""

    reference: str = Field(description="the method whose quality is the measure")
    limits: list[Limit] = Field(
        min_length=1, max_length=MOST, description="metric, split, protocol and within of each"
    )


class Band(Quantity):
    """Where a baseline's mean must lie."""

    low: float = Field(description="smallest mean allowed")
    high: float = Field(description="largest mean allowed")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Baseline(Options):
    """Bands that show whether the base models are sound at all."""

    method: str = Field(description="the method that stands for the base model")
    bands: list[Band] = Field(
        min_length=1, max_length=MOST, description="metric, split, protocol, low and high of each"
    )


class RunConditions(Options):
    """What all results of a board share."""

    dataset: Name = Field(description="name of the dataset")
    forget: Names = Field(description="classes of D_f, in any order")
    backbone: Name = Field(description="name of the backbone")
    preset: Preset = Field(description="quick, full or paper")
    regime: Regime | None = Field(None, description="of all but the reference and the baseline")
    conditional: bool = Field(False, description="whether the models are class-conditional")
    text: TextFlag = Field(False, description="whether the models take prompts")
    passes: int | None = Field(
        None, ge=1, description="budget of all but the reference and the baseline; none: steps"
    )
    base: str | None = Field(None, description="sha256 of a given base model; none: trained here")
    tasks: list[Name] = Field(
        [], max_length=MOST, description="tasks beside those of every run (--task)"
    )
    dataset_params: Values = Field({}, description="options of the dataset (-d)")
    backbone_params: Values = Field({}, description="options of the backbone (-b)")
    method_params: dict[Name, Values] = Field({}, description="options of methods (-p), by method")
    task_params: dict[Name, Values] = Field({}, description="options of tasks (-t), by task")
    training: dict[Name, Values] = Field(
        {}, description="settings of a method's training that are not its own preset, by method"
    )

    @property
    def track(self) -> Track:
        """The track of the models."""
        return track_of(self.conditional, self.text)


class Picture(Options):
    """Images of the methods side by side, as runs save them for their own pictures."""

    task: Name = Field(description="the task whose images are shown")
    captions: Names | None = Field(
        None, description="captions of the columns, such as `target: a red circle`; none: all"
    )
    images: int = Field(2, ge=1, le=8, description="images of a method in each column")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the runs that are shown")


class Board(Options):
    """A leaderboard."""

    title: str = Field(min_length=1, description="heading of the page")
    summary: str = Field(description="what the board shows; only `code` is markdown")
    run: RunConditions = Field(description="what all results have in common")
    methods: Methods = Field(description="rows of the page")
    seeds: int = Field(ge=1, le=1000, description="fewest seeds of each method")
    columns: list[Column] = Field(
        min_length=1, max_length=WIDEST, description="quantities in the table of the page"
    )
    details: list[Column] = Field(
        [], max_length=MOST, description="further quantities, in the table of protocols.md"
    )
    rank: Quantity = Field(description="the quantity that ranks")
    gate: Gate = Field(description="retain quality without which no method is ranked")
    baseline: Baseline = Field(description="bands in which the base models must lie")
    options: Annotated[dict[Name, Origin], BeforeValidator(_origins)] = Field(
        {},
        description="how the options of the methods were chosen: tuned, by hand, published or "
        "preset, by method or for all",
    )
    commands: Names = Field(description="what made the results, one command an entry")
    panels: list[Column] = Field(
        [], max_length=6, description="quantities of the second plot, a panel each; none: no plot"
    )
    picture: Picture | None = Field(None, description="the picture of the page; none: no picture")

    @model_validator(mode="after")
    def _methods_are_listed(self) -> Self:
        if len(set(self.methods)) < len(self.methods):
            raise ValueError("methods: a name appears twice")
        for role, name in (("gate", self.gate.reference), ("baseline", self.baseline.method)):
            if name not in self.methods:
                raise ValueError(f"{role}: {name!r} is not among the board's methods")
        for part, named in (
            ("run.method_params", self.run.method_params),
            ("run.training", self.run.training),
            ("options", {name: word for name, word in self.options.items() if name != ALL}),
        ):
            for name in sorted(set(named) - set(self.methods)):
                raise ValueError(f"{part}: {name!r} is not among the board's methods")
        return self

    def exempt(self, method: str) -> bool:
        """Whether a method keeps its own regime and budget: the reference and the baseline."""
        return method in (self.gate.reference, self.baseline.method)

    def origin(self, method: str) -> Origin | None:
        """How the options of a method were chosen; None where nobody says, or none were."""
        return self.options.get(method, None if self.exempt(method) else self.options.get(ALL))

    @property
    def origins(self) -> dict[Origin, list[str]]:
        """The methods by how their options were chosen, without words that no method has."""
        named = {word: [m for m in self.methods if self.origin(m) == word] for word in ORIGINS}
        return {word: methods for word, methods in named.items() if methods}

    @property
    def quantities(self) -> list[Quantity]:
        """All quantities that the page uses, each once."""
        gates = [*self.gate.limits, *self.baseline.bands]
        used = [*self.columns, *self.details, *self.panels, self.rank, *gates]
        return list(dict.fromkeys(entry.key for entry in used))


def load(folder: Path) -> Board:
    """The board of ``folder``.

    Raises:
        UsageError: There is no ``board.yaml``, or it holds no mapping.
        OptionError: A key is unknown, missing or wrong.
        StorageError: The file is no regular file of the folder, too large or not YAML.
    """
    path = folder / BOARD_FILE
    if not path.is_file():
        raise UsageError(
            f"{single_line(folder)} is no leaderboard",
            f"a folder with {BOARD_FILE}",
            "check the path",
        )
    content = read_yaml(path, inside=folder)
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no mapping", "keys: " + ", ".join(Board.model_fields))
    try:
        return Board.model_validate(content)
    except ValidationError as error:
        raise _complaint(path, error) from error


def _complaint(path: Path, error: ValidationError) -> OptionError:
    """The complaint about an unknown key, which may explain a missing one, or else the first."""
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"])[:80]
    if first["type"] == "extra_forbidden":
        known = list(_model_at(first["loc"][:-1]).model_fields)
        near = did_you_mean(str(first["loc"][-1])[:80], known)
        return OptionError(f"{path} has no key {where!r}{near}", ", ".join(known))
    if first["type"] == "missing":
        field = _model_at(first["loc"][:-1]).model_fields.get(str(first["loc"][-1]))
        about = field.description if field is not None else None
        return OptionError(f"{path} lacks the key {where!r}", about or "a value")
    value = f" = {repr(first['input'])[:80]}" if where else ""
    return OptionError(f"{path}: {where or 'the board'}{value}", allowed_value(first))


def _model_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    """The class of the part of a board at a location of pydantic."""
    model: type[BaseModel] = Board
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        annotation = model.model_fields[part].annotation
        inner = (annotation, *typing.get_args(annotation))
        models = (t for t in inner if isinstance(t, type) and issubclass(t, BaseModel))
        model = next(models, model)
    return model
