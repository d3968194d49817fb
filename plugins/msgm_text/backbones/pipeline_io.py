"""Folders of Stable Diffusion: search, cards and weights of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import Tensor, nn

from msgm_bench import IncompatibleError, UsageError
from msgm_bench.storage import single_line
from msgm_bench.storage.cards import ForeignCard, parse_card, read_card, short
from msgm_bench.storage.weights import boundary, check_finite
from msgm_builtin.backbones.diffusers_io import (
    CARD,
    INDEX,
    SCHEDULE,
    as_state,
    find_folder,
    read_object,
    with_new_names,
)
from msgm_builtin.weights_files import read_state
from msgm_text.backbones.pipeline_cards import (
    AutoencoderCard,
    ConditionalUNetCard,
    IndexCard,
    PipelineCard,
    ScheduleCard,
    TextEncoderCard,
)
from msgm_text.backbones.vocabulary import CLASSES as TOKENIZERS
from msgm_text.backbones.vocabulary import Vocabulary, read_vocabulary

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
WEIGHTS = {
    "unet": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "vae": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "text_encoder": ("model.safetensors", "pytorch_model.bin"),
}
CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
SCHEDULERS = (
    *("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "LMSDiscreteScheduler"),
    *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"),
)
COMPONENTS = {
    "unet": ("diffusers", (CLASSES["unet"],)),
    "vae": ("diffusers", (CLASSES["vae"],)),
    "text_encoder": ("transformers", (CLASSES["text_encoder"],)),
    "tokenizer": ("transformers", TOKENIZERS),
    "scheduler": ("diffusers", SCHEDULERS),
}
LAYOUT = f"a folder of Stable Diffusion 1.x or 2.x: {INDEX} and {', '.join(PARTS)}"
PREFIX, POSITIONS = "text_model.", "embeddings.position_ids"
CardT = TypeVar("CardT", bound=ForeignCard)


def find_pipeline(source: str, download: bool = True) -> Path:
    """The folder ``source``, or that of the hub's repository of this name.

    Raises:
        UsageError: There is no such folder, or it holds no pipeline.
        StorageError: The repository is not on this machine, and cannot be downloaded.
    """
    folder = find_folder(source, download, _from_hub, LAYOUT)
    if not (folder / INDEX).is_file():
        raise UsageError(f"{single_line(folder)} holds no {INDEX}", LAYOUT)
    return folder


def _from_hub(repository: str, download: bool) -> Path:
    """Download cards, then weights in the safer of their formats."""

    def fetch(*names: str) -> Path:
        return Path(
            snapshot_download(repository, allow_patterns=list(names), local_files_only=not download)
        )

    folder = fetch(INDEX, "*/*.json", "tokenizer/merges.txt")
    for part, names in WEIGHTS.items():
        for name in names:
            fetch(f"{part}/{name}")
            if (folder / part / name).is_file():
                break
        else:
            raise LocalEntryNotFoundError(f"{part}/ is there without {' and '.join(names)}")
    return folder


def read_pipeline(folder: Path) -> tuple[PipelineCard, Vocabulary, str]:
    """Cards of a pipeline, the tokenizer's vocabulary, and what of it is not used.

    The hash of the autoencoder's weights on the card is empty: they are not read here.

    Raises:
        IncompatibleError: It is no Stable Diffusion 1.x or 2.x, or its parts do not fit together.
        StorageError: A file is damaged or not there.
    """
    inside = boundary(folder)
    index = read_card(folder / INDEX, IndexCard, inside)
    check_components(folder, index)
    vocabulary = read_vocabulary(folder / "tokenizer", inside)
    card = PipelineCard(
        unet=part_card(folder, "unet", ConditionalUNetCard),
        vae=part_card(folder, "vae", AutoencoderCard),
        text_encoder=part_card(folder, "text_encoder", TextEncoderCard),
        tokenizer=vocabulary.card,
        schedule=schedule_card(folder / "scheduler" / SCHEDULE, inside),
        vae_sha256="0" * 64,
        vocabulary_sha256=vocabulary.sha256,
    )
    check_parts(single_line(folder), card, len(vocabulary))
    has_checker = (index.safety_checker or (None,))[0] is not None
    return card, vocabulary, "its safety checker is not used" if has_checker else ""


def check_components(folder: Path, index: IndexCard) -> None:
    """Refuse a pipeline without one of the parts, or with a part of another class.

    The files of a part are read as those of its class here, whatever lies beside them.

    Raises:
        IncompatibleError: Naming the part, its class and those that are read.
    """
    for part, (library, names) in COMPONENTS.items():
        stated = getattr(index, part) or (None,)
        if not (folder / part).is_dir() or stated[0] is None:
            raise IncompatibleError(
                f"{single_line(folder)} is a pipeline without {part}", LAYOUT, "save it with all"
            )
        if stated not in [(library, name) for name in names]:
            raise IncompatibleError(
                f"{single_line(folder / INDEX)}: {part} is {short('.'.join(map(str, stated)))}",
                " or ".join(f"{library}.{name}" for name in names),
                "Stable Diffusion 1.x and 2.x have these",
            )


def check_parts(name: str, card: PipelineCard, vocabulary: int) -> None:
    """Refuse parts that do not fit together.

    Raises:
        IncompatibleError: Naming the first two that do not.
    """
    unet, vae, text = card.unet, card.vae, card.text_encoder
    pairs = (
        ("channels that the unet takes", unet.in_channels, "of the vae's", vae.latent_channels),
        ("channels that the unet predicts", unet.out_channels, "of the vae", vae.latent_channels),
        ("channels of the vae's images", vae.in_channels, "of colour images", 3),
        ("channels that the vae decodes", vae.out_channels, "of colour images", 3),
        ("width of the text in the unet", unet.cross_attention_dim, "encoder", text.hidden_size),
        ("tokens of the tokenizer", vocabulary, "text encoder", text.vocab_size),
    )
    for what, actual, whose, expected in pairs:
        if actual != expected:
            raise IncompatibleError(
                f"{name}: {what}: {actual}; {whose}: {expected}", "parts of one pipeline"
            )
    if card.tokenizer.length > text.max_position_embeddings:
        raise IncompatibleError(
            f"{name}: the tokenizer makes {card.tokenizer.length} tokens of a prompt",
            f"at most {text.max_position_embeddings}, the positions of the text encoder",
        )


def part_card(folder: Path, part: str, schema: type[CardT]) -> CardT:
    """The card of a part, which names its class."""
    path, inside = folder / part / CARD, boundary(folder)
    values = read_object(path, inside)
    stated = values.get("_class_name") or (values.get("architectures") or [None])[0]
    if stated != CLASSES[part]:
        raise IncompatibleError(f"{single_line(path)} describes {short(stated)}", CLASSES[part])
    return read_card(path, schema, inside)


def schedule_card(path: Path, inside: Path) -> ScheduleCard:
    """What the scheduler says of the training; its other fields are options of sampling."""
    values, name = read_object(path, inside), single_line(path)
    if values.get("_class_name") not in SCHEDULERS:
        raise IncompatibleError(
            f"{name} describes {short(values.get('_class_name'))}", " or ".join(SCHEDULERS)
        )
    if values.get("rescale_betas_zero_snr"):
        raise IncompatibleError(
            f"{name}: rescale_betas_zero_snr, so that no signal is left at the last step",
            "a schedule with a signal at every step",
            "there x_T says nothing of x_0, and the noise that v stands for has no error to weigh",
        )
    for key in ("trained_betas", "variance_type"):
        if values.get(key) not in (None, "fixed_small", "fixed_large", "fixed_small_log"):
            raise IncompatibleError(f"{name}: {key} = {short(values[key])}", f"no {key}")
    known = {key: values[key] for key in ScheduleCard.model_fields if key in values}
    return parse_card(known, ScheduleCard, name)


def read_part(folder: Path, part: str, network: nn.Module) -> tuple[dict[str, Tensor], str]:
    """Weights of a part in float32, and the SHA-256 of the file's bytes.

    Args:
        folder: The pipeline.
        part: ``unet``, ``vae`` or ``text_encoder``.
        network: The network that its card describes, on ``meta``.

    Raises:
        UsageError: There is no file of weights.
        StorageError: The file is damaged, or holds numbers that are not finite.
        IncompatibleError: The weights are another network's.
    """
    file = find_weights(folder, part)
    name, expected = single_line(file), network.state_dict()

    def convert(content: Any) -> dict[str, Tensor]:
        state: Mapping[str, Tensor] = as_state(name, content)
        if part != "text_encoder":
            return with_new_names(state, expected)
        renamed = {key.removeprefix(PREFIX): tensor for key, tensor in state.items()}
        return {key: tensor for key, tensor in renamed.items() if key != POSITIONS}

    state, sha256 = read_state(file, boundary(folder), network, convert, name)
    state = {key: value.detach().float() for key, value in state.items()}
    check_finite(name, state)  # again: float64 may overflow
    return state, sha256


def find_weights(folder: Path, part: str) -> Path:
    """The file of the weights of a part.

    Raises:
        UsageError: There is none in full precision and one piece.
    """
    names = WEIGHTS[part]
    for name in names:
        if (folder / part / name).exists():
            return folder / part / name
    others = sorted(
        path.name
        for path in (folder / part).glob("*")
        if path.name.endswith((".safetensors", ".bin", ".index.json"))
    )
    variants = f", but {single_line(', '.join(others[:3]))}" if others else ""
    raise UsageError(
        f"{single_line(folder / part)} holds no weights in full precision and one file{variants}",
        " or ".join(names),
        "save the pipeline again as one: StableDiffusionPipeline.from_pretrained('DIR')"
        ".save_pretrained('NEW', max_shard_size='1TB'), with variant='NAME' for a variant",
    )
