"""Folders of text-to-image models on pixels: U-Net, text encoder, tokenizer and scheduler."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from msgm_bench import DiscreteDDPM, IncompatibleError, Model, UsageError
from msgm_bench.storage import single_line
from msgm_bench.storage.cards import parse_card, short
from msgm_bench.storage.weights import boundary
from msgm_builtin.backbones.diffusers_io import SCHEDULE
from msgm_text.backbones.adapters import merge_lora
from msgm_text.backbones.pipeline_cards import (
    ConditionalUNetCard,
    ScheduleCard,
    TextEncoderCard,
)
from msgm_text.backbones.pipeline_io import part_card, read_part, schedule_card
from msgm_text.backbones.tokenizer import WordTokenizer
from msgm_text.backbones.vocabulary import Vocabulary, read_vocabulary

PARTS = ("unet", "text_encoder", "tokenizer", "scheduler")
LAYOUT = f"a folder of `msgm-bench export` with {', '.join(PARTS)}"
USAGE = """\
With `DIR` for this folder:

```python
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

unet = UNet2DConditionModel.from_pretrained("DIR", subfolder="unet")
text_encoder = CLIPTextModel.from_pretrained("DIR", subfolder="text_encoder")
tokenizer = CLIPTokenizer.from_pretrained("DIR", subfolder="tokenizer")
scheduler = DDIMScheduler.from_pretrained("DIR", subfolder="scheduler")

tokens = tokenizer([prompt], padding="max_length", return_tensors="pt").input_ids
hidden = text_encoder(tokens).last_hidden_state
output = unet(x_t, timestep, hidden).sample
```

Images are scaled to [-1, 1] and have no autoencoder, so there is no pipeline of diffusers for them.
The output is what the scheduler names: {prediction}.
"""
PART_USAGE = """\
The safetensors file has what moved of the base. With `BASE` for the run that trained the base, or
for its export, and `DIR` for this folder, `msgm-bench evaluate DIR --base BASE` scores it.
"""


class Folder(NamedTuple):
    """What a folder says of its model.

    Attributes:
        path: The folder.
        unet: The denoiser.
        text_encoder: CLIP's text encoder.
        schedule: Betas and prediction.
        vocabulary: The tokenizer.
    """

    path: Path
    unet: ConditionalUNetCard
    text_encoder: TextEncoderCard
    schedule: ScheduleCard
    vocabulary: Vocabulary

    def options(self) -> dict[str, Any]:
        """Options of t2i for such a model."""
        return {
            "network": "unet",
            "prediction": "epsilon" if self.schedule.prediction_type == "epsilon" else "v",
            "channels": self.unet.block_out_channels,
            "layers": self.unet.layers_per_block,
            "heads": self.unet.attention_head_dim,
            "text_width": self.text_encoder.hidden_size,
            "text_layers": self.text_encoder.num_hidden_layers,
            "text_heads": self.text_encoder.num_attention_heads,
            "tokens": self.vocabulary.card.length,
        }


def read_folder(source: str) -> Folder:
    """The cards in a folder.

    Raises:
        UsageError: It is no such folder.
        IncompatibleError: A card is of another network.
        StorageError: A file is damaged.
    """
    path = Path(source)
    absent = [part for part in PARTS if not (path / part).is_dir()]
    if absent:
        raise UsageError(f"{single_line(path)} has no {', '.join(absent)}", LAYOUT)
    inside = boundary(path)
    return Folder(
        path,
        part_card(path, "unet", ConditionalUNetCard),
        part_card(path, "text_encoder", TextEncoderCard),
        schedule_card(path / "scheduler" / SCHEDULE, inside),
        read_vocabulary(path / "tokenizer", inside),
    )


def read_weights(folder: Folder, model: Model) -> tuple[Mapping[str, Tensor], str]:
    """Weights by the network's names, and a hash of the files that hold them.

    Args:
        folder: What the folder says.
        model: The model of its options, on ``meta``.

    Raises:
        IncompatibleError: The folder says something that no option of t2i does.
        StorageError: A file is damaged.
    """
    network: Any = model.network
    name, process = single_line(folder.path), model.process
    assert isinstance(process, DiscreteDDPM)
    own = schedule_of(model, process)
    _compare(f"{name}: scheduler", folder.schedule, ScheduleCard(**own))
    text = network.text_encoder.config.to_dict()
    for part, card, config in (
        ("unet", folder.unet, dict(network.unet.config)),
        ("text_encoder", folder.text_encoder, text),
    ):
        known = {key: config[key] for key in type(card).model_fields if key in config}
        _compare(f"{name}: {part}", card, parse_card(known, type(card), part))
    tokenizer = model.prompts.tokenizer
    assert isinstance(tokenizer, WordTokenizer)
    if dict(folder.vocabulary.tokens) != tokenizer.clip.get_vocab():
        raise IncompatibleError(
            f"{name} was trained on a language of other words than the data's",
            "data whose prompts have the same words",
        )
    weights: dict[str, Tensor] = {}
    hashes = {}
    for part in ("unet", "text_encoder"):
        state, hashes[part] = read_part(folder.path, part, getattr(network, part))
        weights |= {f"{part}.{key}": tensor for key, tensor in state.items()}
    return weights, hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def save_folder(model: Model, process: DiscreteDDPM, tokenizer: WordTokenizer, folder: Path) -> str:
    """Write the parts as diffusers and transformers do; returns how to use them, in markdown."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    network: Any = copy.deepcopy(model.network)
    merge_lora(network)
    network.unet.save_pretrained(folder / "unet")
    network.text_encoder.save_pretrained(folder / "text_encoder")
    tokenizer.clip.save_pretrained(folder / "tokenizer")
    own = schedule_of(model, process)
    scheduler = DDIMScheduler(**own, clip_sample=False, set_alpha_to_one=False)
    scheduler.save_pretrained(folder / "scheduler")
    return USAGE.format(prediction=own["prediction_type"])


def schedule_of(model: Model, process: DiscreteDDPM) -> dict[str, Any]:
    """What a scheduler says of the model's training."""
    return {
        "num_train_timesteps": process.steps,
        "beta_start": process.beta_start,
        "beta_end": process.beta_end,
        "beta_schedule": "linear",
        "prediction_type": "epsilon" if model.prediction_type == "epsilon" else "v_prediction",
    }


def _compare(name: str, stored: Any, own: Any) -> None:
    """Refuse a card that differs from the own one in a field."""
    for key in type(own).model_fields:
        if getattr(stored, key) != getattr(own, key):
            raise IncompatibleError(
                f"{name} has {key} = {short(getattr(stored, key))}",
                f"{short(getattr(own, key))}, as t2i has it",
            )


def is_unet(network: nn.Module) -> bool:
    """Whether a denoiser is one that diffusers has."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return isinstance(network, UNet2DConditionModel)
