"""Harness of tests that run commands: tiny requests, third-party plugins, child processes."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgm_bench import registry

THIRD_PARTY = Path(__file__).parent / "third_party"

# plugins of the tiny runs below, and third-party ones: other metrics take longer than the run
FAST_PLUGINS = ",".join(
    [
        *("datasets.gaussians", "datasets.digits", "backbones.*", "samplers.*", "methods.*"),
        *("tasks.generation", "tasks.likelihood", "judges.bayes", "judges.classifier"),
        *("metrics.unlearning_ratio", "metrics.nll", "executors.*", "trackers.*", "third_party.*"),
    ]
)
TINY = (
    *("--dataset", "gaussians", "--forget", "middle", "--backbone", "vesde"),
    *("--steps", "20", "--samples", "32", "-d", "train_size=500", "-d", "test_size=500"),
    *("-b", "width=16", "-b", "depth=1"),
    *("-t", "likelihood.rtol=1e-2", "-t", "likelihood.atol=1e-2"),
)


def tiny(*arguments, method="obt", out="runs"):
    """A ``run`` of one second; ``method`` may be several."""
    methods = [method] if isinstance(method, str) else method
    options = [part for name in methods for part in ("--method", name)]
    return ["run", *TINY, *options, "--out", str(out), *map(str, arguments)]


def results(out):
    """Every ``result.json`` under ``out``, by method and seed."""
    documents = {}
    for path in sorted(Path(out).rglob("result.json")):
        result = json.loads(path.read_text("utf-8"))
        documents[result["spec"]["method"], result["spec"]["seed"]] = result
    return documents


def only(out):
    """The one ``result.json`` under ``out``."""
    (result,) = results(out).values()
    return result


def write_distribution(place: Path, name: str, module: str, source: str, *entries: str) -> None:
    """Write an installed distribution: a module, and the dist-info as pip writes it."""
    (place / f"{module}.py").write_text(source, encoding="utf-8")
    info = place / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = [f"{entry} = {module}" for entry in entries]
    (info / "entry_points.txt").write_text("\n".join(["[msgm_bench]", *lines, ""]))
    (info / "RECORD").write_text("")
    importlib.invalidate_caches()


def known_distributions(original=registry.installed):
    """Entry points of msgm-bench and of the tests' own distributions, without the user's."""
    names = ("msgm-bench", "third-party")
    return [e for e in original() if registry.provenance_of(e).distribution.startswith(names)]


def draw_nothing(*arguments):
    """Replace the pictures of a run folder, which take longer than the tiny run itself."""


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "msgm_bench.cli.run_and_show",
        "msgm_bench.boards",
        "msgm_builtin.backbones.base",
        "msgm_builtin.datasets.digits",
    ]
)


def _child(arguments: Sequence[str], env: Mapping[str, str], path: str, output: str) -> None:
    sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.environ.update(env)
    sys.path.insert(0, path)
    registry.installed = known_distributions
    from msgm_bench.cli import main
    from msgm_bench.report import run_folder

    if "WITH_PICTURES" not in os.environ:
        run_folder._draw_pictures = draw_nothing
    code = main.call(list(arguments))
    sys.stdout.flush()
    os._exit(code)


class Child:
    """A command in a process of its own, which may be killed.

    Args:
        arguments: Of ``msgm-bench``.
        env: Environment on top of this process's.
        path: Folder that is put on ``sys.path``.
        output: File for stdout and stderr.
    """

    def __init__(self, arguments, env: Mapping[str, str], path: Path, output: Path) -> None:
        self.output = output
        parameters = (list(arguments), dict(os.environ) | dict(env), str(path), str(output))
        self.process = CONTEXT.Process(target=_child, args=parameters)
        self.process.start()

    def code(self) -> int:
        """The exit code; minus the signal's number of a killed process."""
        self.process.join(120)
        assert self.process.exitcode is not None, self.output.read_text("utf-8")
        return self.process.exitcode
