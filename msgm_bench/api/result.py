"""The record of a run: ``result.json``."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from msgm_bench.api.result_shapes import ProvenanceShape, SettingsShape, shaped
from msgm_bench.api.track import TextFlag, Track, track_of
from msgm_bench.storage.validation import NAME_PATTERN
from msgm_bench.storage.validation_text import value_text

Direction = Literal["up", "down", "none"]
SCHEMA: Literal["msgm-bench/result@3"] = "msgm-bench/result@3"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""Name of a plugin: a part of paths, pages and commands."""
OUTDATED = "it was made by another version of msgm-bench: run its command again"
OTHER_SCHEMA = f"not {SCHEMA}: name the result.json that `msgm-bench run` wrote"
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, le=10**12)]


class Estimate(Protocol):
    """A value with the ends of its 95 % interval."""

    @property
    def value(self) -> float:
        """The estimate."""

    @property
    def low(self) -> float:
        """Lower end; minus infinity where nothing bounds it."""

    @property
    def high(self) -> float:
        """Upper end; infinity where nothing bounds it."""


class Record(BaseModel):
    """Strict and immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def digest(value: Any) -> str:
    """SHA-256 of a JSON-ready value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class MetricProtocol(Record):
    """The meaning of a metric's value: versioned, and hashed over every setting."""

    name: str = Field(description="such as nll/pf-ode")
    version: int = Field(1, ge=1, description="raised when the meaning of the value changes")
    settings: dict[str, Any] = Field({}, description="all that the value depends on")

    @property
    def id(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def hash(self) -> str:
        """First twelve hexadecimal digits of the SHA-256 of all fields."""
        return digest(self.model_dump())[:12]


class Row(Record):
    """One measured value."""

    task: str = Field(description="generation, likelihood, ...")
    metric: str = Field(description="ur, nll, ...; companions have names of their own")
    split: str = Field(description="samples, retain or forget")
    protocol: str = Field(description="id of an entry of protocols")
    value: float | None = Field(description="null where it failed or is not finite")
    unit: str = Field(description="%, bits/dim, nats, ...")
    n: Count = Field(description="items behind the value")
    low: float | None = Field(None, description="lower end of the 95 % interval")
    high: float | None = Field(None, description="upper end of the 95 % interval")
    direction: Direction = Field("none", description="which way is better")
    reason: str | None = Field(None, description="why value is null, or a remark")
    stamp: str | None = Field(None, description="why the value is in doubt, although it stands")

    @model_validator(mode="before")
    @classmethod
    def _finite_or_null(cls, values: Any) -> Any:
        """What a metric could not measure is null with a reason, and does not lose the run."""
        if not isinstance(values, dict):
            return values
        wrong = {
            name: None
            for name in ("value", "low", "high")
            if isinstance(values.get(name), float) and not math.isfinite(values[name])
        }
        if "value" in wrong and not values.get("reason"):
            values = values | {"reason": f"the value is {values['value']}"}
        return values | wrong

    @model_validator(mode="after")
    def _null_has_a_reason(self) -> Self:
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.metric}: {number} is not finite; use null and a reason")
        if self.value is None and not self.reason:
            raise ValueError(f"{self.metric}: a null value needs a reason")
        return self

    @classmethod
    def of(cls, estimate: Estimate, *, scale: float = 1.0, **fields: Any) -> Self:
        """A row of ``scale`` times ``estimate``; null, with a reason, where that is not finite."""
        numbers = {
            name: scale * number if math.isfinite(number) else None
            for name, number in (
                ("value", estimate.value),
                ("low", estimate.low),
                ("high", estimate.high),
            )
        }
        if numbers["value"] is None and not fields.get("reason"):
            fields["reason"] = f"the value is {estimate.value}"
        elif numbers["low"] is None and numbers["high"] is None and not fields.get("reason"):
            fields["reason"] = f"no interval: n = {fields['n']} is too small for one"
        return cls(**numbers, **fields)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identifies a row within a result."""
        return (self.task, self.metric, self.split, self.protocol)


class ProtocolRecord(Record):
    """A protocol as stored beside the rows that name it."""

    hash: str
    settings: dict[str, Any]


class SpecRecord(Record):
    """The run with every default resolved."""

    model_config = ConfigDict(revalidate_instances="subclass-instances")  # results compare as read

    dataset: Name
    forget: list[str]
    backbone: Name
    method: Name
    params: dict[str, Any] = Field(description="options of the method")
    regime: str
    preset: str
    seed: Seed
    seeds: dict[str, Seed] = Field({}, description="train, unlearn and sample")
    backbone_params: dict[str, Any] = {}
    dataset_params: dict[str, Any] = {}
    settings: Annotated[dict[str, Any], shaped(SettingsShape)] = Field(
        {}, description="training, tasks, judge and pass_items as used"
    )
    conditional: bool = Field(False, description="whether the model is class-conditional")
    text: TextFlag = Field(False, description="whether the model takes a prompt")
    base: str | None = Field(None, description="SHA-256 of the weights of a base model of --base")

    @property
    def track(self) -> Track:
        """The track of the model."""
        return track_of(self.conditional, self.text)


class Result(Record):
    """A run: a method on a backbone, a dataset and a forget set, with one seed.

    ``digest`` is the SHA-256 of all but the provenance. It is compared whenever a result is read,
    so that an edited row is noticed.
    """

    model_config = ConfigDict(
        json_schema_extra={"required": ["schema", "status", "spec", "digest"]}
    )

    schema_: Literal["msgm-bench/result@3"] = Field(SCHEMA, alias="schema")
    status: Literal["ok", "failed", "skipped"]
    reason: str | None = None
    spec: SpecRecord
    metrics: list[Row] = []
    protocols: dict[str, ProtocolRecord] = {}
    provenance: Annotated[dict[str, Any], shaped(ProvenanceShape)] = {}
    digest: str = Field("", pattern="^[0-9a-f]{64}$", description="SHA-256 of all above")

    @model_validator(mode="before")
    @classmethod
    def _documents_are_current(cls, value: Any, info: ValidationInfo) -> Any:
        """Check schema and digest of a document: JSON, or a mapping with a schema."""
        if not isinstance(value, Mapping) or (info.mode == "python" and "schema" not in value):
            return value
        version = value.get("schema")
        if version != SCHEMA:
            old = isinstance(version, str) and version.startswith("msgm-bench/result@")
            stated = "none" if version is None else value_text(version)
            raise ValueError(OUTDATED if old else f"its schema is {stated}, {OTHER_SCHEMA}")
        if not value.get("digest"):
            raise ValueError("its digest is missing")
        return value

    @model_validator(mode="after")
    def _rows_are_unique_and_named(self) -> Self:
        keys = [row.key for row in self.metrics]
        if len(set(keys)) < len(keys):
            twice = {key for key in keys if keys.count(key) > 1}
            raise ValueError(f"rows appear twice: {sorted(twice)}")
        missing = {row.protocol for row in self.metrics} - set(self.protocols)
        if missing:
            raise ValueError(f"rows name protocols that are not described: {sorted(missing)}")
        return self

    @model_validator(mode="after")
    def _digest_is_of_the_content(self) -> Self:
        if not self.digest:
            object.__setattr__(self, "digest", self.content_digest())
        elif self.digest != self.content_digest():
            raise ValueError("it was edited: its digest is not that of its content")
        return self

    def content_digest(self) -> str:
        """SHA-256 of status, reason, spec, rows and protocols, in canonical JSON.

        ``text`` counts where it is true alone: results of other tracks may lack it.
        """
        document = json.loads(self.model_dump_json(exclude={"provenance", "digest"}))
        if not self.spec.text:
            del document["spec"]["text"]
        return digest(document)

    def row(self, metric: str, split: str) -> Row | None:
        """The first row of ``metric`` on ``split``."""
        return next((r for r in self.metrics if (r.metric, r.split) == (metric, split)), None)

    def value(self, metric: str, split: str) -> float | None:
        """Its value, or None."""
        row = self.row(metric, split)
        return None if row is None else row.value

    def to_json(self) -> str:
        """Text of ``result.json``."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"
