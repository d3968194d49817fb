"""Deviations of a run from the paper's, apart from its numbers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from msgm_bench import Result
from msgm_paper.mapping import CHOICES, Setting
from msgm_paper.tables import PublishedValue

PRESET = "paper"
ALLOWED = {  # options that do not change the preset, or that are compared on their own
    *("--method", "--dataset", "--forget", "--backbone", "--regime", "--preset", "-p"),
    *("--seed", "--train-seed", "--unlearn-seed", "--sample-seed"),
    *("--device", "--compile", "--precision tf32"),  # PyTorch's convolutions were in TF32 then
}


def deviations(entry: PublishedValue, target: Setting, result: Result) -> tuple[str, ...]:
    """Deviations of a run of the right names from the paper's, in words."""
    spec, reasons = result.spec, []
    if spec.preset != PRESET:
        reasons.append(f"another budget: measured under the preset {spec.preset}")
    for name, stated in target.params.items():
        if spec.params.get(name) != stated:
            reasons.append(f"{name} = {spec.params.get(name)}, in the paper {stated}")
    choice = CHOICES.get(entry.dataset)
    if choice and choice.task in ("", entry.task) and not choice.is_made(result):
        reasons.append(choice.reason)
    if others := overrides(entry, result):
        reasons.append(f"options beside the preset: {' '.join(others)}")
    elif spec.preset == PRESET and target.method:
        steps = spec.settings.get("training", {}).get("steps")
        if target.steps is not None and steps != target.steps:
            reasons.append(f"another budget: {steps} training steps, in the paper {target.steps}")
    return tuple(reasons)


def overrides(entry: PublishedValue, result: Result) -> list[str]:
    """Options of the run's command that change the preset for the value's task."""
    command = result.provenance.get("command")
    if command is None:
        return ["unknown, since the result has no command"]
    choice = CHOICES.get(entry.dataset)
    chosen = choice.options[1].partition("=")[0] if choice else None
    options = []
    for flag, value in _options(shlex.split(command)):
        key = value.partition("=")[0]
        is_other_task = flag == "-t" and key.partition(".")[0] != entry.task
        option = f"{flag} {value}".strip()
        if not {flag, option} & ALLOWED and key != chosen and not is_other_task:
            options.append(option)
    return options


def _options(words: Sequence[str]) -> list[tuple[str, str]]:
    """Flags of a command line and their values, without the names of program and command."""
    pairs: list[tuple[str, str]] = []
    for word in words[2:]:
        if word.startswith("-") or not pairs or pairs[-1][1]:
            pairs.append((word, ""))
        else:
            pairs[-1] = (pairs[-1][0], word)
    return pairs
