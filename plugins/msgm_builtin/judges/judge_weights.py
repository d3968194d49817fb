"""External weights of a judge: tensors alone, of an architecture that has a name.

The folder ``judge/`` of a run is read as it is. Weights of any other origin are those of one of
the judge's own networks, or of a network of timm or torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from msgm_bench import IncompatibleError, StorageError
from msgm_bench.storage import single_line
from msgm_bench.storage.tensors import open_tensors
from msgm_bench.storage.weights import check_finite, check_network
from msgm_builtin.weights_files import ANYWHERE, find_weights

NAME, SUFFIX = "judge.safetensors", ".safetensors"
KINDS = f"{NAME} of a run, its folder, or a {SUFFIX} file of the judge's network"
CONVERT = (
    "save the weights of your network: safetensors.torch.save_file(network.state_dict(), "
    f"'mine{SUFFIX}'), and name its architecture: -j 'network={{library: timm, name: resnet18}}'"
)


def locate(path: str) -> Path | None:
    """The file at ``path``, or in the folder there; None where there is none."""
    file = find_weights(NAME, path)
    if file is not None and file.is_dir():
        file = file / NAME
    return file if file is not None and file.exists() else None


def check_kind(path: Path) -> None:
    """Refuse files that may hold more than tensors.

    Raises:
        StorageError: The file's name is not that of a safetensors file.
    """
    if path.suffix != SUFFIX:
        raise StorageError(
            f"{single_line(path)} is not a {SUFFIX} file; programs and pickles are never read",
            KINDS,
            CONVERT,
        )


def read_shapes(path: Path) -> dict[str, Tensor]:
    """A judge's state on ``meta``.

    Raises:
        StorageError: The file is damaged or of another kind.
    """
    check_kind(path)
    with open_tensors(path, ANYWHERE) as file:
        return file.state


def read(path: Path, sha256: str) -> dict[str, Tensor]:
    """A judge's state.

    Raises:
        StorageError: The file is damaged, of another kind, or its SHA-256 has changed.
    """
    check_kind(path)
    with open_tensors(path, ANYWHERE) as file:
        state, current = file.read_hashed()
    if current != sha256:
        raise StorageError(
            f"the weights in {single_line(path)} have changed since the run began",
            hint="leave the file alone and repeat the command",
        )
    return state


def check_weights(name: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare weights with those of the network that the options describe.

    Raises:
        IncompatibleError: The weights are of another architecture, or of other classes.
        StorageError: Weights are not finite.
    """
    try:
        check_network(name, state, expected)
    except IncompatibleError as error:
        raise IncompatibleError(
            error.what,
            "the same number of classes and image channels, and the options network, width, "
            "blocks and embedding_dim of their training",
            error.hint,
        ) from error
    if not any(tensor.is_meta for tensor in state.values()):
        check_finite(name, state)


def check_calibration(
    name: str, state: Mapping[str, Tensor], calibrated: Sequence[str], classes: int
) -> None:
    """Refuse a calibration that is incomplete, or of other shapes than the judge's.

    A threshold is one number, cuts are one for each attribute.

    Raises:
        IncompatibleError: A tensor is missing, or has another shape or type.
        StorageError: A tensor is NaN.
    """
    shapes = {"threshold": (), "cuts": (classes,)}
    present = [key for key in calibrated if key in state]
    for key in present:
        if tuple(state[key].shape) != shapes[key] or not state[key].is_floating_point():
            raise IncompatibleError(
                f"{name} holds {key} of shape {tuple(state[key].shape)}", f"shape {shapes[key]}"
            )
        if not state[key].is_meta and bool(state[key].isnan().any()):
            raise StorageError(f"{name} holds {key} that is NaN", hint="it is damaged")
    if present and len(present) < len(calibrated):
        raise IncompatibleError(
            f"{name} holds {present[0]} alone", f"{', '.join(calibrated)}, or none"
        )
