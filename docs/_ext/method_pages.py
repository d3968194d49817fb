"""The generated end of each page of a method: options, and rows of the boards.

`python docs/_ext/method_pages.py` writes it into docs/methods/, from the plugins' options and from
the pages under leaderboards/; a test holds both equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from msgm_bench.registry import registry

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "methods"
MARK = "<!-- Generated from here on: python docs/_ext/method_pages.py -->"
SECTION = """{mark}

## Options

{options}

{space}

## Rows on the boards

{rows}
"""


def main() -> None:
    """Write the pages of all methods that have one."""
    for page in sorted(PAGES.glob("*.md")):
        if page.stem != "index":
            page.write_text(with_generated_end(page), "utf-8")


def with_generated_end(page: Path) -> str:
    """The text of a page, its generated end anew."""
    written, _, _ = page.read_text("utf-8").partition(MARK)
    tables = list(board_tables(page.stem))
    rows = "\n\n".join(tables) or "On none: no result of this method has been handed in."
    end = SECTION.format(
        mark=MARK, options=options_table(page.stem), space=space(page.stem), rows=rows
    )
    return f"{written.rstrip()}\n\n{end}"


def options_table(name: str) -> str:
    """Name, default and description of each option of a method."""
    fields = registry().entry("methods", name).cls.options_type.model_fields
    if not fields:
        return "None."
    lines = [
        f"| `{option}` | `{spelled(field.default)}` | {escaped(field.description or '')} |"
        for option, field in fields.items()
    ]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *lines])


def space(name: str) -> str:
    """What a tuning may choose, in a sentence."""
    choices = registry().entry("methods", name).cls.search_space
    parts = [f"`{option}` from `{kind}`" for option, kind in choices.items()]
    return f"A [tuning](../tuning.md) chooses {', '.join(parts) or 'nothing: it is a baseline'}."


def spelled(value: object) -> str:
    """A default as it is typed."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return str(list(value) if isinstance(value, tuple) else value)


def escaped(text: str) -> str:
    """Text as markdown in a cell of a table."""
    return re.sub(r"([|*<\\])", r"\\\1", text).replace("``", "`")


def board_tables(name: str) -> Iterator[str]:
    """A heading, a table of one row and its notes for each board with the method."""
    for page in sorted((ROOT / "leaderboards").glob("*/README.md")):
        text = page.read_text("utf-8")
        header, _, *rows = [cells(line) for line in text.splitlines() if line.startswith("|")]
        for row in rows:
            if row[1].startswith(f"`{name}`"):
                title = re.search(r"^# (.+)$", text, re.MULTILINE)
                assert title is not None, f"{page} has no title"
                notes = re.findall(r"<sup>(.+?)</sup>", row[0] + row[1])
                yield table(title[1], page, header, row, len(rows), notes, text)


def table(
    title: str,
    page: Path,
    header: list[str],
    row: list[str],
    count: int,
    notes: list[str],
    text: str,
) -> str:
    """The row without its method's name, and the notes of its footnotes."""
    place = row[0].replace("*", "")
    link = f"../../{page.relative_to(ROOT).as_posix()}"
    lines = [
        f"[{title}]({link}), {count} method{'s' if count > 1 else ''}:",
        "",
        joined([header[0], *header[2:]]),
        "|" + "---:|" * (len(header) - 1),
        joined([place, *row[2:]]),
    ]
    for number in (n for group in notes for n in re.findall(r"\d+", group)):
        note = re.search(rf"^{number}\. (.+)$", text, re.MULTILINE)
        lines += ["", f"Note: {note[1]}." if note else ""]
    return "\n".join(lines).rstrip()


def cells(line: str) -> list[str]:
    """Cells of a line of a table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def joined(cells: list[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
