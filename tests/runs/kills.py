"""Runs that are killed at random moments and repeated until they end: equal values, no litter.

``python tests/runs/kills.py 60`` kills 60 times; the tests kill a handful of times.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]
import cli_harness  # noqa: E402

PHASES = ("train", "draw", "measure", "publish")
CHUNKS = ("-t", "generation.batch_size=8", "-t", "likelihood.batch_size=16")
CONFIGURATIONS = {
    "from scratch": cli_harness.tiny(*CHUNKS, method="obt"),
    "from a base": cli_harness.tiny(*CHUNKS, "--regime", "finetune", method="salun"),
    "class-conditional": cli_harness.tiny(*CHUNKS, "--conditional", method="standard"),
}
ENVIRONMENT = {"WITH_PICTURES": "1", "PROBE_CHECKPOINT": "-1"}
POLL = 0.01  # seconds between two looks at a process


class Repeated:
    """One run in a cache and a folder of its own, which may be killed and repeated.

    Args:
        arguments: Of ``msgm-bench``.
        place: Folder for all that it leaves.
        probe: Folder of the tests' plugin, which writes down the life-cycle events.
    """

    def __init__(self, arguments: list[str], place: Path, probe: Path) -> None:
        self.arguments = [*arguments, "--out", str(place / "runs")]
        self.place, self.probe, self.log = place, probe, place / "log"

    def start(self) -> cli_harness.Child:
        """The command in a process of its own."""
        self.log.write_text("")
        self._read, self._phase = 0, ""
        env = ENVIRONMENT | {
            "MSGM_BENCH_CACHE": str(self.place / "cache"),
            "PROBE_LOG": str(self.log),
            "MSGM_BENCH_PLUGINS": cli_harness.FAST_PLUGINS,
        }
        return cli_harness.Child(self.arguments, env, self.probe, self.place / "output")

    def phase(self) -> str:
        """In which phase the process is, by its last event."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            lines = file.read().split(b"\n")
        self._read += sum(len(line) + 1 for line in lines[:-1])  # the last one is not whole yet
        for kind, *rest in map(json.loads, lines[:-1]):
            if kind == "stage_started":
                self._phase = rest[0].split()[0]
            elif kind == "stage_ended":
                self._phase = "publish" if rest[0] == "measure" else ""
        return self._phase

    def run(self) -> dict[str, float]:
        """To the end: seconds in each phase."""
        child, seconds = self.start(), dict.fromkeys(PHASES, 0.0)
        before = time.monotonic()
        while child.process.is_alive():
            time.sleep(POLL)
            now, phase = time.monotonic(), self.phase()
            if phase in seconds:
                seconds[phase] += now - before
            before = now
        assert child.code() == 0, child.output.read_text("utf-8")
        child.process.close()
        return seconds

    def kill(self, phase: str, delay: float) -> bool:
        """Repeat, and kill ``delay`` seconds after ``phase`` begins; whether it was killed."""
        child = self.start()
        while child.process.is_alive() and self.phase() != phase:
            time.sleep(POLL)
        child.process.join(delay)
        child.process.kill()
        code = child.code()
        child.process.close()
        assert code in (0, -signal.SIGKILL), child.output.read_text("utf-8")
        return code != 0

    def values(self) -> object:
        """Metric rows of the one result."""
        return cli_harness.only(self.place / "runs")["metrics"]

    def files(self) -> set[str]:
        """Names of all that lies in the run folder."""
        (folder,) = (self.place / "runs").iterdir()
        return {str(path.relative_to(folder)) for path in folder.rglob("*")}

    def litter(self) -> list[Path]:
        """What should not be there: hidden files, and unfinished stages."""
        hidden = [path for path in self.place.rglob(".*") if path.name != ".writable"]
        return [*hidden, *(self.place / "cache" / "partial").iterdir()]

    def clear(self) -> None:
        """Forget everything."""
        for name in ("cache", "runs"):
            shutil.rmtree(self.place / name, ignore_errors=True)


def kill_and_compare(name: str, cycles: int, place: Path, probe: Path, seed: int) -> int:
    """Kill once in each phase, ``cycles`` times, each time to the end: the number of kills.

    Raises:
        AssertionError: Values differ from those of a run that was not killed, or litter is left.
    """
    random_ = random.Random(seed)
    first, second = place / "unkilled", place / "killed"
    first.mkdir(parents=True)
    second.mkdir()
    unkilled = Repeated(CONFIGURATIONS[name], first, probe)
    seconds, kills = unkilled.run(), 0
    repeated = Repeated(CONFIGURATIONS[name], second, probe)
    for _ in range(cycles):
        for phase in PHASES:
            kills += repeated.kill(phase, random_.uniform(0, seconds[phase]))
        repeated.run()
        assert repeated.values() == unkilled.values(), f"{name}: other values after kills"
        assert repeated.files() == unkilled.files(), f"{name}: other files after kills"
        assert not repeated.litter(), f"{name}: {repeated.litter()}"
        repeated.clear()
    return kills


def main(wanted: int) -> None:
    """Kill ``wanted`` times in all, in turn in each configuration."""
    source = (cli_harness.THIRD_PARTY / "third_party_probe.py").read_text("utf-8")
    kills = cycle = 0
    with tempfile.TemporaryDirectory() as place:
        probe = Path(place) / "site"
        probe.mkdir()
        cli_harness.write_distribution(
            probe, "third-party-probe", "third_party_probe", source, "third_party.probe"
        )
        while kills < wanted:
            for name in CONFIGURATIONS:
                folder = Path(place) / f"{name}-{cycle}"
                kills += kill_and_compare(name, 2, folder, probe, cycle)
                sys.stdout.write(f"{name}: {kills} kills so far, equal values, no litter\n")
                sys.stdout.flush()
                cycle += 1


if __name__ == "__main__":
    main(int(sys.argv[1]))
