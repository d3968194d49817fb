"""A judge's weights from elsewhere: tensors alone, for an architecture that is known by name.

What a run leaves in its folder ``judge/`` is read as it is. Weights of any other origin are those
of one of the judge's own networks, or of a network that timm or torchvision has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from msgm_bench import IncompatibleError, StorageError
from msgm_bench.storage import single_line
from msgm_bench.storage.tensors import open_tensors
from msgm_bench.storage.weights import check_finite, check_network
from msgm_builtin.embedders.weights_files import ANYWHERE, find

NAME, SUFFIX = "judge.safetensors", ".safetensors"
KINDS = f"{NAME} of a run, the folder that it is in, or a {SUFFIX} file of the judge's network"
CONVERT = (
    "save the weights of your network: safetensors.torch.save_file(network.state_dict(), "
    f"'mine{SUFFIX}'), and name its architecture: -j 'network={{library: timm, name: resnet18}}'"
)


def locate(path: str) -> Path | None:
    """The file at ``path``, or in the folder there."""
    found = find(NAME, path)
    if found is not None and found.is_dir():
        found = found / NAME
    return found if found is not None and found.exists() else None


def check_kind(path: Path) -> None:
    """Refuse files that hold more than tensors.

    Raises:
        StorageError: It is no safetensors file by its name.
    """
    if path.suffix != SUFFIX:
        raise StorageError(
            f"{single_line(path)} holds no weights that are read: programs and pickles never are",
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
        StorageError: The file is damaged, of another kind or has no longer this SHA-256.
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


def check_weights(name: str, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compare weights with the network that the options describe; no numbers that are NaN.

    Raises:
        IncompatibleError: They are of another architecture, or of other classes.
        StorageError: They are not finite.
    """
    try:
        check_network(name, state, wanted)
    except IncompatibleError as error:
        raise IncompatibleError(
            error.what,
            "the same number of classes and image channels, and the options network, width, "
            "blocks and embedding_dim with which they were made",
            error.hint,
        ) from error
    if not any(tensor.is_meta for tensor in state.values()):
        check_finite(name, state)


def check_calibration(
    name: str, state: Mapping[str, Tensor], calibrated: Sequence[str], classes: int
) -> None:
    """Thresholds are one number, and cuts one for each attribute; there are all of them or none.

    Raises:
        IncompatibleError: They are otherwise.
        StorageError: One of them is NaN.
    """
    shapes = {"threshold": (), "cuts": (classes,)}
    here = [key for key in calibrated if key in state]
    for key in here:
        if tuple(state[key].shape) != shapes[key] or not state[key].is_floating_point():
            raise IncompatibleError(
                f"{name} holds {key} of shape {tuple(state[key].shape)}", f"shape {shapes[key]}"
            )
        if not state[key].is_meta and bool(state[key].isnan().any()):
            raise StorageError(f"{name} holds {key} that is NaN", hint="it is damaged")
    if here and len(here) < len(calibrated):
        raise IncompatibleError(
            f"{name} holds {here[0]} alone", f"{', '.join(calibrated)}, or none"
        )
