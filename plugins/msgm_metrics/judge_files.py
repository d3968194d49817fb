"""A judge's weights from elsewhere: of another run, or a network that was exported.

What a run leaves in its folder ``judge/`` is read as it is. A network of any other origin comes
as a ``.pt2`` file of ``torch.export``: it maps [0, 1] images ``[N, C, H, W]``, N free, to one
logit for each class or attribute, or to one more, the last, for what is no image.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from msgm_bench import IncompatibleError, StorageError
from msgm_metrics.weights import find, in_short

NAME, EXPORTED = "judge.safetensors", "exported"
KINDS = f"{NAME} of a run or the folder that it is in, or a .pt2 file of torch.export"


def locate(path: str) -> Path | None:
    """The file at ``path``, or in the folder there."""
    found = find(NAME, path)
    if found is not None and found.is_dir():
        found = found / NAME
    return found if found is not None and found.is_file() else None


def read(path: Path) -> dict[str, Tensor]:
    """A judge's state; of an exported network, its bytes as ``exported``.

    Raises:
        StorageError: The file is damaged or of another kind.
    """
    try:
        if path.suffix == ".pt2":
            return {EXPORTED: torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)}
        return load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise StorageError(f"{path} cannot be read: {error}", KINDS) from error


class Exported(nn.Module):
    """An exported network; its features are its logits.

    Args:
        content: The bytes of the ``.pt2`` file, ``uint8 [B]``.
        outputs: Logits that a judge needs, the last for what is no image; never, where the network
            has one logit less.
    """

    def __init__(self, content: Tensor, outputs: int) -> None:
        super().__init__()
        try:
            program = torch.export.load(io.BytesIO(content.cpu().numpy().tobytes()))
        except Exception as error:
            raise StorageError(
                f"the judge's weights are no program of torch.export: {in_short(error)}", KINDS
            ) from error
        self.module, self.outputs = program.module(), outputs

    def features(self, x: Tensor) -> Tensor:
        """The logits as the network has them."""
        logits: Tensor = self.module(x)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, outputs]``."""
        logits = self.features(x)
        never = torch.finfo(logits.dtype).min
        absent = logits.new_full((len(x), self.outputs - logits.shape[1]), never)
        return torch.cat([logits, absent], dim=1)

    def check(self, shape: tuple[int, ...]) -> None:
        """Try it on a few images.

        Raises:
            IncompatibleError: It does not take them, or has another number of outputs.
        """
        wanted = (self.outputs - 1, self.outputs)
        for count in (2, 3):
            try:
                found = tuple(self.features(torch.full((count, *shape), 0.5)).shape)
            except Exception as error:
                raise IncompatibleError(
                    f"the exported network on {count} images of shape {shape}: {in_short(error)}",
                    "a network for such images, exported with a dynamic first dimension",
                ) from error
            if len(found) != 2 or found[0] != count or found[1] not in wanted:
                raise IncompatibleError(
                    f"the exported network makes {found} of {count} images",
                    f"[N, {wanted[0]}], or [N, {wanted[1]}] with a logit for what is no image",
                )


def fit_into(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load weights of this program.

    Raises:
        IncompatibleError: They are of another architecture, or of other classes.
    """
    wanted = network.state_dict()
    strange = sorted(set(state) ^ set(wanted))
    if strange:
        raise IncompatibleError(
            f"the judge's weights are of another network: {strange[0]} is in one of them only",
            "the options network, width, blocks and embedding with which they were made",
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            found, ours = tuple(tensor.shape), tuple(wanted[name].shape)
            raise IncompatibleError(
                f"the judge's weights are of another network: {name} is {found} and not {ours}",
                "the same number of classes, image channels, width, blocks and embedding",
            )
    network.load_state_dict(dict(state))
