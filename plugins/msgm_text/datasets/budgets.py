"""Budgets of captioned images in files, for text-to-image models that are trained from nothing."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, Any] = {  # two CPU cores: a test of the path, not a result
    "training": {
        "steps": 400,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "warmup_steps": 50,
        "lr_schedule": "cosine",
        "ema_decay": 0.99,
    },
    "finetuning": {
        "steps": 100,
        "learning_rate": 3e-4,
        "warmup_steps": 0,
        "lr_schedule": "constant",
    },
    "tasks": {"likelihood": {"count": 64, "batch_size": 128}},
}
FULL: dict[str, Any] = {  # one GPU, for t2i's U-Net
    "training": {
        "steps": 10_000,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "warmup_steps": 500,
        "lr_schedule": "cosine",
        "ema_decay": 0.999,
    },
    "finetuning": {
        "steps": 1000,
        "learning_rate": 1e-4,
        "warmup_steps": 0,
        "lr_schedule": "constant",
    },
}
