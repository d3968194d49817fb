"""Fenced code blocks of the README and of the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
INDENTED = re.compile(r"(?:^\n|\A)((?: {4}(?=\S).*\n)(?: {4}.*\n|\n)*)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: Path from the root of the repository.
        line: Its first line's number.
        language: First word of the info string; empty for indented blocks.
        words: Further words of the info string, such as ``exec``.
        text: Its content.
    """

    page: str
    line: int
    language: str
    words: frozenset[str]
    text: str

    def __str__(self) -> str:
        """Where it is."""
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """All code blocks of a page, fenced ones first."""
    source = page.read_text("utf-8")
    name = page.relative_to(ROOT).as_posix()
    for match in FENCE.finditer(source):
        language, *words = match["info"].split() or [""]
        line = source.count("\n", 0, match.start("text")) + 1
        yield Block(name, line, language, frozenset(words), match["text"])
    bare = FENCE.sub(lambda match: "\n" * match[0].count("\n"), source)
    for match in INDENTED.finditer(bare):
        line = source.count("\n", 0, match.start(1)) + 1
        text = re.sub(r"^ {4}", "", match[1], flags=re.MULTILINE)
        yield Block(name, line, "", frozenset(), text)


def all_blocks(*languages: str) -> list[Block]:
    """Blocks of all pages in these languages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def command_lines(block: Block) -> Iterator[list[str]]:
    """Arguments of each line that calls ``msgm-bench``, without prompt and comment.

    A continued line is one line; an ellipsis stands for arguments that the page leaves out.
    """
    for line in block.text.replace("\\\n", " ").splitlines():
        command = line.strip().removeprefix("$ ")
        if command.startswith("msgm-bench "):
            words = shlex.split(command, comments=True)[1:]
            yield [word for word in words if word != "..."]
