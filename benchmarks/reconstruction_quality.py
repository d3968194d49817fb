"""PSNR of images that went to their latents and back: ways there and back, at several budgets.

Held-out images, the perturbation of the task ``reconstruction`` (t = 0.02) in its latent, half of
the budget each way. A line has the mean PSNR over images and models, its standard deviation over
several draws of the perturbation, and the difference to the first line.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from stored_runs import load
from torch import Tensor

from msgm_bench import AdamsEncoder, HeunEncoder, Model, Noise, Sampler, Samples, reconstruct_latent
from msgm_bench.registry import registry

T = 0.02


def psnr(model: Model, x: Tensor, encoder: str, decoder: str, nfe: int, seed: int) -> float:
    """Mean PSNR in dB of images x in model space."""
    encode = AdamsEncoder(nfe // 2) if encoder == "adams" else HeunEncoder(nfe // 4)
    name, *grid = decoder.split(":")
    options = {"nfe": nfe // 2} | ({"grid": grid[0]} if grid else {})
    sampler = cast(Sampler, registry().create("samplers", name, options))

    def decode(latent: tuple[Tensor, float], noise: Noise) -> Samples:
        return sampler.sample(model, noise, latent)

    noise = Noise(seed, 0, len(x))
    back = reconstruct_latent(encode, decode, model.eps_fn, model.process, x, T, noise).x
    error = (model.codec.decode(back) - model.codec.decode(x)).square().flatten(1).mean(1)
    return float((-10 * error.clamp_min(1e-12).log10()).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, of one backbone")
    parser.add_argument(
        "--way", action="append", required=True, help="ENCODER/DECODER[:GRID]/NFE, first: reference"
    )
    parser.add_argument("--sets", type=int, default=4, help="draws of the perturbation")
    c = parser.parse_args(arguments)
    pairs = []
    for run in c.runs:
        model, data, _ = load(run)
        centres = torch.full((len(data.test), *model.shape), 0.5)
        pairs.append((model, model.codec.encode(data.test.x, centres)))
    print(f"{len(pairs)} models, {len(pairs[0][1])} images; dB")
    print(f"{'':<28}{'PSNR':>8}{'sd':>8}{'difference':>12}")
    first = None
    for text in c.way:
        encoder, decoder, nfe = text.split("/")
        rows = [
            [psnr(model, x, encoder, decoder, int(nfe), seed) for seed in range(c.sets)]
            for model, x in pairs
        ]
        values = torch.tensor(rows, dtype=torch.float64)
        first = float(values.mean()) if first is None else first
        spread = values.std(1).mean()
        print(f"{text:<28}{values.mean():8.2f}{spread:8.3f}{values.mean() - first:+12.2f}")


if __name__ == "__main__":
    main()
