"""Equal tuning: every method of a board gets as many trials, on a task that is not ranked."""

from msgm_bench.tuning.search import Tuning, tune
from msgm_bench.tuning.setup import Machine, TuningPlan, plan_tuning

__all__ = ["Machine", "Tuning", "TuningPlan", "plan_tuning", "tune"]
