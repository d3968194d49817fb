"""The boards' pages in the site: copies below docs/leaderboards, only while Sphinx runs.

Pages link to leaderboards beside docs, which works in the repository; in the site the same links
lead to the copies.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

BOARDS = Path(__file__).parents[2] / "leaderboards"
ORPHAN = "---\norphan: true\n---\n\n"


def copy_pages(app: Any) -> None:
    """Copy all pages, plots and pictures; a link to a folder becomes text."""
    plots, pictures = BOARDS.glob("*/*.svg"), BOARDS.glob("*/*.png")
    for source in [*BOARDS.rglob("*.md"), *plots, *pictures]:
        target = copies(app) / source.relative_to(BOARDS)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text = source.read_text("utf-8").replace("[results](results)", "results")
            text = text.replace(" [Values](sweep.json)", "")
            target.write_text(ORPHAN + text, "utf-8")
        else:
            shutil.copyfile(source, target)


def redirect_links(app: Any, docname: str, source: list[str]) -> None:
    """Links to the repository's boards lead to their copies."""
    up = "../" * docname.count("/")
    source[0] = source[0].replace(f"](../{up}leaderboards/", f"]({up}leaderboards/")


def remove_copies(app: Any, exception: Exception | None) -> None:
    """Leave docs as it is in the repository."""
    shutil.rmtree(copies(app), ignore_errors=True)


def copies(app: Any) -> Path:
    """The folder of the copies."""
    return Path(app.srcdir) / "leaderboards"


def setup(app: Any) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("builder-inited", copy_pages)
    app.connect("source-read", redirect_links)
    app.connect("build-finished", remove_copies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
