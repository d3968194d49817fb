"""The command that a result states, where it is one of this program for that result's run.

The digest of a result leaves its provenance out, and a file can be edited: what is shown as a
command to copy must do no more than run this program. Whether it makes the very run of the result,
``board verify`` finds out.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from msgm_bench.api import Result

PROGRAM = "msgm-bench"


def stated_command(result: Result) -> str:
    """The command in the result's provenance, of its method, dataset and seed; else empty."""
    command = result.provenance.get("command")
    words = command_words(command)
    if words is None:
        return ""
    spec = result.spec
    named = {
        "--method": spec.method,
        "--dataset": spec.dataset,
        "--seed": str(spec.seed),
    }
    if words[1:2] == ["evaluate"]:
        del named["--method"]
    return str(command) if all(_has(words, *pair) for pair in named.items()) else ""


def command_words(text: object) -> list[str] | None:
    """The words of a command of this program, or None of anything else.

    A text that quotes as ``shlex.join`` does has nothing in it that a shell would act on.
    """
    if not isinstance(text, str):
        return None
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    is_own = words[:1] == [PROGRAM] and words[1:2] in (["run"], ["evaluate"])
    return words if is_own and shlex.join(words) == text else None


def _has(words: Sequence[str], flag: str, value: str) -> bool:
    """Whether ``flag`` is there once, with this value."""
    places = [i for i, word in enumerate(words) if word == flag]
    return len(places) == 1 and words[places[0] + 1 : places[0] + 2] == [value]
