"""A U-Net from diffusers' own options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from msgm_bench import DataStats, IncompatibleError, OptionError, Process
from msgm_bench.storage import error_summary
from msgm_builtin.backbones.networks import UNet, with_zero_output


def unet_from_config(
    options: Mapping[str, Any],
    stats: DataStats,
    process: Process,
    embedding: Literal["positional", "fourier"],
    dropout: float = 0.0,
) -> UNet:
    """The ``UNet2DModel`` of ``options``, if it fits data and process.

    Args:
        options: Arguments of ``UNet2DModel``, all but ``dropout``.
        stats: The data.
        process: The diffusion process.
        embedding: Kind of time features for the process's labels.
        dropout: Dropout rate.

    Raises:
        IncompatibleError: The network does not fit the data or the process.
        OptionError: diffusers cannot build the network.
    """
    from diffusers.models.unets.unet_2d import UNet2DModel

    check_images(options, stats)
    check_classes(options, stats)
    kind = options.get("time_embedding_type", "positional")
    if kind != embedding:
        raise IncompatibleError(
            f"a network with {kind} time features",
            f"{embedding} ones, which {type(process).__name__} has",
            "choose the backbone with the process of its training",
        )
    try:
        return UNet(with_zero_output(UNet2DModel(**options, dropout=dropout)), process)
    except Exception as error:
        raise OptionError(
            f"no network has such options: {error_summary(error)}",
            "what diffusers' UNet2DModel takes",
        ) from error


def check_pass(network: UNet, stats: DataStats) -> None:
    """Refuse a network on ``meta`` whose layers do not fit each other.

    Raises:
        OptionError: Items of the data's shape cannot pass.
    """
    condition = None if stats.classes is None else torch.zeros(1, dtype=torch.int64, device="meta")
    x_t, t = torch.zeros(1, *stats.shape, device="meta"), torch.ones(1, device="meta")
    try:
        with torch.no_grad():
            network(x_t, t, condition)
    except Exception as error:
        shape = "x".join(map(str, stats.shape))
        raise OptionError(
            f"no image of {shape} passes through a network with such options: "
            f"{error_summary(error)}",
            "what diffusers' UNet2DModel takes",
        ) from error


def check_images(options: Mapping[str, Any], stats: DataStats) -> None:
    """Refuse other channels or another size than the data's.

    Raises:
        IncompatibleError: They differ.
    """
    if len(stats.shape) != 3:
        raise IncompatibleError(
            f"a U-Net needs images, the items have shape {stats.shape}", "a dataset of images"
        )
    inputs, outputs = options.get("in_channels", 3), options.get("out_channels", 3)
    if (inputs, outputs) != (stats.shape[0],) * 2:
        raise IncompatibleError(
            f"a network that takes {inputs} channels and predicts {outputs}",
            f"{stats.shape[0]} and {stats.shape[0]}, as the dataset has, with no learned variance",
            "choose the dataset of the network's training",
        )
    size = options.get("sample_size")
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    if sides != stats.shape[1:]:
        stated = "x".join(map(str, sides)) or "no stated size"
        raise IncompatibleError(
            f"a network for images of {stated}",
            f"sample_size {'x'.join(map(str, stats.shape[1:]))}, as the dataset has",
            "choose the dataset of the network's training",
        )


def check_classes(options: Mapping[str, Any], stats: DataStats) -> None:
    """Refuse another number of class embeddings than K and the null class, or none.

    Raises:
        IncompatibleError: The numbers differ.
    """
    kind, count = options.get("class_embed_type"), options.get("num_class_embeds")
    expected = None if stats.classes is None else stats.classes + 1
    if (kind, count) == (None, expected):
        return
    embeddings = "no class embedding" if count is None else f"{count} class embeddings"
    features = f"class features {kind!r}" if kind else embeddings
    if expected is None:
        allowed, hint = "an unconditional network", "add --conditional for a conditional one"
    else:
        allowed = f"num_class_embeds {expected}: {stats.classes} classes, then the null class"
        hint = "leave out --conditional for an unconditional network; one without a null class "
        hint += "has no unconditional prediction for guidance and methods"
    raise IncompatibleError(f"a network with {features}", allowed, hint)
