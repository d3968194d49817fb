"""Sweeps: the quality of a stored run's model against a setting of its evaluation."""

from msgm_bench.sweep.figure import draw_sweep, sweep_source
from msgm_bench.sweep.record import SWEEP_FILE, SWEEP_PLOT, Point, Sweep, read_sweep

__all__ = [
    "SWEEP_FILE",
    "SWEEP_PLOT",
    "Point",
    "Sweep",
    "draw_sweep",
    "read_sweep",
    "sweep_source",
]
