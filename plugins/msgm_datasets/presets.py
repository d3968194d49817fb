"""Networks and budgets of the image datasets, whatever the backbone.

``paper`` follows the MSGM authors' configurations as far as they published any: score_sde's
``ddpm`` U-Net (128 channels times 1, 2, 2, 2; two residual blocks; attention at 16 px; dropout
0.1), Adam at 2e-4 with 5,000 steps of warm-up, gradients clipped at 1, an average of decay
0.9999, and 80,000 steps of fine-tuning. For CIFAR-10 they state 660,000 steps of 400 items a
split; where they state nothing, score_sde's 128 items and 1,300,000 steps stand.
"""

from __future__ import annotations

from typing import Any

Preset = dict[str, Any]

CLASSES, ATTRIBUTES = "classifier", "attributes"  # judges
RESTORING = ("inpainting", "reconstruction")


def presets_28() -> dict[str, Preset]:
    """28x28 grey, or 32x32 with the margin: 28 halves only twice."""
    return {
        "quick": quick(CLASSES),
        "standard": standard(CLASSES, (128, 256, 256), (14, 16), batch=500),
        "paper": paper(CLASSES, (128, 256, 256), (14, 16), batch=500),
    }


def presets_cifar10() -> dict[str, Preset]:
    """32x32 colour."""
    stated = {"steps": 660_000, "batch_size": 400}
    return {
        "quick": quick(CLASSES),
        "standard": standard(CLASSES, batch=500),
        "paper": paper(CLASSES, batch=500, training=stated),
    }


def presets_stl10() -> dict[str, Preset]:
    """64x64 colour, ten classes."""
    return {
        "quick": quick_64(CLASSES),
        "standard": standard(CLASSES, batch=250),
        "paper": paper(CLASSES, batch=250),
    }


def presets_celeba() -> dict[str, Preset]:
    """64x64 colour, forty attributes."""
    return {
        "quick": quick_64(ATTRIBUTES),
        "standard": standard(ATTRIBUTES, batch=250),
        "paper": paper(ATTRIBUTES, batch=250),
    }


def presets_folder() -> dict[str, Preset]:
    """A user's images, of any size that halves twice."""
    whole = {
        "standard": standard(CLASSES, (128, 256, 256), batch=250),
        "paper": paper(CLASSES, (128, 256, 256), batch=250),
    }
    return {"quick": quick_64(CLASSES), **whole}


def quick(
    judge: str, generated: int = 2000, scored: int = 500, restored: int = 250, tol: float = 1e-3
) -> Preset:
    """Two CPU cores; the numbers mean little, the path is the real one."""
    few = {"count": restored, "batch_size": 125}
    return {
        "training": {
            "steps": 400,
            "batch_size": 64,
            "learning_rate": 5e-4,
            "warmup": 50,
            "decay": "cosine",
            "ema": 0.99,
        },
        "finetuning": {"steps": 200, "learning_rate": 2e-4},
        "backbone": {"channels": (32, 64, 64), "layers": 1, "attention": (), "dropout": 0.0},
        "judge": {"name": judge},
        "tasks": {
            "generation": {"count": generated, "batch_size": 250},
            "class_generation": {
                "per_class": generated // 20,
                "forgotten": generated // 4,
                "batch_size": 250,
            },
            "likelihood": {"count": scored, "batch_size": 125, "rtol": tol, "atol": tol},
            **dict.fromkeys(RESTORING, few),
        },
    }


def quick_64(judge: str) -> Preset:
    """The same for 64x64 colour, where a step costs five times as much as at 28x28 grey."""
    return quick(judge, generated=500, scored=100, restored=100, tol=1e-2)


def standard(
    judge: str,
    channels: tuple[int, ...] = (128, 256, 256, 256),
    attention: tuple[int, ...] = (16,),
    batch: int = 500,
) -> Preset:
    """Hours on one GPU."""
    return {
        "training": {
            "steps": 100_000,
            "batch_size": 128,
            "learning_rate": 2e-4,
            "warmup": 2500,
            "ema": 0.9995,
        },
        "finetuning": {"steps": 20_000, "learning_rate": 1e-4},
        "backbone": {"channels": channels, "layers": 2, "attention": attention, "dropout": 0.1},
        "judge": judged(judge),
        "tasks": {
            "generation": {"batch_size": batch},
            "class_generation": {"batch_size": batch},
            "likelihood": {"count": 2000, "batch_size": batch // 2},
            **{task: {"count": 1000, "batch_size": batch} for task in RESTORING},
        },
    }


def paper(
    judge: str,
    channels: tuple[int, ...] = (128, 256, 256, 256),
    attention: tuple[int, ...] = (16,),
    batch: int = 500,
    training: Preset | None = None,
) -> Preset:
    """The paper's budgets; ``training`` is what it states for the dataset."""
    return {
        "training": {
            "steps": 1_300_000,
            "batch_size": 128,
            "learning_rate": 2e-4,
            "warmup": 5000,
            "clip": 1.0,
            "ema": 0.9999,
            **(training or {}),
        },
        "finetuning": {"steps": 80_000},
        "backbone": {"channels": channels, "layers": 2, "attention": attention, "dropout": 0.1},
        "judge": judged(judge),
        "tasks": {
            "generation": {"count": 10_000, "batch_size": batch},
            "class_generation": {"batch_size": batch},
            "likelihood": {"count": 10_000, "batch_size": batch // 2, "repeats": 5},
            **{task: {"count": 10_000, "batch_size": batch} for task in RESTORING},
        },
    }


def judged(name: str) -> Preset:
    """A judge at its full size."""
    return {"name": name} | ({"width": 64, "steps": 20_000} if name == CLASSES else {})
