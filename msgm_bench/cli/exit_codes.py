"""Exit codes of the command line."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """Outcome of a command.

    Attributes:
        OK: The command has done its work.
        FAILED: A run failed, a check found a problem, or something unexpected happened.
        USAGE: The request is wrong, or no method applies; the same command fails again.
        INTERRUPTED: Ctrl-C, or SIGTERM in its place; 128 + SIGINT, as in a shell.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
