"""A tiny CLIP model with random weights, in open_clip's own format."""

from __future__ import annotations

import json

import torch
from lazy import LazyModule

from msgm_builtin.embedders.clip_files import CARD

open_clip = LazyModule("open_clip")

TOWER = {"width": 32, "layers": 1}
TINY = {
    "embed_dim": 16,
    "vision_cfg": TOWER | {"image_size": 16, "patch_size": 8, "head_width": 16},
    "text_cfg": TOWER | {"context_length": 24, "vocab_size": 49408, "heads": 2},
}
CODE = {"mean": [0.4, 0.5, 0.6], "std": [0.3, 0.2, 0.25], "interpolation": "bicubic"}


def write_clip(place, config=None):
    """Card and weights in the folder ``place``."""
    config = TINY if config is None else config
    (place / CARD).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": CODE}))
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    torch.save(model.state_dict(), place / "open_clip_pytorch_model.bin")
    return place
