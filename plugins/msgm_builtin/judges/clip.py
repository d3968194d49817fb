"""CLIP as a judge: a prompt for each class, and no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field, field_validator
from torch import Tensor
from torch.nn import functional as F

from msgm_bench import (
    Data,
    IncompatibleError,
    Judge,
    JudgeOptions,
    OptionError,
    Prediction,
    StorageError,
    hookimpl,
)
from msgm_bench.storage import error_summary
from msgm_builtin.embedders import clip_files
from msgm_builtin.judges.reports import BALANCED, predict_held_out, quality_of, report_of

BATCH = 100  # images that the network sees at once
Texts = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    Field(min_length=1),
]


class ClipJudgeOptions(clip_files.ClipOptions, JudgeOptions):
    """Model and prompts."""

    template: Texts = Field(
        ("a photo of a {}",), description="prompts of a class; {} stands for its words"
    )
    present_template: Texts = Field(
        ("a photo of a person with {}",), description="prompts of an attribute"
    )
    absent_template: Texts = Field(
        ("a photo of a person without {}",), description="prompts of its absence"
    )
    prompts: dict[str, str | tuple[str, str]] = Field(
        {},
        description="words for a class or attribute in place of its name; for an attribute "
        "also two whole prompts, with it and without it",
    )
    unrecognisable_prompts: Texts = Field(
        ("random noise", "a blurry picture of nothing", "television static"),
        description="prompts of images without a class",
    )

    @field_validator("template", "present_template", "absent_template")
    @classmethod
    def _check_place(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for text in templates:
            try:
                has_place = text.format("x") != text
            except (LookupError, ValueError):
                has_place = False
            if not has_place:
                raise ValueError(f"{text!r} has no place {{}} for the words")
        return templates


class ClipJudge(Judge[ClipJudgeOptions]):
    """CLIP zero-shot: the class whose prompt is nearest.

    p(k | x) = softmax_k(scale cos(e(x), e(prompt_k))) over the prompts of all classes and those
    of unrecognisable images; an item is recognised where a class is the most likely of all. An
    attribute has a prompt with it and one without it, and the nearer of the two decides. Prompts
    of several templates are averaged as open_clip does.
    """

    name = "clip"
    citation = "Radford et al. 2021, arXiv:2103.00020, section 3.1; open_clip"

    @property
    def criterion(self) -> str:
        """The report's measure: balanced accuracy of attributes, accuracy of classes."""
        return BALANCED if "attributes" in self.report else super().criterion

    def missing_weights(self) -> str | None:
        """Reason why the files cannot be read, or None."""
        return clip_files.missing_weights(self.options)

    def checksum(self) -> str:
        """SHA-256 over the checksums of the files."""
        return clip_files.checksum(self.options)

    def check(self, data: Data) -> None:
        """Refuse data, prompts or a model that do not go together.

        Raises:
            UsageError: Points, images of one class, or prompts of other classes.
            StorageError: The files are damaged, of another network or without its tokenizer.
        """
        if data.levels is None or len(data.shape) != 3 or data.shape[0] not in (1, 3):
            raise IncompatibleError(
                f"the judge 'clip' on items of shape {data.shape}", "grey or colour images"
            )
        if data.train.y.ndim == 1 and len(data.classes) < 2:
            raise IncompatibleError("the judge 'clip' on one class", "two classes or more")
        for i, words in self._prompts(data.classes).items():
            if data.train.y.ndim == 1 and not isinstance(words, str):
                raise OptionError(
                    f"prompts: two texts for the class {data.classes[i]!r}", "one text"
                )
        self.restore(data, {}, torch.device("cpu"))

    def fit(self, data: Data, seed: int, device: torch.device) -> None:
        """Embed the prompts, and measure the accuracy on held-out items.

        Raises:
            StorageError: As ``check``.
        """
        self.restore(data, {}, device)
        self.report = report_of(data, predict_held_out(self, data, device))

    def restore(self, data: Data, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Read the model and embed the prompts.

        Raises:
            StorageError: As ``check``.
        """
        self.clip = clip_files.load(self.options, device)
        tokenizer = clip_files.tokenizer(self.clip)
        self.count, self.has_attributes = len(data.classes), data.train.y.ndim == 2
        try:
            columns = [self._column(tokenizer, *prompt) for prompt in self.texts(data)]
        except clip_files.FAILURES as error:
            raise StorageError(
                f"the CLIP model cannot read the prompts: {error_summary(error)}",
                "a model with a text encoder and its own tokenizer",
            ) from error
        self.prompts = torch.cat(columns, dim=1)

    def texts(self, data: Data) -> list[tuple[str, tuple[str, ...]]]:
        """Words and templates of each prompt.

        Prompts of the classes, or of the presence of each attribute and then of the absence of
        each; then those of unrecognisable images.
        """
        c = self.options
        own = self._prompts(data.classes)
        labels = [own.get(i, name.replace("_", " ").lower()) for i, name in enumerate(data.classes)]
        rows = (
            [(c.present_template, 0), (c.absent_template, 1)]
            if self.has_attributes
            else [(c.template, 0)]
        )
        class_prompts = [
            (words, templates) if isinstance(words, str) else (words[i], ("{}",))
            for templates, i in rows
            for words in labels
        ]
        return [*class_prompts, *((text, ("{}",)) for text in c.unrecognisable_prompts)]

    def _prompts(self, classes: Sequence[str]) -> dict[int, str | tuple[str, str]]:
        """The prompts of the options, by the index of their class.

        A name means the class of this name, else the only one that differs in case alone.

        Raises:
            OptionError: A name means no class or several, or two names mean one class.
        """
        prompts: dict[int, str | tuple[str, str]] = {}
        for name, words in self.options.prompts.items():
            same = [i for i, label in enumerate(classes) if label == name]
            same = same or [i for i, label in enumerate(classes) if label.lower() == name.lower()]
            if len(same) != 1:
                what = "may be any of several classes" if same else "is no class"
                raise OptionError(f"prompts: {name!r} {what}", ", ".join(classes))
            if same[0] in prompts:
                raise OptionError(f"prompts: {classes[same[0]]!r} has two", "one for each class")
            prompts[same[0]] = words
        return prompts

    def _column(self, tokenizer: Any, words: str, templates: tuple[str, ...]) -> Tensor:
        """Embedding of a prompt, ``[E, 1]`` of length 1."""
        from open_clip import build_zero_shot_classifier

        network, device = self.clip.network, self.clip.mean.device
        column: Tensor = build_zero_shot_classifier(
            network, tokenizer, [words], templates, device=device
        )
        return column

    def features(self, x: Tensor) -> Tensor:
        """Image embeddings ``[N, E]``, not normalised."""
        device = self.clip.mean.device
        return torch.cat([self.clip.image_features(p.to(device)) for p in x.split(BATCH)])

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """scale cos(e(x), e(prompt)) ``[N, P]``, a column for each of ``texts``."""
        embedded = F.normalize(self.features(torch.nan_to_num(x)), dim=1)
        logits: Tensor = self.clip.network.logit_scale.exp() * embedded @ self.prompts
        return logits

    def predict(self, x: Tensor) -> Prediction:
        """The nearest class, or the attributes whose presence is nearer than their absence."""
        logits, count = self.logits(x), self.count
        finite = torch.isfinite(x).flatten(1).all(dim=1).to(logits.device)
        n = count * (2 if self.has_attributes else 1)  # prompts of classes
        recognised = logits[:, :n].amax(dim=1) > logits[:, n:].amax(dim=1)
        if self.has_attributes:
            classes = logits[:, :count] > logits[:, count:n]
        else:
            classes = logits[:, :count].argmax(dim=1)
        return Prediction(classes, recognised & finite)

    def quality(self, targets: Sequence[int]) -> float | None:
        """Accuracy; of attributes, the lowest balanced accuracy among ``targets``."""
        return quality_of(self.report, targets)


@hookimpl
def register_judges() -> Sequence[type[Judge]]:
    """CLIP."""
    return [ClipJudge]
