"""A request: one run, or a grid of them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from msgm_bench.api import (
    PRESETS,
    Dataset,
    Method,
    Preset,
    Regime,
    Track,
    digest,
    indices,
    option_error,
    parse_names,
)
from msgm_bench.api.track import TextFlag, track_of
from msgm_bench.errors import OptionError, UsageError, did_you_mean, shorten
from msgm_bench.experiment.request_options import read_options
from msgm_bench.registry import registry
from msgm_bench.storage import path_part

FOLDER_SUFFIXES: Mapping[Track, str] = {"unconditional": "", "class": "-cond", "text": "-text"}
SHORT = 40  # letters of each name in a run folder's name, but for the forget set
MOST = 10**12  # steps, passes and samples that a result may hold


class RunSpec(BaseModel):
    """One run: a method on a backbone, a dataset and a forget set, with one seed.

    Immutable and picklable; knows nothing of the command line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    forget: tuple[str, ...] = Field(description="classes or attributes to forget")
    backbone: str
    method: str
    params: dict[str, Any] = Field({}, description="options of the method")
    backbone_params: dict[str, Any] = Field({}, description="options of the backbone")
    dataset_params: dict[str, Any] = Field({}, description="options of the dataset")
    tasks: tuple[str, ...] = Field((), description="tasks beside those of every run")
    task_params: dict[str, dict[str, Any]] = Field({}, description="options of each task")
    metric_params: dict[str, dict[str, Any]] = Field({}, description="options of each metric")
    judge_params: dict[str, Any] = Field({}, description="options of the judge, and its `name`")
    training_params: dict[str, Any] = Field(
        {}, description="settings of the method's own training, not of the base model's"
    )
    regime: Regime | None = Field(None, description="empty: the first that the method declares")
    preset: Preset | None = Field(None, description="empty: the dataset's own default")
    seed: int = Field(0, ge=0, lt=2**63, description="all three seeds")
    train_seed: int | None = Field(
        None, ge=0, lt=2**63, description="initial weights and base model"
    )
    unlearn_seed: int | None = Field(
        None, ge=0, lt=2**63, description="batches and noise of the method"
    )
    sample_seed: int | None = Field(None, ge=0, lt=2**63, description="noise of the evaluation")
    steps: int | None = Field(
        None,
        ge=1,
        le=MOST,
        description="replaces the training budget of every model; the judge has its own",
    )
    passes: int | None = Field(
        None,
        ge=1,
        le=MOST,
        description="budget in passes, of all but the baselines and the base model",
    )
    samples: int | None = Field(None, ge=1, le=MOST, description="caps every evaluation set")
    device: str = "auto"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    compile: bool = False
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; empty: torch's own")
    conditional: bool = Field(False, description="whether the model takes the class of an item")
    text: TextFlag = Field(False, description="whether the model takes a prompt")
    record_samples: int = Field(
        0, ge=0, le=100, description="sets of samples along the training; changes no value"
    )
    base: str | None = Field(
        None, description="a base checkpoint to start from: a folder, or a name on a hub"
    )
    model: str | None = Field(None, description="folder of a trained model to evaluate instead")

    @field_validator("forget", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """Names as the user typed them; ``parse_names`` splits a list in one text."""
        if isinstance(value, str):
            return parse_names(value)
        names = value if isinstance(value, list | tuple) else (value,)
        for name in names:
            if isinstance(name, bool) or not isinstance(name, str | int):
                raise ValueError(f"{name!r} is no name: put it in quotes if it is one")
        return tuple(str(name) for name in names if str(name).strip())

    @field_validator("tasks")
    @classmethod
    def _sorted(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Each name once, in the order of the alphabet: the same tasks are the same run."""
        return tuple(sorted(set(names)))

    @property
    def seeds(self) -> dict[str, int]:
        """The three seeds."""
        return {
            "train": self.seed if self.train_seed is None else self.train_seed,
            "unlearn": self.seed if self.unlearn_seed is None else self.unlearn_seed,
            "sample": self.seed if self.sample_seed is None else self.sample_seed,
        }

    @property
    def track(self) -> Track:
        """The track of the model."""
        return track_of(self.conditional, self.text)

    @property
    def folder(self) -> str:
        """Name of the run folder: readable, and unique by the hash of the request."""
        request = self.model_dump(mode="json", exclude_defaults=True, exclude={"record_samples"})
        short = digest(request)[:8]
        backbone = f"{self.backbone}{FOLDER_SUFFIXES[self.track]}"
        names = (path_part(name, SHORT) for name in (backbone, self.method, f"s{self.seed}"))
        return "-".join((path_part(self.dataset, SHORT), slug(self.forget), *names, short))


def slug(forget: Sequence[str]) -> str:
    """The forget set as a part of a file's name."""
    return path_part("+".join(forget))


def parse_spec(values: Mapping[str, Any]) -> RunSpec:
    """A ``RunSpec`` from plain values; ``OptionText`` is read by the type of its option.

    Raises:
        OptionError: A field is unknown or out of range; the error names it and what is allowed.
    """
    if values.get("preset") not in (None, *PRESETS):
        preset = values["preset"]
        near = did_you_mean(str(preset), PRESETS)
        raise OptionError(f"unknown preset {shorten(str(preset))!r}{near}", ", ".join(PRESETS))
    fields = read_options(values)
    try:
        return RunSpec.model_validate(fields)
    except ValidationError as error:
        raise option_error("the run", RunSpec, fields, error) from error


def check_names(spec: RunSpec) -> None:
    """Look up the classes to forget in the dataset's info, before data are read or downloaded.

    Raises:
        OptionError: The dataset has no such class.
    """
    dataset = cast(Dataset, registry().create("datasets", spec.dataset, spec.dataset_params))
    info = dataset.info()
    if info is not None:
        indices(info.classes, spec.forget)


def expand(
    methods: Sequence[str],
    backbones: Sequence[str],
    seeds: Sequence[int],
    params: Mapping[str, Any],
    training_params: Mapping[str, Any] | None = None,
    **common: Any,
) -> list[RunSpec]:
    """The grid of methods x backbones x seeds, which shares its base models.

    Args:
        methods: Names of methods; duplicates count once, here and below.
        backbones: Names of backbones.
        seeds: Seeds.
        params: Options of the methods; ``name.key`` for one of them, ``key`` for all that
            have it.
        training_params: Settings of the methods' training; ``name.key`` for one of them, ``key``
            for all but the baselines.
        common: Further fields of every ``RunSpec``.

    Raises:
        UsageError: An option that no selected method has, or an unknown name.
    """
    stated = training_params or {}
    options = {name: _options_of(name, params) for name in methods}
    training = {name: _training_of(name, stated) for name in methods}
    _refuse_unused(methods, params)
    _refuse_unused_training(methods, stated)
    return [
        parse_spec(
            common
            | {"method": m, "backbone": b, "seed": s, "params": options[m]}
            | {"training_params": training[m]},
        )
        for b, s, m in dict.fromkeys(itertools.product(backbones, seeds, methods))
    ]


def _method(name: str) -> type[Method]:
    return cast(type[Method], registry().entry("methods", name).cls)


def _options_of(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Options of one method: its own, and those of all methods that it has."""
    return _own(name, params, _method(name).options_type.model_fields)


def _training_of(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of one method's training; those of all methods are for no baseline."""
    common = [key for key in params if "." not in key and not _method(name).baseline]
    return _own(name, params, common)


def _own(name: str, params: Mapping[str, Any], common: Collection[str]) -> dict[str, Any]:
    own = {}
    for key, value in params.items():
        scope, dot, option = key.rpartition(".")
        if (dot and scope == name) or (not dot and key in common):
            own[option] = value
    return own


def _refuse_unused(methods: Sequence[str], params: Mapping[str, Any]) -> None:
    for key in params:
        _refuse_other_method(methods, key)
        known = sorted({f for method in methods for f in _method(method).options_type.model_fields})
        if "." not in key and key not in known:
            raise OptionError(
                f"no selected method has an option {shorten(key)!r}{did_you_mean(key, known)}",
                ", ".join(known) or "the selected methods have no options",
            )


def _refuse_unused_training(methods: Sequence[str], params: Mapping[str, Any]) -> None:
    for key in params:
        _refuse_other_method(methods, key)
        if "." not in key and all(_method(name).baseline for name in methods):
            raise UsageError(
                f"--training {shorten(key)}, and all methods are baselines",
                "a method beside them: a baseline trains as its preset says",
                "leave it out, or choose -d and --preset for another budget",
            )


def _refuse_other_method(methods: Sequence[str], key: str) -> None:
    scope, dot, _ = key.rpartition(".")
    if dot and scope not in methods:
        raise UsageError(
            f"option {shorten(key)!r} is for {shorten(scope)!r}, which is not among the methods",
            ", ".join(methods),
        )
