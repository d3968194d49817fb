"""How a run differs from the paper's, apart from its numbers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from msgm_bench import Result
from msgm_paper.mapping import CHOICES, Setting
from msgm_paper.tables import Cell

PRESET = "paper"
ALLOWED = {  # options that leave the preset alone, or that are compared by themselves
    *("--method", "--dataset", "--forget", "--backbone", "--regime", "--preset", "-p"),
    *("--seed", "--train-seed", "--unlearn-seed", "--sample-seed"),
    *("--device", "--compile", "--precision tf32"),  # PyTorch's convolutions were in TF32 then
}


def deviations(cell: Cell, asked: Setting, result: Result) -> tuple[str, ...]:
    """How a run of the right names differs from the paper's, in words."""
    spec, found = result.spec, []
    if spec.preset != PRESET:
        found.append(f"another budget: measured under the preset {spec.preset}")
    for name, stated in asked.params.items():
        if spec.params.get(name) != stated:
            found.append(f"{name} = {spec.params.get(name)}, in the paper {stated}")
    choice = CHOICES.get(cell.dataset)
    if choice and choice.task in ("", cell.task) and not choice.made(result):
        found.append(choice.reason)
    if others := overrides(cell, result):
        found.append(f"options beside the preset: {' '.join(others)}")
    elif spec.preset == PRESET and asked.method:
        steps = spec.settings.get("training", {}).get("steps")
        if asked.steps is not None and steps != asked.steps:
            found.append(f"another budget: {steps} training steps, in the paper {asked.steps}")
    return tuple(found)


def overrides(cell: Cell, result: Result) -> list[str]:
    """Options of the run's own command that change what the preset says of the cell's task."""
    command = result.provenance.get("command")
    if command is None:
        return ["unknown, since the result does not hold its command"]
    choice = CHOICES.get(cell.dataset)
    chosen = choice.options[1].partition("=")[0] if choice else None
    found = []
    for flag, value in _options(shlex.split(command)):
        key = value.partition("=")[0]
        elsewhere = flag == "-t" and key.partition(".")[0] != cell.task
        option = f"{flag} {value}".strip()
        if not {flag, option} & ALLOWED and key != chosen and not elsewhere:
            found.append(option)
    return found


def _options(words: Sequence[str]) -> list[tuple[str, str]]:
    """Flags of a command line with their values; the program's and the command's names go."""
    pairs: list[tuple[str, str]] = []
    for word in words[2:]:
        if word.startswith("-") or not pairs or pairs[-1][1]:
            pairs.append((word, ""))
        else:
            pairs[-1] = (pairs[-1][0], word)
    return pairs
