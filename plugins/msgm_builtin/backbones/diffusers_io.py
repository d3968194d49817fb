"""Folders of diffusers: search and reading of a U-Net's card, weights and schedule."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from msgm_bench import IncompatibleError, StorageError, UsageError
from msgm_bench.storage import error_summary, read_json, single_line
from msgm_bench.storage.cards import CARD_LIMIT, read_card, short
from msgm_bench.storage.weights import boundary, check_finite
from msgm_builtin.backbones.diffusers_cards import PipelineCard, UNetCard
from msgm_builtin.weights_files import read_state

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d import UNet2DModel

NETWORK = "UNet2DModel"
CARD, INDEX, SCHEDULE, PROCESS = (
    *("config.json", "model_index.json"),
    *("scheduler_config.json", "process.json"),
)
STEM = "diffusion_pytorch_model"
WEIGHTS = (f"{STEM}.safetensors", f"{STEM}.bin")
LAYOUT = (
    f"a run folder; a folder with {CARD} and {' or '.join(WEIGHTS)}; or a pipeline's with them in "
    f"unet/ and {SCHEDULE} in scheduler/"
)
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
NETWORKS = ("unet", "unet_ema")
LATENT = ("vqvae", "vae", "first_stage_model")
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
SAVE_AGAIN = (
    'save them again as one: python -c "from diffusers import UNet2DModel; '
    "UNet2DModel.from_pretrained('DIR'{}).save_pretrained('NEW', max_shard_size='1TB')\""
)


def find_folder(
    source: str,
    download: bool = True,
    fetch: Callable[[str, bool], Path] | None = None,
    layout: str = LAYOUT,
) -> Path:
    """The folder ``source``, or that of the hub's repository of this name.

    Args:
        source: Folder or name.
        download: Whether it may be downloaded.
        fetch: Gets a repository by its name, with ``download``; by default that of a U-Net.
        layout: The files that are expected, in words.

    Raises:
        UsageError: There is no such folder.
        StorageError: The repository is not on this machine, and cannot be downloaded.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists() or not HUB_ID.fullmatch(source):
        raise UsageError(f"{source} is no folder", f"{layout}; or the name of a hub's repository")
    try:
        return (fetch or _from_hub)(source, download)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        attempt = f", and it could not be downloaded: {error_summary(error)}" if download else ""
        raise StorageError(
            f"{source} is no folder here, nor in the hub's cache {constants.HF_HUB_CACHE}{attempt}",
            layout,
            f"where there is a network: `hf download {source} --local-dir DIR`, then DIR in the "
            "place of the name",
        ) from error


def _from_hub(repository: str, download: bool) -> Path:
    """Download cards, then weights in the safer of their formats."""

    def fetch(*names: str) -> Path:
        return Path(
            snapshot_download(repository, allow_patterns=list(names), local_files_only=not download)
        )

    parts = [f"{place}{name}.index.json" for place in ("", "unet/") for name in WEIGHTS]
    folder = fetch(CARD, INDEX, SCHEDULE, PROCESS, f"unet/{CARD}", f"scheduler/{SCHEDULE}", *parts)
    for name in WEIGHTS:
        fetch(name, f"unet/{name}")
        if (network_folder(folder) / name).is_file():
            return folder
    raise LocalEntryNotFoundError(f"its cards are there, {' and '.join(WEIGHTS)} are not")


def network_folder(folder: Path) -> Path:
    """The folder of the network: ``unet/``, or the folder itself."""
    return folder / "unet" if (folder / "unet").is_dir() else folder


def card_folders(folder: Path) -> list[Path]:
    """Folders that may hold cards of the network in ``folder``.

    A pipeline has its network in ``unet/``; diffusers' training scripts leave the pipeline's cards
    in the parent of ``checkpoint-500/unet`` and ``checkpoint-500/unet_ema``.
    """
    whole = folder.absolute()
    candidates = [folder]
    if whole.name in NETWORKS:
        candidates.append(whole.parent)
    if candidates[-1].absolute().name.startswith("checkpoint-"):
        candidates.append(candidates[-1].absolute().parent)
    return candidates


def check_pipeline(folder: Path) -> None:
    """Refuse networks that do not work on pixels.

    Raises:
        IncompatibleError: The network is part of a latent pipeline, or of an unknown one.
        StorageError: The pipeline's card cannot be read.
    """
    for place in card_folders(folder):
        latent = next((name for name in LATENT if (place / name).is_dir()), None)
        if latent is not None:
            raise IncompatibleError(
                f"{place} holds {latent}/: a latent pipeline, whose network works on no pixels",
                "networks that predict the noise of images",
            )
        if (place / INDEX).exists():
            read_card(place / INDEX, PipelineCard, boundary(place))


def architecture(folder: Path) -> dict[str, Any]:
    """All options of the ``UNet2DModel``, but for the dropout, which is no part of its function.

    Missing fields have diffusers' defaults, so that one network has one description.

    Raises:
        UsageError: There is no card.
        IncompatibleError: The card is another network's, or a field of it is not supported.
    """
    path = network_folder(folder) / CARD
    if not path.is_file():
        raise UsageError(f"{folder} holds no {CARD} of a network", LAYOUT)
    name = read_object(path, boundary(folder)).get("_class_name")
    if name != NETWORK:
        raise IncompatibleError(f"{path} describes the network {short(name)}", NETWORK)
    return read_card(path, UNetCard, boundary(folder)).options()


def find_weights(folder: Path) -> Path:
    """The file of the weights.

    Raises:
        UsageError: There is no such file, or there are several.
    """
    place = network_folder(folder)
    for name in WEIGHTS:
        if (place / f"{name}.index.json").exists():
            raise UsageError(
                f"{place} holds weights in several parts ({name}.index.json)",
                " or ".join(WEIGHTS),
                SAVE_AGAIN.format(""),
            )
    for name in WEIGHTS:
        if (place / name).exists():
            return place / name
    variants = sorted(path.name for path in place.glob(f"{STEM}.*"))
    if not variants:
        raise UsageError(f"{place} holds no weights", " or ".join(WEIGHTS))
    variant = variants[0].split(".")[1]
    raise UsageError(
        f"{place} holds no weights but {single_line(', '.join(variants[:3]))}, a variant",
        " or ".join(WEIGHTS),
        f"get the weights in full precision, or {SAVE_AGAIN.format(f', variant={variant!r}')}",
    )


def read_weights(file: Path, inside: Path, network: UNet2DModel) -> tuple[dict[str, Tensor], str]:
    """State of a network in float32, and the SHA-256 of the bytes that were read.

    Args:
        file: The weights.
        inside: The folder that they may not leave.
        network: The network that the card describes, on ``meta``.

    Raises:
        StorageError: The file is damaged, or holds numbers that are not finite.
        IncompatibleError: The weights are another network's.
    """
    name, expected = single_line(file), network.state_dict()

    def convert(content: Any) -> dict[str, Tensor]:
        return with_new_names(as_state(name, content), expected)

    state, sha256 = read_state(file, inside, network, convert, name)
    state = {key: value.detach().float() for key, value in state.items()}
    check_finite(name, state)  # again: float64 may overflow
    return state, sha256


def as_state(name: str, value: Any) -> Mapping[str, Tensor]:
    """``value``, if it is a state_dict.

    Raises:
        IncompatibleError: ``value`` is no mapping of names to tensors.
    """
    if isinstance(value, Mapping) and all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items()
    ):
        return value
    raise IncompatibleError(
        f"{name} does not hold names and tensors alone",
        "the state_dict of the network alone",
        f"load the file in the program that made it, and save the network: {SAVE_AGAIN.format('')}",
    )


def with_new_names(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state with diffusers' names of attention layers since 2022."""
    names = {}
    for key in state:
        name = key
        for old, new in OLD_NAMES.items():
            name = name.replace(f".{old}.", f".{new}.")
        is_old = key not in expected and name in expected and name not in state
        names[key] = name if is_old else key
    return {names[key]: tensor for key, tensor in state.items()}


def read_object(path: Path, inside: Path | None = None) -> dict[str, Any]:
    """A card without a schema.

    Raises:
        StorageError: It cannot be read as a JSON object.
    """
    value: Any = read_json(path, inside, CARD_LIMIT)
    if not isinstance(value, dict):
        raise StorageError(f"{single_line(path)} holds {type(value).__name__}", "a JSON object")
    return value


def check_process(folder: Path, own: Mapping[str, Any]) -> bool:
    """Compare the process of an exported folder with ``own``; False where it names none.

    Raises:
        IncompatibleError: The processes differ.
    """
    path = folder / PROCESS
    if not path.is_file():
        return False
    stored = read_object(path, boundary(folder))
    if stored != dict(own):
        raise IncompatibleError(
            f"the network in {folder} was trained on {single_line(spec_text(stored))[:200]}",
            spec_text(own),
            "choose the backbone, its options (-b) and the data of that training",
        )
    return True


def save_unet(unet: UNet2DModel, folder: Path, process: Mapping[str, Any]) -> None:
    """Card and weights as diffusers writes them, and the name of the process."""
    unet.save_pretrained(folder / "unet")
    (folder / PROCESS).write_text(json.dumps(dict(process), indent=2) + "\n", encoding="utf-8")


def spec_text(values: Mapping[str, Any]) -> str:
    """``key value, key value``."""
    return ", ".join(f"{key} {value}" for key, value in values.items())
