"""Folders of diffusers: where a U-Net's card, weights and schedule lie, and how they are read."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from msgm_bench import IncompatibleError, StorageError, UsageError
from msgm_bench.storage import read_json, single_line
from msgm_bench.storage.cards import CARD_LIMIT, read_card, short
from msgm_bench.storage.pickles import load_pickle
from msgm_bench.storage.tensors import open_tensors
from msgm_bench.storage.weights import boundary, check_finite, check_network
from msgm_builtin.backbones.diffusers_cards import PipelineCard, UNetCard

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
FORMER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
SAVE_AGAIN = (
    'save them again as one: python -c "from diffusers import UNet2DModel; '
    "UNet2DModel.from_pretrained('DIR'{}).save_pretrained('NEW', max_shard_size='1TB')\""
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
        tried = f", and it could not be downloaded: {error_summary(error)}" if download else ""
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

    parts = [f"{place}{name}.index.json" for place in ("", "unet/") for name in WEIGHTS]
    folder = fetch(CARD, INDEX, SCHEDULE, PROCESS, f"unet/{CARD}", f"scheduler/{SCHEDULE}", *parts)
    for name in WEIGHTS:
        fetch(name, f"unet/{name}")
        if (home(folder) / name).is_file():
            return folder
    raise LocalEntryNotFoundError(f"its cards are there, {' and '.join(WEIGHTS)} are not")


def home(folder: Path) -> Path:
    """Where the network lies: in ``unet/``, or in the folder itself."""
    return folder / "unet" if (folder / "unet").is_dir() else folder


def places(folder: Path) -> list[Path]:
    """Folders in which cards may lie that speak of the network in ``folder``.

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
    """Make sure that the network works on pixels.

    Raises:
        IncompatibleError: It is part of a latent pipeline, or of one that is not understood.
        StorageError: The pipeline's card cannot be read.
    """
    for place in places(folder):
        latent = next((name for name in LATENT if (place / name).is_dir()), None)
        if latent is not None:
            raise IncompatibleError(
                f"{place} holds {latent}/: a latent pipeline, whose network sees no pixels",
                "networks that predict the noise of images",
            )
        if (place / INDEX).exists():
            read_card(place / INDEX, PipelineCard, boundary(place))


def architecture(folder: Path) -> dict[str, Any]:
    """All options of the ``UNet2DModel``, but for the dropout, which is no part of its function.

    What the card leaves out has diffusers' default, so that one network has one description.

    Raises:
        UsageError: There is no card.
        IncompatibleError: It is another network's, or a field of it is not understood.
    """
    path = home(folder) / CARD
    if not path.is_file():
        raise UsageError(f"{folder} holds no {CARD} of a network", LAYOUT)
    name = read_object(path, boundary(folder)).get("_class_name")
    if name != NETWORK:
        raise IncompatibleError(f"{path} describes the network {short(name)}", NETWORK)
    return read_card(path, UNetCard, boundary(folder)).options()


def weights_of(folder: Path) -> Path:
    """The file of the weights.

    Raises:
        UsageError: There is none, or more than one could be meant.
    """
    place = home(folder)
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
    """State of a network, as float32, and the SHA-256 of the bytes that it was read from.

    Args:
        file: The weights.
        inside: The folder that they may not leave.
        network: The network that the card describes, on ``meta``.

    Raises:
        StorageError: The file is damaged, or holds numbers that are not finite.
        IncompatibleError: It is another network's.
    """
    wanted, name = network.state_dict(), single_line(file)
    if file.suffix == ".safetensors":
        with open_tensors(file, inside) as opened:
            check_network(name, renamed(opened.state, wanted), wanted)
            state, sha256 = opened.read_hashed()
    else:
        state, sha256 = load_pickle(file, inside)
        check_network(name, renamed(state_of(name, state), wanted), wanted)
    state = {key: value.detach().float() for key, value in renamed(state, wanted).items()}
    check_finite(name, state)
    return state, sha256


def state_of(name: str, value: Any) -> dict[str, Tensor]:
    """What was pickled, if it is a state_dict.

    Raises:
        IncompatibleError: It is something else.
    """
    if isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items()
    ):
        return value
    raise IncompatibleError(
        f"{name} holds something else than names and tensors",
        "the state_dict of the network alone",
        f"load it where it was made, and save the network: {SAVE_AGAIN.format('')}",
    )


def renamed(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with today's names of attention layers, which were others until 2022."""
    names = {}
    for key in state:
        name = key
        for former, now in FORMER.items():
            name = name.replace(f".{former}.", f".{now}.")
        names[key] = name if key not in wanted and name in wanted and name not in state else key
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
    """Compare the process that an exported folder names with ``own``; False where it names none.

    Raises:
        IncompatibleError: They differ.
    """
    path = folder / PROCESS
    if not path.is_file():
        return False
    told = read_object(path, boundary(folder))
    if told != dict(own):
        raise IncompatibleError(
            f"the network in {folder} was trained on {single_line(listed(told))[:200]}",
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


def error_summary(error: BaseException) -> str:
    """What an error says, in a line."""
    return textwrap.shorten(str(error) or type(error).__name__, 200)
