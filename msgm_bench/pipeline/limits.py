"""What a model, as its method left it, can be asked: some do not fit every task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from msgm_bench.api import Method

if TYPE_CHECKING:
    from msgm_bench.pipeline.modelfile import ModelCard


@dataclass(frozen=True)
class Limits:
    """Stored with the model, so that whoever evaluates it asks for what it can do.

    Attributes:
        maker: The method that made the model; empty where that says nothing.
        lost: Tasks that the model can no longer do, and why.
        demands: Options of tasks that it needs, over those of presets and user.
    """

    maker: str = ""
    lost: Mapping[str, str] = field(default_factory=dict)
    demands: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, method: Method) -> Self:
        """Those of the models that ``method`` makes."""
        return cls(
            method.name, dict(method.unsupported_tasks), dict(method.required_task_options())
        )

    @classmethod
    def told(cls, card: ModelCard) -> Self:
        """Those that a model's card names; none where it names none."""
        return cls(**card.limits.model_dump())

    def record(self) -> dict[str, Any]:
        """A JSON-ready copy; empty where the model can be asked anything."""
        return asdict(self) if self.lost or self.demands else {}
