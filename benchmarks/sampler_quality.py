"""Quality of draws from trained models: samplers at small budgets against a reference.

For each model and each sampler several independent sets are drawn. A line has the Frechet distance
of a set to the training items in the judge's features and the share that the judge recognises:
mean over models and sets, standard deviation over sets of one model, and the difference to the
first sampler with its standard error over models and sets.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from stored_runs import CPU, load
from torch import Tensor

from msgm_bench import Judge, Model, Noise, Result, Sampler, derive_seed
from msgm_bench.experiment.evaluation_stages import JUDGE
from msgm_bench.registry import registry
from msgm_bench.storage.tensors import load_tensors
from msgm_builtin.metrics.frechet import Moments, frechet_distance

CHUNK = 1000


@dataclass(frozen=True)
class Choice:
    """A sampler, its budget and its further options: ``name:nfe[:key=value...]``."""

    text: str

    def create(self) -> Sampler:
        """The sampler."""
        name, nfe, *others = self.text.split(":")
        options: dict[str, object] = {"nfe": int(nfe)}
        for option in others:
            key, _, value = option.partition("=")
            options[key] = value
        return cast(Sampler, registry().create("samplers", name, options))


@dataclass(frozen=True)
class Subject:
    """A trained model, its judge, and the moments of the training items in the judge's features."""

    model: Model
    judge: Judge
    reference: Moments

    @classmethod
    def of(cls, run: Path) -> Subject:
        """What a run folder holds."""
        model, data, result = load(run)
        judge = _judge(result)
        judge.restore(data, load_tensors(run / "judge" / JUDGE), CPU)
        assert data.levels is not None, "the data are no images"
        real = (data.train.x + 0.5) / data.levels
        return cls(model, judge, moments(judge, real))

    def quality(self, sampler: Sampler, seed: int, count: int) -> tuple[float, float]:
        """Frechet distance of a set, and its recognised share in per cent."""
        parts = (
            sampler.sample(self.model, Noise(seed, start, min(CHUNK, count - start))).x
            for start in range(0, count, CHUNK)
        )
        x = self.model.codec.decode(torch.cat([*parts]))
        recognised = self.judge.predict(x).recognised.double().mean()
        return frechet_distance(moments(self.judge, x), self.reference), 100 * float(recognised)


def moments(judge: Judge, x: Tensor) -> Moments:
    """Moments of the judge's features of [0, 1] images."""
    parts = (judge.features(part) for part in x.split(CHUNK))
    return Moments.of(part for part in parts if part is not None)


def _judge(result: Result) -> Judge:
    options = dict(result.spec.settings["judge"])
    options.pop("weights", None)
    return cast(Judge, registry().create("judges", options.pop("name"), options))


def line(values: Tensor, first: Tensor) -> str:
    """Mean, deviation over sets, and difference to ``first``, of ``[models, sets]``."""
    difference = values.mean(1) - first.mean(1)
    variance = (values.var(1) / values.shape[1] + first.var(1) / first.shape[1]).mean()
    error = (variance / len(values)).sqrt()
    spread = values.var(1).mean().sqrt()
    return f"{values.mean():8.3f} {spread:6.3f} {difference.mean():+8.3f} +- {error:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each sampler."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, of one backbone")
    parser.add_argument(
        "--sampler", action="append", required=True, help="name:nfe[:key=value]; first: reference"
    )
    parser.add_argument("--sets", type=int, default=6, help="sets of each model and sampler")
    parser.add_argument("--first-sets", type=int, default=3, help="sets of the first sampler")
    parser.add_argument("--count", type=int, default=2000, help="draws of a set")
    c = parser.parse_args(arguments)
    subjects = [Subject.of(run) for run in c.runs]
    print(f"{len(subjects)} models, {c.count} draws a set; difference to {c.sampler[0]}")
    print(f"{'':<34}{'FID':>8} {'sd':>6} {'difference':>18}{'recog. %':>12} {'sd':>6}")
    first: Tensor | None = None
    for text in c.sampler:
        sampler, sets = Choice(text).create(), c.first_sets if first is None else c.sets
        seeds = [derive_seed(text, i) for i in range(sets)]
        rows = [[subject.quality(sampler, seed, c.count) for seed in seeds] for subject in subjects]
        values = torch.tensor(rows, dtype=torch.float64)  # [models, sets, 2]
        first = values if first is None else first
        fid, recognised = (line(values[..., k], first[..., k]) for k in (0, 1))
        print(f"{text:<34}{fid}  {recognised}", flush=True)


if __name__ == "__main__":
    main()
