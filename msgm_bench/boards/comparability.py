"""What results of one board must agree in, and who is left out where they do not.

Where most results agree, those that differ are left out. Where two sides are equally many, nothing
says which is meant: that is an error of the board.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from msgm_bench.api.result import Result, digest
from msgm_bench.boards.board import Board, Quantity
from msgm_bench.boards.protocols import meaning, mix, name_of, settings_diff
from msgm_bench.errors import MsgmBenchError, UsageError

Place = tuple[str, int]
Feature = Callable[[Result], Mapping[str, Any]]
Complaint = Callable[[Result, Result], MsgmBenchError]
CORE = "core"


def agreeing(board: Board, results: Sequence[Result]) -> tuple[list[Result], dict[Place, str]]:
    """Results that compare, and the places of the others with their reasons.

    One run under two numbers of a seed is left out once.
    One over all results: options of dataset and backbone, items of a pass on a board of equal
    budgets, the protocol of each quantity. One over the seeds of a method: its options, regime,
    settings, and the code of all plugins that made the values.

    Raises:
        UsageError: Two sides that differ have equally many results.
    """
    left: dict[Place, str] = {}

    def settle(group: Sequence[Result], feature: Feature, complaint: Complaint) -> None:
        still = [result for result in group if place(result) not in left]
        left.update(_minority(still, feature, complaint))

    left.update(_repeated(results))
    settle(results, _shared, _complaint(_shared))
    if board.run.passes:
        done = [result for result in results if result.status == "ok"]
        settle(done, _pass_items, _complaint(_pass_items))
    for method in dict.fromkeys(result.spec.method for result in results):
        own = [result for result in results if result.spec.method == method]
        settle(own, _own, _complaint(_own))
        settle([result for result in own if code(result)], code, _code_differs)
    for key in board.quantities:
        rows = [result for result in results if key.row(result) is not None]
        settle(rows, partial(_meaning, key=key), partial(mix, key))
    return [result for result in results if place(result) not in left], left


def place(result: Result) -> Place:
    """What one result of a board occupies: method and seed."""
    return result.spec.method, result.spec.seed


def code(result: Result) -> dict[str, str]:
    """Digests of the code of the plugins behind a result; empty where they are unknown."""
    recorded: Mapping[str, str] = result.provenance.get("code", {})
    return {name: value for name, value in recorded.items() if name != CORE}


def cores(results: Iterable[Result]) -> dict[str, set[str]]:
    """Methods whose seeds were made by different versions of the core, with its digests."""
    digests: dict[str, set[str]] = {}
    for result in results:
        value = result.provenance.get("code", {}).get(CORE)
        if value is not None:
            digests.setdefault(result.spec.method, set()).add(value)
    return {method: values for method, values in digests.items() if len(values) > 1}


def _repeated(results: Sequence[Result]) -> dict[Place, str]:
    """Results with the three seeds of another, which has a smaller number."""
    reasons, first = dict[Place, str](), dict[str, Result]()
    for result in sorted(results, key=lambda one: one.spec.seed):
        seeds = result.spec.seeds
        other = first.setdefault(digest([result.spec.method, seeds]), result)
        if seeds and other is not result:
            reasons[place(result)] = (
                f"{name_of(result)} has the seeds of {name_of(other)}: one run counts once"
            )
    return reasons


def _minority(
    results: Sequence[Result], feature: Feature, complaint: Complaint
) -> dict[Place, str]:
    """The results without the most common feature, and why they do not fit.

    Raises:
        MsgmBenchError: The two most common are equally common.
    """
    features = [digest(feature(result)) for result in results]
    counts = Counter(features).most_common(2)
    if len(counts) < 2:
        return {}
    first, second = (results[features.index(value)] for value, _ in counts)
    if counts[0][1] == counts[1][1]:
        raise complaint(first, second)
    return {
        place(result): complaint(first, result).what
        for result, value in zip(results, features, strict=True)
        if value != counts[0][0]
    }


def _shared(result: Result) -> dict[str, Any]:
    """What is one over all results of a board."""
    return result.spec.model_dump(include={"dataset_params", "backbone_params"})


def _pass_items(result: Result) -> dict[str, Any]:
    """Items of one pass."""
    return {"pass_items": result.spec.settings.get("pass_items")}


def _own(result: Result) -> dict[str, Any]:
    """What is one over the seeds of a method."""
    return result.spec.model_dump(include={"params", "regime", "settings"})


def _meaning(result: Result, key: Quantity) -> dict[str, Any]:
    """What is one over all values of a quantity."""
    return {"meaning": meaning(result, key)}


def _complaint(feature: Feature) -> Complaint:
    def complain(a: Result, b: Result) -> MsgmBenchError:
        pairs = settings_diff(feature(a), feature(b)).items()
        differing = "; ".join(f"{key} is {x!r} against {y!r}" for key, (x, y) in pairs)
        return UsageError(
            f"{name_of(a)} and {name_of(b)} were run differently: {differing}",
            "the same options for all seeds of a method, and the same data and backbone",
            "run one of the two again",
        )

    return complain


def _code_differs(a: Result, b: Result) -> MsgmBenchError:
    differing = ", ".join(settings_diff(code(a), code(b)))
    return UsageError(
        f"{name_of(a)} and {name_of(b)} were made by different code of {differing}",
        "one version of the code for all seeds of a method",
        "run the older of the two again",
    )
