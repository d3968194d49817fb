"""Named checks of a plugin: each passes, fails with a sentence, or is skipped for a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from msgm_bench.errors import MsgmBenchError, PluginError
from msgm_bench.quarantine import quarantined

Status = Literal["passed", "failed", "skipped"]
PASSED: tuple[Status, str] = ("passed", "")


class Case(Protocol):
    """A plugin class under check, with its options and what several checks compute from it."""

    @property
    def cls(self) -> Any:
        """The class."""

    def obstacle(self) -> str | None:
        """Reason to skip every check that needs an instance (files that are not here), or None."""


CaseT = TypeVar("CaseT", bound=Case, contravariant=True)


class Function(Protocol[CaseT]):
    """The body of a check."""

    def __call__(self, case: CaseT, /) -> str | None:
        """None where ``case`` passes, or the reason to skip it.

        Raises:
            AssertionError: It fails; the message is one sentence on what is wrong.
        """


@dataclass(frozen=True)
class Check(Generic[CaseT]):
    """One point of a conformance kit.

    Attributes:
        name: A short field word, unique within the kit of a kind.
        description: What holds where it passes, one line.
        function: The body.
        static: Whether it reads the class alone: it runs where weights or files are missing, too.
    """

    name: str
    description: str
    function: Function[CaseT]
    static: bool = False


@dataclass(frozen=True)
class Outcome:
    """The verdict of one check.

    Attributes:
        name: Of the check.
        description: Of the check.
        status: ``passed``, ``failed`` or ``skipped``.
        reason: What is wrong, or why it was skipped; empty where it passed.
    """

    name: str
    description: str
    status: Status
    reason: str = ""


def require(checks: Sequence[Check[CaseT]], case: CaseT) -> None:
    """Run every check, for a test.

    Raises:
        AssertionError: The first one that fails, or what keeps the plugin from being checked here.
    """
    static = [check for check in checks if check.static]
    for check in static:
        check.function(case)
    reason = case.obstacle()
    assert reason is None, f"{case.cls.name}: cannot be checked here: {reason}"
    for check in checks:
        if not check.static:
            check.function(case)


def outcomes(checks: Sequence[Check[CaseT]], case: CaseT) -> Iterator[Outcome]:
    """The verdict of every check, one after another, whatever becomes of the others.

    What the plugin prints meanwhile goes to stderr; whatever it raises is a failure.
    """
    hindrance: tuple[Status, str] | None = None
    for check in checks:
        status, reason = PASSED
        if not check.static:
            hindrance = hindrance or _tried(type(case).obstacle, case)
            status, reason = hindrance
        if status == "passed":
            status, reason = _tried(check.function, case)
        yield Outcome(check.name, check.description, status, reason)


def _tried(function: Callable[[CaseT], str | None], case: CaseT) -> tuple[Status, str]:
    """Status and reason of one function."""
    try:
        with quarantined():
            try:
                reason = function(case)
            except AssertionError as error:
                return "failed", in_one_line(error) or "an assertion of the plugin's own fails"
            except MsgmBenchError as error:
                return "failed", in_one_line(error)
    except PluginError as error:
        return "failed", error.what
    return PASSED if reason is None else ("skipped", reason)


def in_one_line(error: Exception) -> str:
    """The parts of a message that have lines of their own, one after another."""
    return "; ".join(str(error).splitlines())
