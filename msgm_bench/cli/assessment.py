"""What the commands on submissions share: options, and the assessment in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from msgm_bench.cli.options import FolderType
from msgm_bench.cli.terminal import echo

if TYPE_CHECKING:
    from msgm_bench.boards import Board
    from msgm_bench.submissions import Assessment

BOARD_FOLDER = FolderType("a folder with board.yaml")
max_size_option = click.option(
    "--max-size",
    type=click.FloatRange(0.1, 1024),
    default=20.0,
    show_default=True,
    metavar="MIB",
    help="Largest size of an archive.",
)


def size_limit(mib: float) -> int:
    """Bytes of ``--max-size``."""
    return round(mib * 2**20)


def print_assessment(name: str, assessment: Assessment, board: Board | None) -> None:
    """Print the level, the rows that stay claimed, and the notes."""
    from msgm_bench.storage import single_line

    spec, rows = assessment.result.spec, assessment.result.metrics
    what = f"{spec.method} seed {spec.seed} on {spec.dataset}"
    count = f"{len(assessment.recomputed)} of {len(rows)} rows follow from its evidence"
    echo(single_line(f"{name}: {assessment.level(board)}: {what}; {count}"))
    claimed = [f"{row.metric} on {row.split}" for row in assessment.claimed]
    if claimed:
        echo(single_line(f"  claimed: {', '.join(claimed)}"))
    for note in assessment.notes:
        echo(single_line(f"  note: {note}"))
