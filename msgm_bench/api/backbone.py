"""Backbones, which build models, and what they read of other programs' models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from msgm_bench.api.model import DataStats, Model
from msgm_bench.api.plugin import OptionsT, Plugin
from msgm_bench.diffusion import Process
from msgm_bench.errors import IncompatibleError


@dataclass(frozen=True)
class PretrainedNetwork:
    """A network that another program wrote, and that fits the backbone.

    Attributes:
        backbone: The backbone with the options that build such a network.
        weights: State of the network that ``backbone`` builds.
        sha256: SHA-256 of the file of the weights.
        remark: What the files do not say and the reader assumes; empty where they say all.
    """

    backbone: Backbone
    weights: Mapping[str, Tensor]
    sha256: str
    remark: str = ""


@dataclass(frozen=True)
class WeightChange:
    """New weights for some of a network's, from a file that another program wrote.

    Attributes:
        weights: The new weights by the network's names.
        sha256: SHA-256 of the file's bytes.
    """

    weights: Mapping[str, Tensor]
    sha256: str


class Backbone(Plugin[OptionsT], ABC):
    """A diffusion process and the network that predicts its noise.

    Attributes:
        assets: Folder of files that a model needs beside options and weights, such as those of a
            tokenizer; options hold their hashes. None for most backbones.
        needs_base: Whether its networks, process and options are those of the base of a run.
        data_range: Interval to which images are scaled.
        samplers: Names of the samplers that suit the process, the default first.
        conditional: Whether its networks take a class; ``stats.classes`` is their number.
        text: Whether its models take a prompt; ``stats.prompts`` are the prompts.
    """

    data_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    samplers: ClassVar[tuple[str, ...]] = ("heun", "em", "pc")
    conditional: ClassVar[bool] = False
    text: ClassVar[bool] = False
    needs_base: ClassVar[bool] = False
    assets: Path | None = None

    @abstractmethod
    def process(self, stats: DataStats) -> Process:
        """The forward process for this data."""

    @abstractmethod
    def network(self, stats: DataStats, process: Process) -> nn.Module:
        """A new network, initialised from torch's current random state.

        Its condition is ``int64 [N]`` in 0 .. K if ``stats.classes`` is K, else None.
        """

    def build(self, stats: DataStats) -> Model:
        """A new model for this data."""
        process = self.process(stats)
        codec = stats.codec(*self.data_range)
        network = self.network(stats, process)
        return Model(
            network, process, codec, stats.shape, stats.conditioning, parts=self.parts(network)
        )

    def parts(self, network: nn.Module) -> Mapping[str, Iterable[str]]:
        """Names of the parameters of ``network`` in each part that a method may train alone."""
        return {}

    def add_adapter(self, model: Model, part: str) -> None:
        """Add trainable weights beside those of ``model``, such as ``lora:4``; they change nothing.

        Called where a method trains a part that ``model`` does not have, before its weights move;
        afterwards the model has it.

        Raises:
            OptionError: The backbone knows no such part.
        """
        model.part(part)

    def describe(self, model: Model) -> Mapping[str, Any]:
        """What the weights of ``model`` mean beyond their names and shapes, JSON-ready.

        ``model.json`` holds the description, and weights load only into a network of the same
        one: number of attention heads, groups and eps of norms, activation, features of
        the time. The model may be on ``meta``.
        """
        return {}

    def from_pretrained(
        self, source: str, stats: DataStats, download: bool = True
    ) -> PretrainedNetwork:
        """A base model that another program wrote.

        Args:
            source: A folder, or a name that the backbone knows how to find.
            stats: Statistics of the data that it must fit.
            download: Whether it may be downloaded.

        Raises:
            UsageError: It is not there, or fits neither the data nor the process.
            StorageError: Its files are damaged or cannot be downloaded.
        """
        raise IncompatibleError(
            f"the backbone {self.name!r} starting from {source}",
            "backbones that read models of other programs",
            "leave out --base",
        )

    def save_pretrained(self, model: Model, folder: Path) -> str:
        """Write a trained model for other programs; ``from_pretrained`` reads the same again.

        Args:
            model: A model of this backbone.
            folder: An empty folder.

        Returns:
            How to use what was written, in markdown.

        Raises:
            IncompatibleError: No other program has such a network.
        """
        raise IncompatibleError(
            f"models of the backbone {self.name!r} for other programs", "backbones that write them"
        )

    def save_assets(self, folder: Path) -> None:
        """Copy the files of ``assets`` that a model needs; most backbones have none.

        Raises:
            StorageError: A file cannot be read or written.
        """

    def read_change(self, source: Path, model: Model) -> WeightChange:
        """The change that a file of another program makes to a base model.

        Args:
            source: A file, such as a LoRA, or a folder with one.
            model: The base model; on ``meta``, the change has names and shapes alone.

        Raises:
            UsageError: There is no such file, or it is for another network.
            StorageError: The file is damaged.
        """
        raise IncompatibleError(
            f"the file {source} for the backbone {self.name!r}",
            "run folders, or backbones that read files of other programs",
        )

    def save_part(self, state: Mapping[str, Tensor], part: str, folder: Path) -> str:
        """Write the weights of a partial training for other programs; ``read_change`` reads them.

        Args:
            state: The trained weights by the network's names.
            part: Name of the part.
            folder: An empty folder.

        Returns:
            How to use what was written, in markdown.

        Raises:
            IncompatibleError: No other program reads such weights.
        """
        raise IncompatibleError(
            f"the part {part!r} of a model of the backbone {self.name!r} for other programs",
            "backbones that write parts",
        )
