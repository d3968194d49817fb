"""What a tuning may choose for a method: ranges and lists of values."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from msgm_bench.api.plugin import parse_options
from msgm_bench.api.settings import STATED, Settings, merge, on_track
from msgm_bench.errors import OptionError, PluginError, did_you_mean

if TYPE_CHECKING:
    from msgm_bench.api.method import Method

TRAINING = "training."  # before the settings of training among the options of a method


@dataclass(frozen=True)
class Choices(ABC):
    """Values of one option, or of one setting of training."""

    @abstractmethod
    def at(self, u: float, default: Any) -> Any:
        """The value at the share ``u`` of the choices, in [0, 1).

        Args:
            u: Uniform draws give the distribution of the choices.
            default: The value of the preset, which is trial 0.
        """

    @abstractmethod
    def ends(self, default: Any) -> Sequence[Any]:
        """Values that all others lie between, or all values."""

    def describe(self) -> dict[str, Any]:
        """Kind and numbers, as a record of a tuning stores them."""
        return {"kind": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class LinearRange(Choices):
    """Uniform in [low, high], both ends finite and of one type; integers where both are."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse ends that are not in order."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise PluginError(f"{self}", "finite ends, the smaller one first")

    def at(self, u: float, default: Any) -> Any:
        """low + u (high - low), rounded to 1 in 1,000 or to a whole number."""
        return _rounded(self.low + u * (self.high - self.low), self.low, self.high)

    def ends(self, default: Any) -> Sequence[Any]:
        """low and high."""
        return self.low, self.high


@dataclass(frozen=True)
class LogRange(LinearRange):
    """Log-uniform in [low, high], 0 < low."""

    def __post_init__(self) -> None:
        """Refuse ends that have no logarithm."""
        super().__post_init__()
        if self.low <= 0:
            raise PluginError(f"{self}", "positive ends")

    def at(self, u: float, default: Any) -> Any:
        """low (high / low)^u, rounded to 1 in 1,000 or to a whole number."""
        return _rounded(self.low * (self.high / self.low) ** u, self.low, self.high)


@dataclass(frozen=True)
class Multiples(LogRange):
    """Multiples of the preset's value, log-uniform from ``low`` to ``high`` times it.

    For what scales with data, network and batch, such as a learning rate.
    """

    def at(self, u: float, default: Any) -> Any:
        """default low (high / low)^u, rounded to 1 in 1,000 or to a whole number."""
        return _rounded(default * self.low * (self.high / self.low) ** u, *self.ends(default))

    def ends(self, default: Any) -> Sequence[Any]:
        """low and high times the default.

        Raises:
            PluginError: The default is no positive number.
        """
        is_number = isinstance(default, int | float) and not isinstance(default, bool)
        if not is_number or default <= 0:
            raise PluginError(f"{self} of {default!r}", "multiples of a positive number")
        return tuple(_like(default, default * factor) for factor in (self.low, self.high))


@dataclass(frozen=True)
class OneOf(Choices):
    """One of a list of values, each as likely as the others."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Refuse a list without a choice."""
        if not isinstance(self.values, tuple) or len(self.values) < 2:
            raise PluginError(f"{self}", "a tuple of two or more values")

    def at(self, u: float, default: Any) -> Any:
        """values[floor(u n)]."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def ends(self, default: Any) -> Sequence[Any]:
        """All values."""
        return self.values


def check_search_space(cls: type[Method]) -> None:
    """Refuse choices of what does not exist, and values that are not allowed, in any preset.

    Raises:
        PluginError: The search space of a method has such choices.
    """
    space = cls.search_space
    if not isinstance(space, Mapping):
        raise PluginError(f"search_space of method {cls.name!r} is {space!r:.100}", "a mapping")
    if space and cls.baseline:
        raise PluginError(f"method {cls.name!r} is a baseline with a search space", "no space")
    for key, choices in space.items():
        where = f"search_space of method {cls.name!r}, {str(key)[:64]!r}"
        name, known = str(key).removeprefix(TRAINING), list(cls.options_type.model_fields)
        if str(key).startswith(TRAINING):
            known = [] if cls.closed_form else list(STATED)
        if name not in known:
            near = did_you_mean(name, known)
            raise PluginError(f"{where}: no such option{near}", ", ".join(known) or "it has none")
        if not isinstance(choices, Choices):
            raise PluginError(f"{where} is {choices!r:.100}", "LogRange, LinearRange, OneOf, ...")
        try:
            for preset in ({}, *cls.presets.values()):
                for text in (False, True):
                    _check_choices(cls, str(key), choices, on_track(preset, text))
        except (OptionError, PluginError) as error:
            raise PluginError(f"{where}: {error.what}", error.allowed) from error


def _check_choices(
    cls: type[Method], key: str, choices: Choices, preset: Mapping[str, Any]
) -> None:
    """Try the ends of the choices about the value of a preset.

    Raises:
        OptionError: One is not allowed.
        PluginError: The choices are multiples of a value that has none.
    """
    if key.startswith(TRAINING):
        name, settings = key.removeprefix(TRAINING), Settings.model_validate(preset)
        default = getattr(settings.budget(finetune="finetune" in cls.regimes), name)
        for value in choices.ends(default):
            settings.budget(False, stated={name: value})
        return
    own = {k: v for k, v in preset.get("method", {}).items() if k in cls.options_type.model_fields}
    default = getattr(parse_options(cls, own), key)
    for value in choices.ends(default):
        parse_options(cls, merge(own, {key: value}))


def _like(pattern: float, value: float) -> float:
    """``value`` rounded to 1 in 1,000; where ``pattern`` is a whole number as one, at least 1."""
    return max(1, round(value)) if isinstance(pattern, int) else float(f"{value:.3g}")


def _rounded(value: float, low: float, high: float) -> float:
    """``value`` rounded to 1 in 1,000, in [low, high]; a whole number where both ends are."""
    if isinstance(low, int) and isinstance(high, int):
        return min(max(round(value), low), high)
    return min(max(float(f"{value:.3g}"), low), high)
