"""Files that change some weights of a network: a LoRA, or tensors in the place of others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from msgm_bench import IncompatibleError, UsageError, WeightChange
from msgm_bench.storage import error_summary, parse_json, single_line
from msgm_bench.storage.cards import short
from msgm_bench.storage.tensors import open_tensors
from msgm_bench.storage.weights import check_finite
from msgm_text.backbones.adapters import FILE, merged, shapes_fit

METADATA = "lora_adapter_metadata"
LAYER = re.compile(
    r"(?P<module>.+?)(\.lora_(?P<matrix>[AB])|\.lora\.(?P<way>down|up)"
    r"|\.lora_linear_layer\.(?P<linear>down|up))\.weight"
)
OLD_NAMES = (
    (r"(\.self_attn)\.to_(q|k|v|out)_lora\.", r"\1.\2_proj.lora."),
    (r"\.processor\.", "."),
    (r"\.to_out_lora\.", ".to_out.0.lora."),
    (r"_lora\.", ".lora."),
)
ALLOWED = f"{FILE}, or a safetensors file of some weights under diffusers' names"
OTHER = "a file for the network of --base"


def find_change(source: Path) -> Path:
    """The file at ``source``, or the only one in that folder.

    Raises:
        UsageError: There is none, or there are several.
    """
    if source.is_file():
        return source
    files = sorted(source.glob("*.safetensors")) if source.is_dir() else []
    if (source / FILE) in files:
        return source / FILE
    if len(files) != 1:
        count = f"{len(files)} safetensors files" if source.is_dir() else "no file or folder"
        raise UsageError(f"{single_line(source)} is or holds {count}", ALLOWED)
    return files[0]


def read_change(source: Path, state: Mapping[str, Tensor]) -> WeightChange:
    """The change that a file makes to a network.

    Args:
        source: A file, or a folder with one.
        state: The network's weights; on ``meta``, the change has names and shapes alone.

    Raises:
        UsageError: There is no such file.
        StorageError: The file is damaged, or holds numbers that are not finite.
        IncompatibleError: It is for another network; the first tensor that does not fit is named.
    """
    path = find_change(source)
    name = single_line(path)
    with open_tensors(path) as file:
        tensors, sha256 = file.read_hashed()
        metadata = file.metadata
    if not tensors:
        raise IncompatibleError(f"{name} holds no tensor", ALLOWED)
    check_finite(name, tensors)
    if any("lora" in key for key in tensors):
        return WeightChange(_lora(name, tensors, metadata, state), sha256)
    return WeightChange(_replaced(name, tensors, state), sha256)


def _replaced(
    name: str, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors that take the place of others, by the network's names."""
    changed = {}
    for key, tensor in tensors.items():
        own = _own_name(key, state)
        if own is None:
            raise IncompatibleError(f"{name} holds {short(key)}, which the network lacks", OTHER)
        if tensor.shape != state[own].shape:
            raise IncompatibleError(
                f"{name}: {key} is {tuple(tensor.shape)} and not {tuple(state[own].shape)}", OTHER
            )
        changed[own] = tensor.float()
    return changed


def _own_name(key: str, state: Mapping[str, Tensor]) -> str | None:
    """The network's name of a tensor; files of a U-Net alone leave out ``unet.``."""
    bare = key.replace("text_encoder.text_model.", "text_encoder.")
    names = (bare, f"unet.{bare}", f"text_encoder.{bare.removeprefix('text_model.')}")
    return next((own for own in names if own in state), None)


def _lora(
    name: str, tensors: dict[str, Tensor], metadata: Mapping[str, str], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """W + scale B A for every W that the LoRA names."""
    layers, alphas = _layers(name, tensors)
    config = _config(name, metadata)
    changed = {}
    for module, matrices in layers.items():
        own = _own_name(f"{module}.weight", state)
        if own is None:
            raise IncompatibleError(
                f"{name} is a LoRA of {short(module, 160)}, which the network lacks", OTHER
            )
        if set(matrices) != {"A", "B"}:
            raise IncompatibleError(f"{name}: {module} has one of the two matrices alone", ALLOWED)
        A, B = matrices["A"], matrices["B"]
        if not shapes_fit(state[own], A, B):
            raise IncompatibleError(
                f"{name}: {module} has factors {tuple(A.shape)} and {tuple(B.shape)} for weights "
                f"{tuple(state[own].shape)}",
                OTHER,
            )
        scale = _scale(module, len(A), alphas, config)
        changed[own] = merged(state[own], A, B, scale)
    return changed


def _layers(
    name: str, tensors: dict[str, Tensor]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    """A and B of each module, and alphas of their own, from the formats that diffusers reads."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import (
        StableDiffusionPipeline,
    )

    try:
        converted, network_alphas = StableDiffusionPipeline.lora_state_dict(dict(tensors))
    except Exception as error:
        raise IncompatibleError(
            f"{name} is no LoRA that diffusers reads: {error_summary(error)}", ALLOWED
        ) from error
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in converted.items():
        match = LAYER.fullmatch(_modern(key))
        if match is None:
            raise IncompatibleError(f"{name} holds {short(key, 160)}, no plain LoRA", ALLOWED)
        way = match["matrix"] or ("A" if "down" in (match["way"], match["linear"]) else "B")
        layers.setdefault(match["module"], {})[way] = tensor
    alphas = {}
    for key, alpha in (network_alphas or {}).items():
        modern = _modern(key.removesuffix(".alpha"))
        match = LAYER.fullmatch(modern)
        alphas[modern if match is None else match["module"]] = float(alpha)
    return layers, alphas


def _modern(key: str) -> str:
    """A name of 2023, whose attention processors held the layers, as it is today."""
    for old, new in OLD_NAMES:
        key = re.sub(old, new, key)
    return key


def _config(name: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """peft's configuration, which diffusers stores beside the tensors; empty without one."""
    if METADATA not in metadata:
        return {}
    config = parse_json(metadata[METADATA], f"the metadata of {name}")
    if not isinstance(config, dict):
        raise IncompatibleError(f"{name}: its metadata are no configuration", "an object")
    for key, value in config.items():
        short_key = key.rpartition(".")[2]
        if short_key in ("use_dora", "use_rslora", "lora_bias") and value:
            raise IncompatibleError(f"{name} is a LoRA with {short_key}", "a plain LoRA")
        if short_key == "alpha_pattern" and value:
            raise IncompatibleError(f"{name} is a LoRA with {short_key}", "one alpha for all")
        if short_key == "lora_alpha" and type(value) not in (int, float):
            raise IncompatibleError(f"{name}: lora_alpha = {short(value)}", "a number")
    return config


def _scale(module: str, rank: int, alphas: Mapping[str, float], config: Mapping[str, Any]) -> float:
    """alpha / R; 1 where the file names no alpha, as diffusers assumes."""
    part = module.partition(".")[0]
    alpha = alphas.get(module, config.get(f"{part}.lora_alpha", config.get("lora_alpha", rank)))
    return float(alpha) / rank
