"""Stable Diffusion 1.x and 2.x: a denoiser of latents under cross-attention to CLIP's text."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from msgm_bench import (
    Backbone,
    DataStats,
    DiscreteDDPM,
    Model,
    MsgmBenchError,
    Options,
    PretrainedNetwork,
    Process,
    Prompts,
    StorageError,
    UsageError,
    WeightChange,
    hookimpl,
)
from msgm_bench.storage import copy_file, single_line
from msgm_bench.storage.cards import parse_card
from msgm_bench.storage.weights import boundary
from msgm_builtin.backbones.base import EXPONENTIAL
from msgm_text.backbones.adapter_files import read_change
from msgm_text.backbones.adapters import add_lora, merge_lora, save_part
from msgm_text.backbones.latents import Latents
from msgm_text.backbones.parts import named_parts
from msgm_text.backbones.pipeline_cards import PipelineCard
from msgm_text.backbones.pipeline_io import (
    LAYOUT,
    find_pipeline,
    find_weights,
    read_part,
    read_pipeline,
)
from msgm_text.backbones.pipeline_parts import (
    latent_shape,
    new_autoencoder,
    new_parts,
    other_size,
)
from msgm_text.backbones.scaled_linear import ScaledLinearDDPM
from msgm_text.backbones.t2i import TextToImageNetwork
from msgm_text.backbones.text_encoder import PromptEncoder
from msgm_text.backbones.vocabulary import FILES, ClipTokenizer, read_vocabulary
from msgm_text.extra import require_text

USAGE = """\
With `DIR` for this folder:

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("DIR")
image = pipeline("a prompt").images[0]
```

`--base DIR` starts a run from it, `msgm-bench evaluate DIR` scores it.
"""
CHANGED = "leave the files of the base alone, and repeat the command"
BATCHES = {name: {"batch_size": 8} for name in ("prompt_generation", "drift")}


class StableDiffusionOptions(Options):
    """What the base says of itself."""

    pipeline: dict[str, Any] | None = Field(
        None, description="cards and hashes of the parts of the base, which --base brings"
    )

    @field_validator("pipeline", mode="before")
    @classmethod
    def _parse_pipeline(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        try:
            return parse_card(dict(value), PipelineCard, "pipeline").options()
        except MsgmBenchError as error:
            raise ValueError(f"{error.what}: {error.allowed}".rstrip(": ")) from error


class StableDiffusion(Backbone[StableDiffusionOptions]):
    """Stable Diffusion 1.x or 2.x from ``--base``: U-Net, text encoder, tokenizer, autoencoder.

    The autoencoder is the codec and never trained; guidance is ``guidance_scale`` = 1 + w.
    """

    name = "stable_diffusion"
    citation = "Rombach et al. 2022, arXiv:2112.10752, sections 3 and 4.3"
    samplers: ClassVar[tuple[str, ...]] = ("ddim", "ancestral", "heun", *EXPONENTIAL)
    text = True
    needs_base = True
    presets = {
        "quick": {
            "finetuning": {"batch_size": 4, "learning_rate": 1e-5, "steps": 200},
            "tasks": BATCHES,
        },
        "full": {
            "finetuning": {"batch_size": 4, "learning_rate": 1e-5, "steps": 1000},
            "tasks": BATCHES,
        },
        "paper": {"tasks": BATCHES},
    }

    @property
    def card(self) -> PipelineCard:
        """The cards of the parts.

        Raises:
            UsageError: There is no base.
        """
        if self.options.pipeline is None:
            raise UsageError(
                f"the backbone {self.name!r} without a base: its network is the base's",
                f"--base DIR, {LAYOUT}; or the name of a hub's repository",
            )
        return parse_card(self.options.pipeline, PipelineCard, "pipeline")

    def process(self, stats: DataStats) -> DiscreteDDPM:
        """The grid of the betas that the network was trained on."""
        c = self.card.schedule
        kind = ScaledLinearDDPM if c.beta_schedule == "scaled_linear" else DiscreteDDPM
        return kind(c.num_train_timesteps, c.beta_start, c.beta_end)

    def network(self, stats: DataStats, process: Process) -> nn.Module:
        """U-Net and text encoder."""
        assert isinstance(process, DiscreteDDPM)
        return TextToImageNetwork(*new_parts(self.card), process)

    def build(self, stats: DataStats) -> Model:
        """A new model, whose conditions are the prompts of ``stats``."""
        card, process = self.card, self.process(stats)
        shape = latent_shape(card, stats)
        tokenizer = self.tokenizer()
        network = self.network(stats, process)
        assert isinstance(network, TextToImageNetwork)
        return Model(
            network,
            process,
            self.codec(stats),
            shape,
            Prompts(stats.prompts or (), tokenizer, PromptEncoder(network.text_encoder)),
            "epsilon" if card.schedule.prediction_type == "epsilon" else "v",
            self.parts(network),
        )

    def tokenizer(self) -> ClipTokenizer:
        """The base's tokenizer.

        Raises:
            StorageError: Its files are not there, or have changed.
        """
        require_text()
        folder = self.assets_folder()
        vocabulary = read_vocabulary(folder / "tokenizer", boundary(folder))
        stored = (self.card.vocabulary_sha256, self.card.tokenizer)
        if (vocabulary.sha256, vocabulary.card) != stored:
            raise StorageError(f"the tokenizer in {single_line(folder)} has changed", hint=CHANGED)
        return ClipTokenizer(vocabulary)

    def codec(self, stats: DataStats) -> Latents:
        """The base's autoencoder, without its weights on ``meta``.

        Raises:
            StorageError: Its files are not there, or have changed.
        """
        c = self.card.vae
        vae = new_autoencoder(self.card)
        if next(vae.parameters()).device.type != "meta":
            with torch.device("meta"):
                expected = new_autoencoder(self.card)
            state, sha256 = read_part(self.assets_folder(), "vae", expected)
            if sha256 != self.card.vae_sha256:
                raise StorageError("the weights of the autoencoder have changed", hint=CHANGED)
            vae.load_state_dict(state)
        return Latents(vae, c.scaling_factor, c.shift_factor or 0.0, stats.levels or 256)

    def assets_folder(self) -> Path:
        """The folder of tokenizer and autoencoder.

        Raises:
            StorageError: It is not there.
        """
        if self.assets is None or not self.assets.is_dir():
            raise StorageError(
                f"tokenizer and autoencoder of the base are not in {self.assets}",
                LAYOUT,
                "give the base again with --base",
            )
        return self.assets

    def parts(self, network: nn.Module) -> Mapping[str, Iterable[str]]:
        """The parts by the names of Stable Diffusion's parameters."""
        return named_parts(network)

    def add_adapter(self, model: Model, part: str) -> None:
        """``lora:R``, a LoRA of rank R in the attention of the U-Net."""
        add_lora(model, part)

    def describe(self, model: Model) -> Mapping[str, Any]:
        """The U-Net's options, heads and activation of the text encoder, prediction, latents."""
        network = model.network
        assert isinstance(network, TextToImageNetwork)
        stated = {"prediction": model.prediction_type, "autoencoder": self.card.vae_sha256}
        return network.describe() | stated

    def from_pretrained(
        self, source: str, stats: DataStats, download: bool = True
    ) -> PretrainedNetwork:
        """A pipeline in a folder of diffusers, or on its hub."""
        require_text()
        folder = find_pipeline(source, download)
        card, vocabulary, remark = read_pipeline(folder)
        latent_shape(card, stats)
        ClipTokenizer(vocabulary)(stats.prompts or ())  # a prompt may be too long
        with torch.device("meta"):
            unet, text_encoder = new_parts(card)
            vae = new_autoencoder(card)
        weights: dict[str, Tensor] = {}
        hashes: dict[str, Any] = {"cards": card.options(), "vocabulary": vocabulary.sha256}
        for part, network in (("unet", unet), ("text_encoder", text_encoder), ("vae", vae)):
            state, hashes[part] = read_part(folder, part, network)
            if part != "vae":
                weights |= {f"{part}.{name}": tensor for name, tensor in state.items()}
        card = card.model_copy(update={"vae_sha256": hashes["vae"]})
        backbone = type(self)(StableDiffusionOptions(pipeline=card.options()))
        backbone.assets = folder
        sha256 = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
        remarks = filter(None, (remark, other_size(card, stats)))
        return PretrainedNetwork(backbone, weights, sha256, "; ".join(remarks))

    def save_assets(self, folder: Path) -> None:
        """Copy the files of tokenizer and autoencoder."""
        source = self.assets_folder()
        files = [source / "tokenizer" / name for name in FILES]
        for path in (find_weights(source, "vae"), *filter(Path.exists, files)):
            copy_file(path, folder / path.relative_to(source))

    def read_change(self, source: Path, model: Model) -> WeightChange:
        """A LoRA or some weights, as diffusers and others write them."""
        return read_change(source, model.network.state_dict())

    def save_part(self, state: Mapping[str, Tensor], part: str, folder: Path) -> str:
        """A LoRA as diffusers writes it, or weights under its names."""
        return save_part(state, folder)

    def save_pretrained(self, model: Model, folder: Path) -> str:
        """A pipeline as diffusers saves it, without a safety checker."""
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import (
            StableDiffusionPipeline,
        )
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        network: Any = copy.deepcopy(model.network)
        merge_lora(network)
        codec: Any = model.codec
        schedule = self.card.schedule.model_dump()
        pipeline = StableDiffusionPipeline(
            vae=codec.vae,
            text_encoder=network.text_encoder,
            tokenizer=self.tokenizer().clip,
            unet=network.unet,
            scheduler=DDIMScheduler(
                **schedule, clip_sample=False, set_alpha_to_one=False, steps_offset=1
            ),
            safety_checker=None,  # type: ignore[arg-type]
            feature_extractor=None,  # type: ignore[arg-type]
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(folder)
        return USAGE


@hookimpl
def register_backbones() -> Sequence[type[Backbone]]:
    """Stable Diffusion."""
    return [StableDiffusion]
