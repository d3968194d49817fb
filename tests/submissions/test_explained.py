"""Archives of strangers in ``explain`` and ``diff``: read like any other, and called claimed."""

from __future__ import annotations

import pytest
from toy_submissions import honest

from msgm_bench.submissions import pack


@pytest.fixture
def archive(tmp_path):
    """``archive(name, content)``: a file with the bytes of a submission."""

    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def test_a_submission_is_explained(archive, bench):
    """Its values and its command are those of the result in it, and it says that it is claimed."""
    submission = honest()
    code, out, err = bench("explain", archive("a.zip", pack(submission)), "ur")
    assert (code, err) == (0, "")
    row = submission.result.row("ur", "samples")
    assert f"{row.value:.4g} %" in out
    assert "claimed by whoever packed it" in out
    assert submission.result.provenance["command"] in out


def test_a_submission_and_another(archive, bench):
    """Two methods differ in the method, and in its code."""
    files = [archive(f"{name}.zip", pack(honest(name))) for name in ("obt", "unseen")]
    code, out, err = bench("diff", *files)
    assert (code, err) == (0, "")
    assert "obt against unseen" in out


@pytest.mark.parametrize("end", [-1, 100])
def test_damaged_archives(archive, bench, end):
    """A truncated one is refused with the reason, and without a traceback."""
    code, out, err = bench("explain", archive("a.zip", pack(honest())[:end]))
    assert code == 1
    assert not out
    assert "cannot be read" in err
