"""LoRA: low-rank weights beside those of a U-Net's attention."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from msgm_bench import Model, OptionError
from msgm_bench.storage.tensors import save_tensors
from msgm_text.backbones.parts import named_parts
from msgm_text.extra import require_text

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
PART, NAME = re.compile(r"lora:([1-9][0-9]{0,3})"), "default"
LORA = re.compile(rf"unet\.(.+)\.lora_([AB])\.{NAME}\.weight")
FILE = "pytorch_lora_weights.safetensors"
USAGE = """\
With `BASE` for the pipeline that the run started from, and `DIR` for this folder:

```python
from diffusers import StableDiffusionPipeline
{imports}
pipeline = StableDiffusionPipeline.from_pretrained(BASE)
{line}
```

`msgm-bench evaluate DIR --base BASE` scores it.
"""


def add_lora(model: Model, part: str) -> None:
    """Add W x + B A x, with B = 0, to queries, keys, values and outputs of every attention.

    A is ``[R, d]`` of Kaiming's uniform distribution from torch's random state, B ``[d, R]``, and
    alpha is R, so that the scale is 1. The model's part ``lora:R`` are all A and B.

    Args:
        model: A model whose network has a ``unet`` under Stable Diffusion's names.
        part: ``lora:R``, with the rank R from 1 to 9,999.

    Raises:
        OptionError: The name is no ``lora:R``, or the model has another LoRA.
        UsageError: The extra ``[text]`` is not installed.

    Source: Hu et al. 2022, arXiv:2106.09685, section 4.1.
    """
    match = PART.fullmatch(part)
    if match is None:
        known = (*model.parts, "all", "lora:R")
        raise OptionError(f"weights={part!r}: the network has no such part", ", ".join(known))
    if lora_names(model.network):
        raise OptionError(f"weights={part!r} for a model that has a LoRA already", "one LoRA")
    require_text()
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds

    unet: Any = model.network.unet
    rank = int(match[1])
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS))
    inject_adapter_in_model(config, unet, adapter_name=NAME)
    names = lora_names(model.network)
    parts = named_parts(model.network)
    model.parts = {name: frozenset(members) - names for name, members in parts.items()}
    model.parts[part] = names


def lora_names(network: nn.Module) -> frozenset[str]:
    """Names of the parameters A and B."""
    return frozenset(name for name, _ in network.named_parameters() if LORA.fullmatch(name))


def save_part(state: Mapping[str, Tensor], folder: Path) -> str:
    """Write trained weights for diffusers: a LoRA as it writes one, others under its names.

    Args:
        state: Weights by the network's names, all of a LoRA, of ``unet`` or of ``text_encoder``.
        folder: An empty folder.

    Returns:
        How to load the file, in markdown.
    """
    factors = {match: name for name in state if (match := LORA.fullmatch(name))}
    if factors:
        save_lora({match: state[name] for match, name in factors.items()}, folder)
        return USAGE.format(line="pipeline.load_lora_weights(DIR)", imports="")
    part, *others = sorted({name.partition(".")[0] for name in state})
    if others:
        save_tensors(folder / "weights.safetensors", state)
        return f"`weights.safetensors` has weights of {part} and {', '.join(others)}.\n"
    tensors = {name.removeprefix(f"{part}."): tensor for name, tensor in state.items()}
    save_tensors(folder / f"{part}.safetensors", tensors)
    file = f'load_file(f"{{DIR}}/{part}.safetensors")'
    line = f"pipeline.{part}.load_state_dict({file}, strict=False)"
    return USAGE.format(line=line, imports="from safetensors.torch import load_file\n")


def save_lora(factors: Mapping[re.Match[str], Tensor], folder: Path) -> None:
    """Write A and B as diffusers writes a LoRA of a U-Net, with rank and alpha beside them."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import (
        StableDiffusionPipeline,
    )

    layers: dict[str, Any] = {
        f"{match[1]}.lora_{match[2]}.weight": weight.detach().cpu().contiguous()
        for match, weight in factors.items()
    }
    rank = next(len(weight) for name, weight in layers.items() if ".lora_A." in name)
    config = {"r": rank, "lora_alpha": rank, "target_modules": list(TARGETS)}
    StableDiffusionPipeline.save_lora_weights(
        str(folder), unet_lora_layers=layers, unet_lora_adapter_metadata=config
    )


def merge_lora(network: nn.Module) -> None:
    """W <- W + B A for every attention, and remove A and B, in place."""
    from peft.tuners.lora import LoraLayer

    for path, module in [*network.named_modules()]:
        if isinstance(module, LoraLayer):
            layer: Any = module
            layer.merge()
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, layer.get_base_layer())


def merged(weight: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """W + scale B A, of the shape of ``weight``; A and B may be kernels of convolutions."""
    change = scale * (B.flatten(1).float() @ A.flatten(1).float())
    return weight + change.reshape(weight.shape).to(weight.device)


def shapes_fit(weight: Tensor, A: Tensor, B: Tensor) -> bool:
    """Whether B A can be added to W."""
    rank, outer = len(A), (len(B), *A.shape[1:])
    return B.flatten(1).shape[1] == rank and outer == tuple(weight.shape)
