"""A U-Net from diffusers' own options, which another program chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgm_bench import DataStats, IncompatibleError, OptionError, Process
from msgm_bench.storage import error_summary
from msgm_builtin.backbones.networks import UNet, zero_last


def described_unet(
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
        embedding: Kind of time features that the process's labels are made for.
        dropout: Dropout rate.

    Raises:
        IncompatibleError: It does not fit.
        OptionError: There is no such network.
    """
    from diffusers.models.unets.unet_2d import UNet2DModel

    check_images(options, stats)
    check_classes(options, stats)
    kind = options.get("time_embedding_type", "positional")
    if kind != embedding:
        raise IncompatibleError(
            f"a network with {kind} time features",
            f"{embedding} ones, which {type(process).__name__} has",
            "choose the backbone on whose process it was trained",
        )
    try:
        return UNet(zero_last(UNet2DModel(**options, dropout=dropout)), process)
    except Exception as error:
        raise OptionError(
            f"no network has such options: {error_summary(error)}",
            "what diffusers' UNet2DModel takes",
        ) from error


def check_images(options: Mapping[str, Any], stats: DataStats) -> None:
    """Channels and size.

    Raises:
        IncompatibleError: They are not the data's.
    """
    if len(stats.shape) != 3:
        raise IncompatibleError(
            f"a U-Net needs images, the items have shape {stats.shape}", "a dataset of images"
        )
    enter, leave = options.get("in_channels", 3), options.get("out_channels", 3)
    if (enter, leave) != (stats.shape[0],) * 2:
        raise IncompatibleError(
            f"a network that takes {enter} channels and predicts {leave}",
            f"{stats.shape[0]} and {stats.shape[0]}, as the dataset has, with no learned variance",
            "choose the dataset that the network was trained on",
        )
    size = options.get("sample_size")
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    if sides != stats.shape[1:]:
        said = "x".join(map(str, sides)) or "no stated size"
        raise IncompatibleError(
            f"a network for images of {said}",
            f"sample_size {'x'.join(map(str, stats.shape[1:]))}, as the dataset has",
            "choose the dataset that the network was trained on",
        )


def check_classes(options: Mapping[str, Any], stats: DataStats) -> None:
    """The number of classes that it is told of: K and the null class, or none.

    Raises:
        IncompatibleError: It is another one.
    """
    kind, found = options.get("class_embed_type"), options.get("num_class_embeds")
    wanted = None if stats.classes is None else stats.classes + 1
    if (kind, found) == (None, wanted):
        return
    has = kind and f"class features {kind!r}"
    has = has or ("no class embedding" if found is None else f"{found} class embeddings")
    if wanted is None:
        allowed, hint = "an unconditional network", "add --conditional for a conditional one"
    else:
        allowed = f"num_class_embeds {wanted}: {stats.classes} classes, then the null class"
        hint = "leave out --conditional for an unconditional network; one without a null class "
        hint += "has no unconditional prediction, which guidance and methods rest on"
    raise IncompatibleError(f"a network with {has}", allowed, hint)
