"""Trackers: loggers of runs."""

from __future__ import annotations

from msgm_bench.api.plugin import OptionsT, Plugin


class Tracker(Plugin[OptionsT]):
    """A logger: its life-cycle hooks (``@hookimpl`` methods) are called in runs that name it.

    In a grid, every worker creates the tracker again for each run: all its state comes from its
    options and from ``run_started``.
    """
