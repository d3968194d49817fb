"""InceptionV3 as the TensorFlow original of the FID has it, in pytorch-fid's port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from msgm_bench import Embedder, Judge, Options, StorageError, hookimpl
from msgm_bench.storage import MIB
from msgm_bench.storage.pickles import load_pickle
from msgm_bench.storage.weights import check_finite
from msgm_builtin.embedders.weights_files import (
    ANYWHERE,
    WHERE,
    ExistingPath,
    damage,
    error_summary,
    find,
    sha256,
)

FILE = "pt_inception-2015-12-05-6726825d.pth"
ADDRESS = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
KNOWN = FILE.rpartition("-")[2].removesuffix(".pth")  # SHA-256 of the published file starts so
LIMIT = 256 * MIB  # it has 91


def network(state: Mapping[str, Tensor]) -> nn.Module:
    """pytorch-fid's network with these weights; it takes them from an address only.

    Raises:
        RuntimeError: They are of another network.
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
    """Where the weights are."""

    path: ExistingPath = Field(None, description=f"weights file; empty: {FILE} in {WHERE}")


class Inception(Embedder[InceptionOptions]):
    """2048 pooled features of InceptionV3, images resized bilinearly to 299 px by pytorch-fid.

    Grey images are repeated in three channels.
    """

    name = "inception-2015"
    citation = "Heusel et al. 2017, arXiv:1706.08500; weights of mseitzer/pytorch-fid"

    def missing(self, judge: Judge) -> str | None:
        """The weights may not be there, or not be what their name says."""
        found = self._file()
        if found is None:
            name = self.options.path or FILE
            return f"{name} is not there: put it into {WHERE} ({ADDRESS})"
        return damage(found)

    def checksum(self) -> str:
        """SHA-256 of the weights file."""
        found = self._file()
        return "" if found is None else sha256(found)

    def protocol(self) -> dict[str, Any]:
        """The start of the weights' checksum; of the published file where there is none."""
        return {"name": self.name, "weights": self.checksum()[:8] or KNOWN}

    def load(self, judge: Judge, device: torch.device) -> None:
        """Read the weights.

        Raises:
            StorageError: They are not there, not readable or of another network.
        """
        found, missing = self._file(), self.missing(judge)
        if found is None or missing is not None:
            raise StorageError(missing or "no weights")
        try:
            state, sha256 = load_pickle(found, ANYWHERE, LIMIT)
            if sha256 != self.checksum():
                raise StorageError(f"{found} has changed since the run began")
            self.network = network(state).to(device)
            check_finite(found.name, self.network.state_dict())
        except (RuntimeError, TypeError, AttributeError, StorageError) as error:
            raise StorageError(
                f"{found.name} does not hold the weights of pytorch-fid's InceptionV3: "
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
        found = find(FILE, self.options.path)
        return found if found is not None and found.is_file() else None


@hookimpl
def register_embedders() -> Sequence[type[Embedder]]:
    """Inception."""
    return [Inception]
