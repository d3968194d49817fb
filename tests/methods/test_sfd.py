"""x"""
from msgm_bench.testing import check_method
from msgm_methods.sfd import SFD
def test_c():
    """x"""
    check_method(SFD)
