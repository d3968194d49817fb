"""InceptionV3 as the TensorFlow original of the FID has it, in pytorch-fid's port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from msgm_bench import Embedder, Judge, Options, StorageError, hookimpl
from msgm_bench.storage import MIB, error_summary
from msgm_bench.storage.pickles import load_pickle
from msgm_bench.storage.weights import check_finite
from msgm_builtin.weights_files import (
    ANYWHERE,
    SEARCHED,
    ExistingPath,
    checksum_mismatch,
    find_weights,
    sha256,
)

FILE = "pt_inception-2015-12-05-6726825d.pth"
ADDRESS = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
PUBLISHED_SHA256 = FILE.rpartition("-")[2].removesuffix(".pth")  # its first letters
LIMIT = 256 * MIB  # the published file has 91


def network(state: Mapping[str, Tensor]) -> nn.Module:
    """pytorch-fid's network with these weights, which it would read from an address only.

    Raises:
        RuntimeError: The weights are of another network.
    """
    from pytorch_fid import inception  # takes a second

    original = inception.load_state_dict_from_url
    inception.load_state_dict_from_url = lambda *_, **__: state
    try:
        network: nn.Module = inception.InceptionV3().eval()
        return network
    finally:
        inception.load_state_dict_from_url = original


class InceptionOptions(Options):
    """Place of the weights."""

    path: ExistingPath = Field(None, description=f"weights file; empty: {FILE} in {SEARCHED}")


class Inception(Embedder[InceptionOptions]):
    """2048 pooled features of InceptionV3, images resized bilinearly to 299 px by pytorch-fid.

    Grey images are repeated in three channels.
    """

    name = "inception-2015"
    citation = "Heusel et al. 2017, arXiv:1706.08500; weights of mseitzer/pytorch-fid"

    def missing_weights(self, judge: Judge) -> str | None:
        """Reason why the weights cannot be read and where to get them, or None."""
        path = self._file()
        if path is None:
            name = self.options.path or FILE
            return f"{name} is not on this machine: put it into {SEARCHED} ({ADDRESS})"
        return checksum_mismatch(path)

    def checksum(self) -> str:
        """SHA-256 of the weights file."""
        path = self._file()
        return "" if path is None else sha256(path)

    def protocol(self) -> dict[str, Any]:
        """The start of the weights' checksum; that of the published file where they are missing."""
        return {"name": self.name, "weights": self.checksum()[:8] or PUBLISHED_SHA256}

    def load(self, judge: Judge, device: torch.device) -> None:
        """Read the weights.

        Raises:
            StorageError: The weights are missing, damaged or of another network.
        """
        path, missing = self._file(), self.missing_weights(judge)
        if path is None or missing is not None:
            raise StorageError(missing or "no weights")
        try:
            state, sha256 = load_pickle(path, ANYWHERE, LIMIT)
            if sha256 != self.checksum():
                raise StorageError(f"{path} has changed since the run began")
            self.network = network(state).to(device)
            check_finite(path.name, self.network.state_dict())
        except (RuntimeError, TypeError, AttributeError, StorageError) as error:
            raise StorageError(
                f"{path.name} does not hold the weights of pytorch-fid's InceptionV3: "
                f"{error_summary(error)}",
                hint=f"the published file is {ADDRESS}",
            ) from error

    @torch.no_grad()
    def embed(self, x: Tensor) -> Tensor:
        """Features ``[N, 2048]``."""
        colour = x.float().expand(-1, 3, -1, -1) if x.shape[1] == 1 else x.float()
        pooled: Tensor = self.network(colour)[0]
        return pooled.flatten(1)

    def _file(self) -> Path | None:
        path = find_weights(FILE, self.options.path)
        return path if path is not None and path.is_file() else None


@hookimpl
def register_embedders() -> Sequence[type[Embedder]]:
    """The Inception network."""
    return [Inception]
