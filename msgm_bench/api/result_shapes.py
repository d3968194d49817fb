"""Shapes of the parts of a result whose keys are free: what boards and reports read of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from msgm_bench.storage.validation_text import validation_text


class TrainingShape(BaseModel):
    """Settings of a training that boards read; further keys are free."""

    model_config = ConfigDict(extra="allow")

    passes: Annotated[int, Field(ge=1, le=10**12)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=10**12)] | None = None


class SettingsShape(BaseModel):
    """Settings of a run that boards read; further keys are free."""

    model_config = ConfigDict(extra="allow")

    training: TrainingShape = TrainingShape()
    tasks: dict[str, dict[str, Any]] = {}
    judge: dict[str, Any] = {}
    pass_items: Annotated[int, Field(ge=1, le=10**12)] | None = None


class LimitsShape(BaseModel):
    """Limits of a model that boards read; further keys are free."""

    model_config = ConfigDict(extra="allow")

    required_task_options: dict[str, dict[str, Any]] = {}


class SkippedShape(BaseModel):
    """A plugin that does not apply to the run, with the reason."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["tasks", "metrics"]
    name: str
    reason: str


class ProvenanceShape(BaseModel):
    """Parts of a provenance that boards and reports read; further keys are free."""

    model_config = ConfigDict(extra="allow")

    code: dict[str, str] = {}
    judge: dict[str, Any] = {}
    limits: LimitsShape = LimitsShape()
    migrated_from: str = ""
    skipped: list[SkippedShape] = []
    stages: dict[str, str] = {}


def shaped(shape: type[BaseModel]) -> AfterValidator:
    """Check a mapping against ``shape`` and leave it as it is."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        try:
            shape.model_validate(value)
        except ValidationError as error:
            raise ValueError(validation_text(error)) from error
        return value

    return AfterValidator(check)
