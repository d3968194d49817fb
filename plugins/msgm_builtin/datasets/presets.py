"""Networks and budgets of the image datasets, whatever the backbone.

``paper`` follows the MSGM authors' configurations as far as they published any: score_sde's
``ddpm`` U-Net (128 channels times 1, 2, 2, 2; two residual blocks; attention at 16 px; dropout
0.1), Adam at 2e-4 with 5,000 steps of warm-up, gradients clipped at 1, an average of decay
0.9999, and 80,000 steps of fine-tuning that goes on with the raw weights and Adam's state. Their
batches hold 400 (CIFAR-10), 200 (STL-10) and 150 (CelebA) items a split, and for CIFAR-10 they
state 660,000 steps; where they state nothing, score_sde's 128 items and 1,300,000 steps stand.
"""

from __future__ import annotations

from typing import Any

Preset = dict[str, Any]
Names = str | tuple[str, ...]

CLASSES, ATTRIBUTES = "classifier", "attributes"  # judges
EITHER = (CLASSES, ATTRIBUTES)  # the first that the labels suit
RESTORATION_TASKS = ("inpainting", "reconstruction")


def presets_28(gate: float) -> dict[str, Preset]:
    """28x28 grey, or 32x32 with the margin: 28 halves only twice.

    Args:
        gate: Least accuracy of the judge.
    """
    presets = {
        "quick": quick(CLASSES),
        "full": full(CLASSES, (128, 256, 256), (14, 16), batch=500),
        "paper": paper(CLASSES, (128, 256, 256), (14, 16), batch=500),
    }
    for preset in presets.values():
        preset["judge"]["gate"] = gate
    return presets


def presets_cifar10() -> dict[str, Preset]:
    """32x32 colour."""
    stated = {"steps": 660_000, "batch_size": 400}
    return {
        "quick": quick(CLASSES),
        "full": full(CLASSES, batch=500),
        "paper": paper(CLASSES, batch=500, training=stated),
    }


def presets_stl10() -> dict[str, Preset]:
    """64x64 colour, ten classes."""
    return {
        "quick": quick_64(CLASSES),
        "full": full(CLASSES, batch=250),
        "paper": paper(CLASSES, batch=250, training={"batch_size": 200}),
    }


def presets_celeba() -> dict[str, Preset]:
    """64x64 colour, forty attributes."""
    return {
        "quick": quick_64(ATTRIBUTES),
        "full": full(ATTRIBUTES, batch=250),
        "paper": paper(ATTRIBUTES, batch=250, training={"batch_size": 150}),
    }


def presets_folder() -> dict[str, Preset]:
    """A user's images, of any size that halves twice."""
    whole = {
        "full": full(EITHER, (128, 256, 256), batch=250),
        "paper": paper(EITHER, (128, 256, 256), batch=250),
    }
    return {"quick": quick_64(EITHER), **whole}


def quick(
    judge: Names,
    steps: int = 1600,
    generated: int = 500,
    scored: int = 128,
    restored: int = 125,
) -> Preset:
    """Two CPU cores, at most 64 network evaluations an item: a test of the path, not a result."""
    restoration = {"count": restored, "batch_size": 125}
    return {
        "training": {
            "steps": steps,
            "batch_size": 64,
            "learning_rate": 5e-4,
            "warmup_steps": 50,
            "lr_schedule": "cosine",
            "ema_decay": 0.99,
        },
        "finetuning": {"steps": steps // 4, "learning_rate": 2e-4},
        "backbone": {"channels": (32, 64, 64), "layers": 1, "attention": (), "dropout": 0.0},
        "judge": {"name": judge, "width": 16, "steps": 1500},
        "tasks": {
            "generation": {"count": generated, "batch_size": 250},
            "class_generation": {
                "per_class": generated // 20,
                "per_forget_class": generated // 4,
                "batch_size": 250,
            },
            "likelihood": {"count": scored, "batch_size": 128},
            "inpainting": restoration,
            "reconstruction": restoration | {"nfe": 64},
        },
    }


def quick_64(judge: Names) -> Preset:
    """The same for 64x64 colour, where a step costs five times as much as at 28x28 grey."""
    return quick(judge, steps=400, generated=250, scored=64, restored=50)


def full(
    judge: Names,
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
            "warmup_steps": 2500,
            "ema_decay": 0.9995,
        },
        "finetuning": {"steps": 20_000, "learning_rate": 1e-4},
        "backbone": {"channels": channels, "layers": 2, "attention": attention, "dropout": 0.1},
        "judge": full_judge(judge),
        "tasks": {
            "generation": {"batch_size": batch},
            "class_generation": {"batch_size": batch},
            "likelihood": {"count": 2000, "batch_size": batch // 2},
            **{task: {"count": 1000, "batch_size": batch} for task in RESTORATION_TASKS},
        },
    }


def paper(
    judge: Names,
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
            "warmup_steps": 5000,
            "max_grad_norm": 1.0,
            "ema_decay": 0.9999,
            **(training or {}),
        },
        "finetuning": {"steps": 80_000, "continue_optimizer": True},
        "backbone": {"channels": channels, "layers": 2, "attention": attention, "dropout": 0.1},
        "judge": full_judge(judge),
        "tasks": {
            "generation": {"count": 10_000, "batch_size": batch},
            "class_generation": {"batch_size": batch},
            "likelihood": {"count": 10_000, "batch_size": batch // 2, "repeats": 5},
            **{task: {"count": 10_000, "batch_size": batch} for task in RESTORATION_TASKS},
        },
    }


def full_judge(name: Names) -> Preset:
    """A judge at its full size: the blocks of a ResNet-18."""
    return {"name": name, "width": 64, "blocks": (2, 2, 2, 2), "steps": 20_000}
