"""Folders of diffusers: where a U-Net's card, weights and schedule lie, and how they are read."""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import Tensor

from msgm_bench import IncompatibleError, StorageError, UsageError

if TYPE_CHECKING:
    from diffusers import UNet2DModel

NETWORK = "UNet2DModel"
CARD, INDEX, SCHEDULE, PROCESS = (
    *("config.json", "model_index.json"),
    *("scheduler_config.json", "process.json"),
)
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
LAYOUT = (
    f"a folder with {CARD} and {' or '.join(WEIGHTS)}, or a pipeline's with them in unet/ and "
    f"{SCHEDULE} in scheduler/"
)
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
FAILURES = (
    *(OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError),
    *(pickle.UnpicklingError, SafetensorError),
)


def located(source: str, download: bool = True) -> Path:
    """The folder ``source``, or that of the hub's repository of this name.

    Raises:
        UsageError: There is no such folder.
        StorageError: The repository is neither on this machine nor to be had.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists() or not HUB_ID.fullmatch(source):
        raise UsageError(f"{source} is no folder", f"{LAYOUT}; or the name of a hub's repository")
    try:
        return _of_the_hub(source, download)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        tried = f", and it could not be downloaded: {in_short(error)}" if download else ""
        raise StorageError(
            f"{source} is no folder here, nor in the hub's cache {constants.HF_HUB_CACHE}{tried}",
            LAYOUT,
            f"where there is a network: `hf download {source} --local-dir DIR`, then DIR in the "
            "place of the name",
        ) from error


def _of_the_hub(repository: str, download: bool) -> Path:
    """Cards first, then the weights in the safer of their formats."""

    def fetch(*names: str) -> Path:
        return Path(
            snapshot_download(repository, allow_patterns=list(names), local_files_only=not download)
        )

    folder = fetch(CARD, INDEX, SCHEDULE, PROCESS, f"unet/{CARD}", f"scheduler/{SCHEDULE}")
    for name in WEIGHTS:
        fetch(name, f"unet/{name}")
        if (home(folder) / name).is_file():
            return folder
    raise LocalEntryNotFoundError(f"its cards are there, {' and '.join(WEIGHTS)} are not")


def home(folder: Path) -> Path:
    """Where the network lies: in ``unet/``, or in the folder itself."""
    return folder / "unet" if (folder / "unet").is_dir() else folder


def architecture(folder: Path) -> dict[str, Any]:
    """All options of the ``UNet2DModel``, but for the dropout, which is no part of its function.

    What the card leaves out has diffusers' default, so that one network has one description.

    Raises:
        UsageError: There is no card.
        IncompatibleError: It is another network's.
    """
    from diffusers import UNet2DModel

    path = home(folder) / CARD
    if not path.is_file():
        raise UsageError(f"{folder} holds no {CARD} of a network", LAYOUT)
    told = read_json(path)
    name = told.get("_class_name")
    if name != NETWORK:
        raise IncompatibleError(f"{path} describes the network {name!r}", NETWORK)
    taken = dict(inspect.signature(UNet2DModel.__init__).parameters)
    del taken["self"], taken["dropout"]
    options = {key: told.get(key, field.default) for key, field in taken.items()}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}


def weights_of(folder: Path) -> Path:
    """The file of the weights.

    Raises:
        UsageError: There is none.
    """
    for name in WEIGHTS:
        if (home(folder) / name).is_file():
            return home(folder) / name
    raise UsageError(f"{home(folder)} holds no weights", " or ".join(WEIGHTS))


def read_weights(file: Path) -> tuple[dict[str, Tensor], str]:
    """State of the network beside the card, as float32, and the SHA-256 of the file.

    diffusers reads it, which knows the names that older versions gave to some layers.

    Raises:
        StorageError: The file is damaged.
        IncompatibleError: It is another network's.
    """
    from diffusers import UNet2DModel

    try:
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        unet, told = UNet2DModel.from_pretrained(
            file.parent,
            use_safetensors=file.suffix == ".safetensors",
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except FAILURES as error:
        raise StorageError(
            f"{file} cannot be read as the weights of its {CARD}: {in_short(error)}",
            hint="the file is damaged, or belongs to another card: get both again",
        ) from error
    wrong = {kind: names for kind, names in told.items() if names}
    if wrong:
        said = "; ".join(f"{kind.replace('_', ' ')}: {names[0]}" for kind, names in wrong.items())
        raise IncompatibleError(f"{file} holds other weights than its {CARD} describes: {said}")
    state = {name: tensor.detach().float() for name, tensor in unet.state_dict().items()}
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise StorageError(f"{file} holds weights that are not finite", hint="it is damaged")
    return state, sha256


def read_json(path: Path) -> dict[str, Any]:
    """A card.

    Raises:
        StorageError: It cannot be read as a JSON object.
    """
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} is no readable JSON: {in_short(error)}") from error
    if not isinstance(told, dict):
        raise StorageError(f"{path} holds {type(told).__name__}", "a JSON object")
    return told


def check_process(folder: Path, own: Mapping[str, Any]) -> bool:
    """Compare the process that an exported folder names with ``own``; False where it names none.

    Raises:
        IncompatibleError: They differ.
    """
    path = folder / PROCESS
    if not path.is_file():
        return False
    told = read_json(path)
    if told != dict(own):
        raise IncompatibleError(
            f"the network in {folder} was trained on {listed(told)}",
            listed(own),
            "choose the backbone, its options (-b) and the data of that training",
        )
    return True


def save_unet(unet: UNet2DModel, folder: Path, process: Mapping[str, Any]) -> None:
    """Card and weights as diffusers writes them, and the name of the process."""
    unet.save_pretrained(folder / "unet")
    (folder / PROCESS).write_text(json.dumps(dict(process), indent=2) + "\n", encoding="utf-8")


def listed(values: Mapping[str, Any]) -> str:
    """``key value, key value``."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


def in_short(error: BaseException) -> str:
    """What an error says, in a line."""
    return textwrap.shorten(str(error) or type(error).__name__, 200)
