"""``make gpu``'s profile runs on a CPU in its smallest sizes, and stands in the report."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def test_the_report_has_what_was_measured_and_on_what(tmp_path, monkeypatch):
    """Kernels with shares that decrease, pairs of choices, and a likelihood, in bf16 and fp32."""
    monkeypatch.syspath_prepend(SCRIPTS)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("gpu").main(
            ["--device", "cpu", "--smoke", "--out", str(tmp_path / "report")]
        )
    report = (tmp_path / "report" / "report.md").read_text("utf-8")
    assert not ended.value.code, report
    _, profile = report.split("\n## ")
    assert profile.startswith("Profile\n\npassed in ")
    hardware = re.findall(r"\d+ cores, \d+ threads, (\w+), torch", profile)
    assert hardware == ["bf16", "bf16", "fp32"]  # kernels, pairs, likelihood
    kernels = profile.partition("calls a step\n")[2].partition("all kernels")[0].splitlines()
    shares = [float(line[72:].split()[1]) for line in kernels]
    assert len(shares) == 12
    assert shares == sorted(shares, reverse=True)
    for pair in ("all kernels / deterministic ones", "contiguous / channels_last", "one head"):
        assert re.search(rf"^small, batch 2: .*{pair} +[\d.]+ +[\d.]+", profile, re.MULTILINE)
    assert re.search(r"likelihood of 2 images of 1x28x28 .*: [\d.]+ s, \d+ evaluations", profile)
