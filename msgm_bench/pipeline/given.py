"""A base model from elsewhere: found, checked, and known by the hash of its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from msgm_bench.api import Backbone, DataInfo, Method, Regime
from msgm_bench.errors import IncompatibleError
from msgm_bench.pipeline.spec import RunSpec

ORIGIN = "origin.json"


@dataclass(frozen=True)
class Given:
    """The base model that the user gave.

    Attributes:
        source: Where it was found, as the request says.
        sha256: Of its weights' file; all that results and stages know it by.
        remark: What had to be taken on trust.
    """

    source: str
    sha256: str
    remark: str = ""

    def __str__(self) -> str:
        """Source, hash, remark."""
        said = f"{self.source}, sha256 {self.sha256}"
        return f"{said}; {self.remark}" if self.remark else said


def given_base(
    spec: RunSpec, backbone: Backbone, info: DataInfo, download: bool
) -> tuple[Backbone, Given | None]:
    """The backbone as the given base has it, and the base; nothing changes where none is given.

    Raises:
        UsageError: The base is not there, or fits neither data, process nor options.
        StorageError: Its files are damaged or not to be had.
    """
    if spec.base is None:
        return backbone, None
    check_origin(Path(spec.base).expanduser(), spec)
    found = backbone.load(spec.base, info, download)
    asked, has = backbone.config.model_dump(), found.backbone.config.model_dump()
    for key in spec.backbone_params:
        if asked[key] != has[key]:
            raise IncompatibleError(
                f"-b {key}={asked[key]} beside --base, which brings its own network",
                f"{key} {has[key]}",
                f"leave out -b {key}",
            )
    return found.backbone, Given(spec.base, found.sha256, found.remark)


def check_origin(folder: Path, spec: RunSpec) -> None:
    """Refuse an exported model that was made without what is to be forgotten.

    Raises:
        IncompatibleError: It does not know one of the classes.
    """
    try:
        told = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # a model of another program: what it was trained on is taken on trust
    gone = {str(name).casefold() for name in told.get("without", [])}
    unknown = [name for name in spec.forget if name.casefold() in gone]
    if unknown and told.get("dataset") == spec.dataset:
        raise IncompatibleError(
            f"--forget {', '.join(unknown)} with the base {folder}, which was made without it",
            "classes that the base knows",
            "choose another base, or other classes to forget",
        )


def regimes_of(method: Method, spec: RunSpec) -> tuple[Regime, ...]:
    """Those of the method, the default first; with a given base those that start from it.

    Baselines and methods that look at a base in every regime keep all of theirs.
    """
    own = method.baseline or "base" in method.needs
    if spec.base is None or own or "finetune" not in method.regimes:
        return method.regimes
    return ("finetune",)


def unused(method: Method, spec: RunSpec) -> str | None:
    """Why a method has no use for the given base, or None."""
    if spec.base is None or method.baseline or "base" in method.needs:
        return None
    if "finetune" in method.regimes:
        return None
    return f"{method.name} trains from fresh weights and makes nothing of --base"
