"""Sweeps: the quality of a stored run's model against a setting of its evaluation."""

from msgm_bench.sweep.figure import sweep_figure
from msgm_bench.sweep.record import SWEEP_FILE, SWEEP_PLOT, Point, Sweep, read_sweep

__all__ = [
    "SWEEP_FILE",
    "SWEEP_PLOT",
    "Point",
    "Sweep",
    "read_sweep",
    "sweep_figure",
]
