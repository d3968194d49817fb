"""The metric keeps what every metric keeps."""

from msgm_bench.testing import check_metric

from msgm_bench_saturation import Saturation


def test_conformance():
    """It passes the checks of `msgm-bench check metric saturation`."""
    check_metric(Saturation)
