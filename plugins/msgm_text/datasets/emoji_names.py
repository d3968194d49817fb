"""Names of emoji in Unicode's ``emoji-test.txt``, as captions of plain words."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from msgm_bench import StorageError
from msgm_bench.storage import MIB, read_text, single_line

LINE = re.compile(
    r"(?P<points>[0-9A-F]{2,6}(?: [0-9A-F]{2,6}){0,15}) *; fully-qualified *# \S+ E\d+\.\d+ "
    r"(?P<name>\S.{0,199})"
)
GROUP = re.compile(r"# group: (?P<name>\S.{0,99})")
WORD = re.compile(r"[a-z]+|[0-9]")
LAST_POINT = 0x10FFFF
SKIN_TONE = "skin tone"


@dataclass(frozen=True)
class Emoji:
    """An emoji.

    Attributes:
        characters: Its characters.
        caption: Its name in words of ASCII letters and single digits.
        group: The group of emoji that it belongs to, such as ``Food & Drink``.
    """

    characters: str
    caption: str
    group: str

    @property
    def words(self) -> tuple[str, ...]:
        """Words of the caption in order."""
        return tuple(self.caption.split())

    @property
    def has_skin_tone(self) -> bool:
        """Whether it is a variant of another emoji in a skin tone."""
        return SKIN_TONE in self.caption


def read_names(path: Path) -> list[Emoji]:
    """The fully qualified emoji of a file ``emoji-test.txt``, in its order.

    Raises:
        StorageError: The file cannot be read, or names no emoji.
    """
    emoji, group = [], ""
    for line in read_text(path.resolve()).splitlines():
        if heading := GROUP.fullmatch(line.rstrip()):
            group = heading["name"]
        if row := LINE.fullmatch(line.rstrip()):
            points = [int(point, 16) for point in row["points"].split()]
            if max(points) <= LAST_POINT and (caption := caption_of(row["name"])):
                emoji.append(Emoji("".join(map(chr, points)), caption, group))
    if not emoji:
        raise StorageError(
            f"{single_line(path)} names no emoji",
            f"Unicode's emoji-test.txt, of at most {16 * MIB:,} bytes",
            "apt-get install unicode-data",
        )
    return emoji


def caption_of(name: str) -> str:
    """A name in words of ASCII letters and single digits: ``flag: Côte d'Ivoire`` and so on."""
    folded = unicodedata.normalize("NFKD", name.replace("#", "hash").replace("*", "asterisk"))
    return " ".join(WORD.findall(folded.encode("ascii", "ignore").decode().lower()))
