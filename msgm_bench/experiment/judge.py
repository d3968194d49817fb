"""The judge of a cell: which one, whether it can judge the data, and whether to trust it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from msgm_bench.api import Data, Judge, MetricProtocol, Row, Settings, merge
from msgm_bench.errors import IncompatibleError, OptionError, StorageError, UsageError
from msgm_bench.experiment.components import create
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.registry import registry


def judge_of(settings: Settings, spec: RunSpec, data: Data) -> Judge:
    """The judge that the user or the preset names, sure to be able to judge ``data``.

    A preset may name several judges: the first that the data suit is taken. Where the user names
    another one, the preset's options hold as far as it has them.

    Raises:
        UsageError: No judge is named, an option is wrong, or the data do not suit.
        StorageError: Weights that it reads from a file are missing or damaged.
    """
    defaults, given = dict(settings.judge), dict(spec.judge_params)
    preset = defaults.pop("name", ())
    named = given.pop("name", None)
    names = names_in(preset if named is None else named)
    if not names:
        raise UsageError(
            f"no preset of dataset {spec.dataset!r} names a judge", "judge: {name: ...}, -j name="
        )
    strict = set(names) <= set(names_in(preset))
    refused: list[IncompatibleError] = []
    for name in names:
        judge = _made(name, defaults, given, spec.steps, strict)
        try:
            return checked(judge, data)
        except IncompatibleError as error:
            refused.append(error)
    raise refused[0]


def names_in(given: Any) -> tuple[str, ...]:
    """One name or several.

    Raises:
        OptionError: It is neither.
    """
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise OptionError(f"the judge's name is {given!r}", "a name, or several to choose from")
    return tuple(names)


def _made(
    name: str,
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
    steps: int | None,
    strict: bool,
) -> Judge:
    cls = registry().entry("judges", name).cls
    if steps is not None and "steps" in cls.options_type.model_fields:
        given = {"steps": steps, **given}
    made = cls.create(merge(defaults, given)) if strict else create(cls, defaults, given)
    return cast(Judge, made)


def checked(judge: Judge, data: Data) -> Judge:
    """The judge, if it has its weights and can judge ``data``.

    Raises:
        UsageError: It cannot judge such items.
        StorageError: Its weights are missing or damaged.
    """
    missing = judge.missing()
    if missing is not None:
        raise StorageError(f"judge {judge.name!r}: {missing}")
    judge.check(data)
    return judge


def record(judge: Judge) -> dict[str, Any]:
    """Name, options, gate and weights, for the result's spec."""
    options = judge.options.model_dump(mode="json")
    weights = {"weights": judge.checksum()} if judge.checksum() else {}
    return {"name": judge.name, **options, **weights, "gate": judge.options.gate}


def doubt(judge: Judge, targets: Sequence[int]) -> str | None:
    """Why values that rest on the fitted judge are stamped, or None."""
    quality, gate = judge.quality(targets), judge.options.gate
    if quality is not None and quality >= gate:
        return None
    found = "could not be measured" if quality is None else f"is {quality:.2%}"
    return f"the judge {judge.name!r} misses its gate: {judge.criterion} {found}, asked {gate:.2%}"


def stamped(rows: Iterable[Row], protocol: MetricProtocol, doubt: str | None) -> list[Row]:
    """The rows, those with a value stamped where the protocol rests on a judge in doubt."""
    if doubt is None or "judge" not in protocol.settings:
        return list(rows)
    return [row if row.value is None else row.model_copy(update={"stamp": doubt}) for row in rows]
