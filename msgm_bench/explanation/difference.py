"""In what two results differ: first what can change a value, then what cannot, then the values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from msgm_bench.api import Result
from msgm_bench.boards.protocols import (
    ABSENT,
    name_without_version,
    protocol_diff,
    settings_diff,
)
from msgm_bench.explanation.step import mapping
from msgm_bench.explanation.values import ValuePair, value_pairs

Facts = Callable[[Result], Mapping[str, Any]]
PROTOCOLS, MEASURED = "Protocols", "measured"
COST = ("peak_memory_mib",)  # of the hardware's entries, those that determine nothing


@dataclass(frozen=True)
class Divergence:
    """A property in which two results differ.

    Attributes:
        group: What it belongs to, such as ``Judge``.
        name: Dotted name.
        a: Value in the first result, or ``(absent)``.
        b: Value in the second.
    """

    group: str
    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class ResultComparison:
    """Two results side by side.

    Attributes:
        decisive: Differences that can change a value, in the order of how directly they do.
        harmless: Differences that cannot.
        shared_stages: Names of the stages that are one and the same computation.
        own_stages: Names of the others, which either result has.
        values: The rows of both.
    """

    decisive: tuple[Divergence, ...]
    harmless: tuple[Divergence, ...]
    shared_stages: tuple[str, ...]
    own_stages: tuple[str, ...]
    values: tuple[ValuePair, ...]


def compare_results(a: Result, b: Result) -> ResultComparison:
    """Everything in which two results differ."""
    stages, others = (result.provenance.get("stages", {}) for result in (a, b))
    shared = [name for name, key in stages.items() if others.get(name) == key]
    return ResultComparison(
        tuple(_decisive(a, b)),
        tuple(_groups(HARMLESS, a, b)),
        tuple(shared),
        tuple(name for name in stages | others if name not in shared),
        value_pairs(a, b),
    )


def _decisive(a: Result, b: Result) -> Iterator[Divergence]:
    """Protocols, and what else can change a value; nothing twice that a protocol has already."""
    protocols = [*_protocols(a, b)]
    yield from protocols
    settings = {name.rpartition(": ")[2] for name in (part.name for part in protocols)}
    yield from (part for part in _groups(DECISIVE, a, b) if not _aliases(part) & settings)


def _aliases(part: Divergence) -> Set[str]:
    """Names under which the settings of a protocol have an option of the judge or of a task."""
    if part.group == "Judge":
        return {f"judge.options.{part.name}", f"judge.{part.name}"}
    return {part.name.removeprefix("tasks.")} if part.name.startswith("tasks.") else set()


def _protocols(a: Result, b: Result) -> Iterator[Divergence]:
    """Settings of the protocols of both, each once with all protocols that have it."""
    left, right = ({name_without_version(name) for name in r.protocols} for r in (a, b))
    settings: dict[tuple[str, str, str], tuple[list[str], Any, Any]] = {}
    for part in protocol_diff(a, b, left & right):
        place = (part.setting, repr(part.a), repr(part.b))
        settings.setdefault(place, ([], part.a, part.b))[0].append(part.protocol)
    for (setting, _, _), (names, x, y) in settings.items():
        yield Divergence(PROTOCOLS, f"{', '.join(names)}: {setting}", x, y)
    for name in sorted(left ^ right):
        sides = (MEASURED if name in side else ABSENT for side in (left, right))
        yield Divergence(PROTOCOLS, name, *sides)


def _groups(groups: Mapping[str, Facts], a: Result, b: Result) -> Iterator[Divergence]:
    for group, of in groups.items():
        for name, (x, y) in settings_diff(of(a), of(b)).items():
            yield Divergence(group, name, x, y)


def _judge(result: Result) -> Mapping[str, Any]:
    """Options of the judge, how good it is, and the digest of what it learned."""
    report = mapping(result.provenance.get("judge"))
    options = mapping(result.spec.settings.get("judge"))
    return {**options, "accuracy": report.get("accuracy"), "state": report.get("state")}


def _data(result: Result) -> Mapping[str, Any]:
    spec = result.spec
    return {
        "dataset": spec.dataset,
        "forget": sorted(spec.forget),
        "options": spec.dataset_params,
        "fingerprint": result.provenance.get("dataset_fingerprint"),
    }


def _options(result: Result) -> Mapping[str, Any]:
    """Method, backbone and tasks with their options, and the budget."""
    spec = result.spec
    settings = {k: v for k, v in spec.settings.items() if k != "judge"}
    return {
        "status": result.status,
        "method": spec.method,
        "regime": spec.regime,
        "preset": spec.preset,
        "track": spec.track,
        "method options": spec.params,
        "backbone": spec.backbone,
        "backbone options": spec.backbone_params,
        **settings,
    }


def _base(result: Result) -> Mapping[str, Any]:
    """The base model: of a checkpoint its hash, of one trained here the key of its stage."""
    checkpoint = mapping(result.provenance.get("base"))
    stage = result.provenance.get("stages", {}).get("base")
    return {"sha256": result.spec.base, "source": checkpoint.get("source"), "stage": stage}


def _seeds(result: Result) -> Mapping[str, Any]:
    return {"seed": result.spec.seed, **result.spec.seeds}


def _code(result: Result) -> Mapping[str, Any]:
    """Digests of the code of the core and of each plugin."""
    return mapping(result.provenance.get("code"))


def _versions(result: Result) -> Mapping[str, Any]:
    return mapping(result.provenance.get("versions"))


def _hardware(result: Result) -> Mapping[str, Any]:
    """Device, precision, threads: on other hardware values differ by rounding at least."""
    hardware = mapping(result.provenance.get("hardware"))
    return {name: value for name, value in hardware.items() if name not in COST}


def _cost(result: Result) -> Mapping[str, Any]:
    provenance = result.provenance
    hardware = mapping(provenance.get("hardware"))
    return {
        "wall seconds": provenance.get("wall_seconds"),
        "seconds": provenance.get("seconds", {}),
        "passes": provenance.get("passes", {}),
        **{name: hardware.get(name) for name in COST},
    }


def _origin(result: Result) -> Mapping[str, Any]:
    """Command and commit, of which all that counts is compared above; who packed the plugins."""
    names = ("command", "git_commit", "plugins", "migrated_from")
    return {name.replace("_", " "): result.provenance.get(name) for name in names}


DECISIVE: Mapping[str, Facts] = {
    "Judge": _judge,
    "Data": _data,
    "Options": _options,
    "Base model": _base,
    "Seeds": _seeds,
    "Code": _code,
    "Versions": _versions,
    "Hardware": _hardware,
}
HARMLESS: Mapping[str, Facts] = {"Cost": _cost, "Origin": _origin}
