"""Two values compare only under one protocol: the check, and what differs where it fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgm_bench.api.result import MetricProtocol, Result
from msgm_bench.boards.board import Quantity
from msgm_bench.errors import StorageError, UsageError

ABSENT = "(absent)"


class ProtocolMixError(UsageError):
    """Values of different meaning would stand in one column."""


@dataclass(frozen=True)
class Difference:
    """One setting in which two protocols differ.

    Attributes:
        protocol: Name without the version.
        setting: Dotted key; ``version`` for the version itself.
        a: Value on the one side, or ``ABSENT``.
        b: Value on the other.
    """

    protocol: str
    setting: str
    a: Any
    b: Any

    def __str__(self) -> str:
        """``protocol: setting is a against b``."""
        return f"{self.protocol}: {self.setting} is {self.a!r} against {self.b!r}"


def settings_diff(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values; a missing one is ``ABSENT``."""
    left, right = flatten(a), flatten(b)
    pairs = {key: (left.get(key, ABSENT), right.get(key, ABSENT)) for key in left | right}
    return {key: pair for key, pair in sorted(pairs.items()) if pair[0] != pair[1]}


def protocol_diff(a: Result, b: Result, only: Iterable[str] | None = None) -> list[Difference]:
    """Why the values of two results do not compare; empty where all protocols are one.

    Args:
        a: One result.
        b: The other.
        only: Names without versions to look at; all where absent.
    """
    left, right = _described(a), _described(b)
    names = sorted(set(left) | set(right)) if only is None else sorted(set(only))
    return [
        Difference(name, key, *pair)
        for name in names
        for key, pair in settings_diff(left.get(name, {}), right.get(name, {})).items()
    ]


def check_hashes(result: Result, origin: str) -> None:
    """Recompute each protocol's hash.

    Raises:
        StorageError: A hash is not that of the settings beside it.
    """
    for identity, record in result.protocols.items():
        name, _, version = identity.rpartition("@")
        if not name or not version.isdecimal() or int(version) < 1:
            raise StorageError(f"{origin}: protocol {identity!r}", "name@version")
        if MetricProtocol(name=name, version=int(version), settings=record.settings).hash != (
            record.hash
        ):
            raise StorageError(
                f"{origin}: the hash of {identity} is not that of its settings",
                hint="the file was edited or damaged: import the run's result again",
            )


def check_same(results: Sequence[Result], quantities: Iterable[Quantity]) -> None:
    """Make sure that each quantity has one protocol, unit, direction and task over all results.

    Raises:
        ProtocolMixError: Naming two results and the settings that differ.
    """
    for key in quantities:
        first: Result | None = None
        for result in results:
            if key.row(result) is None:
                continue
            if first is None:
                first = result
            elif meaning(first, key) != meaning(result, key):
                raise mix(key, first, result)


def name_of(result: Result) -> str:
    """``method seed n``."""
    return f"{result.spec.method} seed {result.spec.seed}"


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def name_without_version(protocol: str) -> str:
    """``name`` of ``name@version``."""
    return protocol.rpartition("@")[0]


def meaning(result: Result, key: Quantity) -> tuple[str, str, str, str, str]:
    """Protocol, its hash, unit, direction and task of a quantity that the result has."""
    row = key.row(result)
    if row is None:
        raise KeyError(str(key))
    described = result.protocols[row.protocol]
    return row.protocol, described.hash, row.unit, row.direction, row.task


def mix(key: Quantity, a: Result, b: Result) -> ProtocolMixError:
    """The error of two results whose quantities mean different things."""
    ours, theirs = meaning(a, key), meaning(b, key)
    names = {meaning[0].rpartition("@")[0] for meaning in (ours, theirs)}
    if len(names) == 2:
        differing = f"protocols {ours[0]} against {theirs[0]}"
    elif ours[:2] != theirs[:2]:
        differing = "; ".join(str(difference) for difference in protocol_diff(a, b, names))
    else:
        differing = f"unit, direction and task {ours[2:]} against {theirs[2:]}"
    return ProtocolMixError(
        f"{key}: {name_of(a)} and {name_of(b)} do not compare: {differing}",
        "results of one protocol",
        "run one of the two again with the other's settings and version",
    )


def _described(result: Result) -> dict[str, dict[str, Any]]:
    """Settings and version of each protocol, by its name."""
    described: dict[str, dict[str, Any]] = {}
    for identity, record in result.protocols.items():
        name, _, version = identity.rpartition("@")
        described[name] = {**record.settings, "version": version}
    return described
