"""scikit-learn's handwritten digits: real 8x8 images that need no download."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from msgm_bench import Data, Dataset, Examples, hookimpl

LEVELS = 17
TEST_EVERY = 4


class Digits(Dataset):
    """1,797 handwritten digits of 8x8 pixels and 17 grey levels, embedded in scikit-learn.

    Split: of each class, in the file's order, every fourth image is held out.
    """

    name = "digits"
    citation = "Alpaydin and Kaynak 1998, UCI optical recognition of handwritten digits, test part"
    default_preset = "quick"
    presets = {
        "quick": {
            "training": {
                "steps": 2000,
                "batch_size": 256,
                "learning_rate": 1e-3,
                "warmup_steps": 100,
                "lr_schedule": "cosine",
                "ema_decay": 0.995,
            },
            "finetuning": {"steps": 1000, "learning_rate": 5e-4},
            "backbone": {"network": "mlp", "width": 256, "depth": 3, "channels": (32, 64)},
            "judge": {"name": "classifier"},
            "tasks": {
                "generation": {"count": 4000, "batch_size": 2000},
                "class_generation": {"batch_size": 2000},
                "likelihood": {"repeats": 2},
            },
        },
        "full": {
            "training": {
                "steps": 50_000,
                "batch_size": 256,
                "learning_rate": 2e-4,
                "warmup_steps": 1000,
                "ema_decay": 0.9995,
            },
            "finetuning": {"steps": 20_000, "learning_rate": 1e-4},
            "backbone": {"network": "unet", "channels": (64, 128), "attention": (8,)},
            "judge": {"name": "classifier"},
            "tasks": {"likelihood": {"repeats": 5}},
        },
    }
    presets["paper"] = presets["full"]  # the paper does not use these digits

    def load(self) -> Data:
        """Read scikit-learn's copy."""
        from sklearn.datasets import load_digits  # takes a second, which others need not pay

        bunch = load_digits()
        x = torch.from_numpy(bunch.images).to(torch.uint8)[:, None]
        y = torch.from_numpy(bunch.target).long()
        test = held_out(y)
        return Data(
            train=Examples(x[~test], y[~test]),
            test=Examples(x[test], y[test]),
            classes=tuple(str(digit) for digit in range(10)),
            levels=LEVELS,
            protocol="digits/every-fourth@1",
        )


def held_out(y: Tensor) -> Tensor:
    """Mask of every fourth item of each class, in order."""
    mask = torch.zeros_like(y, dtype=torch.bool)
    for label in y.unique():
        mask[torch.nonzero(y == label).flatten()[TEST_EVERY - 1 :: TEST_EVERY]] = True
    return mask


@hookimpl
def register_datasets() -> Sequence[type[Dataset]]:
    """Digits."""
    return [Digits]
