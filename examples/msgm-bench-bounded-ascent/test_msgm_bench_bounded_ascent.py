"""The method keeps what every method keeps."""

from msgm_bench.testing import check_method

from msgm_bench_bounded_ascent import BoundedAscent


def test_conformance():
    """It passes the checks of `msgm-bench check method bounded_ascent`."""
    check_method(BoundedAscent)
