"""Weights against the network that a card describes, compared before memory is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from msgm_bench.errors import IncompatibleError, StorageError
from msgm_bench.storage.names import single_line


def boundary(folder: Path) -> Path:
    """The folder that the files of a model may not leave.

    ``folder`` itself; in the hub's cache, whose files are links, the repository's folder.
    """
    absolute = folder.absolute()
    for place in (absolute, *absolute.parents):
        if place.parent.name == "snapshots" and place.parent.parent.name.startswith("models--"):
            return place.parent.parent
    return folder


def check_network(name: str, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and kinds of weights with those of a network.

    Args:
        name: Name of the weights' file in the message.
        state: The weights, on any device; ``TensorFile.state`` before they are read.
        wanted: The network's ``state_dict()``, which may be on ``meta``.

    Raises:
        IncompatibleError: They differ; the first difference is named.
    """
    missing = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in wanted]
    if missing or extra:
        raise _other_names(name, list(state), missing, extra, set(wanted))
    for key, tensor in wanted.items():
        weights = state[key]
        if weights.shape != tensor.shape:
            shapes = f"{tuple(weights.shape)} and not {tuple(tensor.shape)}"
            raise _other_network(name, f"{key} is {shapes}")
        if weights.is_floating_point() != tensor.is_floating_point():
            raise _other_network(name, f"{key} is {weights.dtype} and not {tensor.dtype}")


def check_finite(name: str, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        StorageError: Naming the tensor.
    """
    for key, tensor in state.items():
        if not bool(tensor.isfinite().all()):
            raise StorageError(
                f"{name} holds weights that are not finite: {single_line(key)}",
                hint="it is damaged, or its training diverged: take other weights",
            )


def _other_names(
    name: str, names: list[str], missing: list[str], extra: list[str], wanted: set[str]
) -> IncompatibleError:
    kinds = (("missing keys", missing), ("unexpected keys", extra))
    reason = "; ".join(
        f"{kind}: {single_line(keys[0][:80])}"
        + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
        for kind, keys in kinds
        if keys
    )
    prefix = _common_prefix(names, wanted)
    if not prefix:
        return _other_network(name, reason)
    wrapper = "the network that torch.compile returned" if "_orig_mod" in prefix else "a wrapper"
    return IncompatibleError(
        f"{name}: every name begins with {single_line(prefix)!r}, as the state_dict of "
        f"{wrapper} has it",
        "the names of the network itself",
        "save again without the beginning: "
        f"{{k.removeprefix({single_line(prefix)!r}): v for k, v in state.items()}}",
    )


def _common_prefix(names: list[str], wanted: set[str]) -> str:
    """The prefix that turns ``wanted`` into ``names``; empty where there is none."""
    target = min(wanted, default="")
    for name in names:
        prefix = name.removesuffix(target)
        if prefix and prefix != name and {prefix + key for key in wanted} == set(names):
            return prefix
    return ""


def _other_network(name: str, reason: str) -> IncompatibleError:
    return IncompatibleError(
        f"{name} holds weights of another network: {reason}",
        "weights of the network that card and options describe",
        "give the weights and the description that belong together",
    )
