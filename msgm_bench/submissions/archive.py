"""The archive of a submission: result, request, evidence, and a manifest with their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from msgm_bench.api import Evidence, Result
from msgm_bench.api.result import Name
from msgm_bench.boards.collect import parse
from msgm_bench.errors import RefusedError, UsageError
from msgm_bench.experiment.spec import RunSpec, parse_spec
from msgm_bench.storage import parse_json, parse_yaml, single_line
from msgm_bench.storage.archives import ARCHIVE_LIMIT, pack_files, read_archive, unpack_files
from msgm_bench.storage.cards import Card, parse_card
from msgm_bench.storage.tensors import pack_tensors, unpack_tensors

FORMAT: Literal["msgm-bench/submission@1"] = "msgm-bench/submission@1"
RESULT, SPEC, MANIFEST = "result.json", "spec.yaml", "manifest.json"
Protocol = Annotated[str, Field(max_length=200)]


class FileCard(Card):
    """Size and hash of a file."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class EvidenceCard(Card):
    """A file of evidence, and whose rows follow from it."""

    file: str
    metric: Name
    task: Name
    protocol: Protocol


class OmittedCard(Card):
    """Evidence that was too large."""

    metric: Name
    task: Name
    bytes: int = Field(ge=0)


class Manifest(Card):
    """``manifest.json``."""

    format: Literal["msgm-bench/submission@1"]
    files: dict[str, FileCard]
    evidence: list[EvidenceCard]
    omitted: list[OmittedCard]


@dataclass(frozen=True, eq=False)
class Exhibit:
    """Evidence with the metric whose rows follow from it."""

    metric: str
    evidence: Evidence

    @property
    def file(self) -> str:
        """Its name in the archive."""
        return f"evidence/{self.metric}/{self.evidence.task}.safetensors"

    @property
    def card(self) -> EvidenceCard:
        """Its entry in the manifest."""
        return EvidenceCard(
            file=self.file,
            metric=self.metric,
            task=self.evidence.task,
            protocol=self.evidence.protocol,
        )


@dataclass(frozen=True, eq=False)
class Submission:
    """A result with its request and its evidence.

    Attributes:
        name: Name of its file, for messages.
        result: The result.
        document: The text of ``result.json``.
        request: The text of ``spec.yaml``.
        spec: The request.
        exhibits: The evidence.
        omitted: Evidence that was too large.
    """

    name: str
    result: Result
    document: str
    request: str
    spec: RunSpec
    exhibits: tuple[Exhibit, ...]
    omitted: tuple[OmittedCard, ...] = ()


def pack(submission: Submission) -> bytes:
    """The archive of a submission; one submission has one sequence of bytes."""
    files = {RESULT: submission.document.encode(), SPEC: submission.request.encode()}
    for exhibit in submission.exhibits:
        files[exhibit.file] = pack_tensors(exhibit.evidence.tensors)
    manifest = Manifest(
        format=FORMAT,
        files={name: _file_card(content) for name, content in sorted(files.items())},
        evidence=[exhibit.card for exhibit in submission.exhibits],
        omitted=list(submission.omitted),
    )
    return pack_files(files | {MANIFEST: (manifest.model_dump_json(indent=1) + "\n").encode()})


def read(path: Path, limit: int = ARCHIVE_LIMIT) -> Submission:
    """The submission in a file.

    Raises:
        StorageError: The file is no such archive, or one of its parts is damaged.
        RefusedError: Its parts do not belong together.
    """
    return _submission(read_archive(path, limit), single_line(path))


def unpack(content: bytes, name: str) -> Submission:
    """The submission in an archive in memory; ``name`` names it in errors.

    Raises:
        StorageError: As ``read``.
        RefusedError: As ``read``.
    """
    return _submission(unpack_files(content, name), name)


def _submission(files: Mapping[str, bytes], name: str) -> Submission:
    manifest = _manifest(files, name)
    document, request = (_text(files, part, name) for part in (RESULT, SPEC))
    result = parse(document, f"{name}: {RESULT}")
    return Submission(
        name,
        result,
        document,
        request,
        _spec(request, f"{name}: {SPEC}"),
        tuple(_exhibit(card, result, files[card.file], name) for card in manifest.evidence),
        tuple(manifest.omitted),
    )


def _manifest(files: Mapping[str, bytes], name: str) -> Manifest:
    """The manifest, whose files are those of the archive, byte by byte."""
    value = parse_json(_text(files, MANIFEST, name), f"{name}: {MANIFEST}")
    if not isinstance(value, dict):
        raise RefusedError(f"{name}: {MANIFEST} holds {type(value).__name__}", "a JSON object")
    manifest = parse_card(value, Manifest, f"{name}: {MANIFEST}")
    named = {RESULT, SPEC, *(card.file for card in manifest.evidence)}
    if len(named) != 2 + len(manifest.evidence):
        raise RefusedError(f"{name}: two entries of {MANIFEST} name one file")
    for part, known in (("manifest's files", set(manifest.files)), ("files", set(files))):
        differing = sorted((named ^ known) - {MANIFEST})
        if differing:
            raise RefusedError(
                f"{name}: {single_line(differing[0])[:80]} is not in its place",
                f"{part}: {RESULT}, {SPEC} and those of the evidence",
            )
    for file, card in manifest.files.items():
        if _file_card(files[file]) != card:
            raise RefusedError(
                f"{name}: {file} is not the file of the manifest: its hash differs",
                hint="it was damaged or edited: submit the run again",
            )
    return manifest


def _text(files: Mapping[str, bytes], part: str, name: str) -> str:
    if part not in files:
        raise RefusedError(f"{name} has no {part}", "an archive that `msgm-bench submit` wrote")
    try:
        return files[part].decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(f"{name}: {part} is no UTF-8 text") from error


def _spec(text: str, name: str) -> RunSpec:
    values = parse_yaml(text, name)
    if not isinstance(values, dict):
        raise RefusedError(f"{name} holds {type(values).__name__}", "a mapping")
    try:
        return parse_spec(values)
    except UsageError as error:
        raise RefusedError(f"{name}: {error.what}", error.allowed) from error


def _exhibit(card: EvidenceCard, result: Result, content: bytes, name: str) -> Exhibit:
    if card.protocol not in result.protocols:
        raise RefusedError(f"{name}: {card.file} is of {card.protocol}, which its result lacks")
    tensors: dict[str, Tensor] = unpack_tensors(content, f"{name}: {card.file}")
    settings = result.protocols[card.protocol].settings
    forget = tuple(result.spec.forget)
    exhibit = Exhibit(card.metric, Evidence(card.task, card.protocol, settings, forget, tensors))
    if exhibit.file != card.file:
        raise RefusedError(f"{name}: {card.file} is not {exhibit.file}")
    return exhibit


def _file_card(content: bytes) -> FileCard:
    return FileCard(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
