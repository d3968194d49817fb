"""The judge of a run: which one, and whether it can judge the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from msgm_bench.api import Data, Judge, Settings, merge
from msgm_bench.errors import IncompatibleError, OptionError, StorageError, UsageError
from msgm_bench.experiment.components import create
from msgm_bench.experiment.spec import RunSpec
from msgm_bench.registry import registry


def judge_of(settings: Settings, spec: RunSpec, data: Data) -> Judge:
    """The judge that the user or the preset names, sure to be able to judge ``data``.

    A preset may name several judges: the first that the data suit is taken. Where the user names
    another one, the preset's options hold as far as it has them. The budget of the models is none
    of the judge's: all models of a dataset have the same one.

    Raises:
        UsageError: No judge is named, an option is wrong, or the data do not suit.
        StorageError: Weights that it reads from a file are missing or damaged.
    """
    defaults, options = dict(settings.judge), dict(spec.judge_params)
    preset = defaults.pop("name", ())
    choice = options.pop("name", None)
    names = names_in(preset if choice is None else choice)
    if not names:
        raise UsageError(
            f"no preset of dataset {spec.dataset!r} names a judge", "judge: {name: ...}, -j name="
        )
    strict = set(names) <= set(names_in(preset))
    errors: list[IncompatibleError] = []
    for name in names:
        judge = _create(name, defaults, options, strict)
        try:
            check_judge(judge, data)
        except IncompatibleError as error:
            errors.append(error)
        else:
            return judge
    raise errors[0]


def names_in(choice: Any) -> tuple[str, ...]:
    """One name or several.

    Raises:
        OptionError: It is neither.
    """
    names = (choice,) if isinstance(choice, str) else choice
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise OptionError(f"the judge's name is {choice!r}", "a name, or several to choose from")
    return tuple(names)


def _create(
    name: str, defaults: Mapping[str, Any], options: Mapping[str, Any], strict: bool
) -> Judge:
    cls = registry().entry("judges", name).cls
    if strict:
        return cast(Judge, cls.create(merge(defaults, options)))
    return cast(Judge, create(cls, defaults, options))


def check_judge(judge: Judge, data: Data) -> None:
    """Refuse a judge without its weights, or one that cannot judge ``data``.

    Raises:
        UsageError: It cannot judge such items.
        StorageError: Its weights are missing or damaged.
    """
    missing = judge.missing_weights()
    if missing is not None:
        raise StorageError(f"judge {judge.name!r}: {missing}")
    judge.check(data)


def judge_record(judge: Judge) -> dict[str, Any]:
    """Name, options, gate and weights, for the result's spec."""
    options = judge.options.model_dump(mode="json")
    weights = {"weights": judge.checksum()} if judge.checksum() else {}
    return {"name": judge.name, **options, **weights, "gate": judge.options.gate}
