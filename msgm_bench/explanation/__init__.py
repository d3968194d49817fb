"""How a number came about, and in what two results differ."""

from msgm_bench.explanation.difference import Divergence, ResultComparison, compare_results
from msgm_bench.explanation.explain import Explanation, Measurement, explain
from msgm_bench.explanation.source import Source, read_source
from msgm_bench.explanation.step import Step
from msgm_bench.explanation.values import Outcome, ValuePair

__all__ = [
    "Divergence",
    "Explanation",
    "Measurement",
    "Outcome",
    "ResultComparison",
    "Source",
    "Step",
    "ValuePair",
    "compare_results",
    "explain",
    "read_source",
]
