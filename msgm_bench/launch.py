"""The processes of one run, as ``torchrun`` or ``accelerate launch`` starts them.

The first one (rank 0) leads: it plans, writes and shows; the others do their share of the stages
that have items to share.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from msgm_bench.errors import UsageError, shorten


@dataclass(frozen=True)
class Launch:
    """This process among those of the run.

    Attributes:
        rank: 0 .. count-1; 0 leads.
        count: Number of processes.
        local_rank: Its number on this machine, and that of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process plans, writes and shows."""
        return self.rank == 0


def launched() -> Launch:
    """This process by RANK, WORLD_SIZE and LOCAL_RANK, which launchers set; one without them.

    Raises:
        UsageError: They are no numbers, or do not go together.
    """
    count = _number("WORLD_SIZE", 1)
    if count <= 1:
        return Launch()
    rank = _number("RANK", -1)
    if not 0 <= rank < count:
        raise UsageError(
            f"RANK={shorten(os.environ.get('RANK', ''))} of WORLD_SIZE={count} processes",
            f"0 to {count - 1}, as torchrun and accelerate launch set it",
        )
    return Launch(rank, count, _number("LOCAL_RANK", rank))


def leads() -> bool:
    """Whether this process shows results and errors: the first one, or one of a broken launch."""
    try:
        return launched().leads
    except UsageError:
        return True


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() and text != str(default):
        raise UsageError(f"{variable}={shorten(text)!r}", "a number, as torchrun sets it")
    return int(text)
