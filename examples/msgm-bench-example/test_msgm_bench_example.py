"""The method keeps what every method keeps."""

from msgm_bench_example import Negative

from msgm_bench.testing import check_method


def test_conformance():
    """In both regimes, on unconditional and class-conditional models."""
    check_method(Negative)
