"""Trackers: who hears of a run."""

from __future__ import annotations

from msgm_bench.api.plugin import OptionsT, Plugin


class Tracker(Plugin[OptionsT]):
    """A logger: its life-cycle hooks (``@hookimpl`` methods) hear of every run it is asked to.

    One that is chosen for a grid in workers is made anew in each of them, for every cell: it is
    told all that it needs by its options and by ``run_started``.
    """
