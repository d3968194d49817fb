"""The index of a folder of boards."""

from __future__ import annotations

import copy

import pytest

from msgm_bench.boards import build, build_all, check_index
from msgm_bench.errors import MsgmBenchError, UsageError


@pytest.fixture
def two(folder, definition, everything, write):
    """A folder with two boards; the second one's baseline misses its band."""
    other = copy.deepcopy(definition)
    other["title"] = "Other | board"
    other["baseline"]["bands"][0] |= {"low": 1, "high": 2}
    write(folder.parent / "zoo", everything, other)
    return folder.parent


def test_each_board_has_a_line_with_its_leader(two):
    """Title, task, methods, the tied leaders beside reference and baseline, and the columns."""
    build_all(two)
    text = (two / "README.md").read_text("utf-8")
    first, second = (line for line in text.splitlines() if line.startswith("| ["))
    assert first == (
        "| [Toy, forgetting b](toy-net-b/README.md) | `toy` without `b`; `net`, unconditional "
        "| `full` | 4 | `alpha`, `beta` (tied): UR 5.0 ± 0.1 "
        "| UR · nll, retain · nll, forget |"
    )
    assert second.startswith("| [Other \\| board](zoo/README.md)")
    assert "UR 5.0 ± 0.1 ⚠" in second
    assert check_index(two) == []


def test_a_stale_index_is_an_error(two, make, write):
    """A new leader without a rebuild of the index fails the check of the folder."""
    build_all(two)
    write(two / "zoo", [make("beta", seed, 1.0 + seed / 10) for seed in range(3)])
    build(two / "zoo")
    [problem] = check_index(two)
    assert problem.error
    assert "README.md is stale from line" in problem.text
    (two / "README.md").unlink()
    assert "README.md is missing" in check_index(two)[0].text


def test_boards_that_are_wrong_leave_the_others_to_be_built(two):
    """The error names each of them, the others have their pages, and no index is written."""
    for name, text in {"a": "title: [", "b": "titel: Letters"}.items():
        (two / name).mkdir()
        (two / name / "board.yaml").write_text(text)
    pages = []
    with pytest.raises(MsgmBenchError, match=r"(?s)a/board\.yaml.*b/board\.yaml"):
        build_all(two, written=pages.append)
    assert [page.folder for page in pages] == [two / "toy-net-b", two / "zoo"]
    assert (two / "zoo" / "README.md").exists()
    assert not (two / "README.md").exists()


def test_a_folder_without_boards_is_refused(tmp_path):
    """Nothing is written where there is no board."""
    with pytest.raises(UsageError, match="no board in"):
        build_all(tmp_path)
    assert not (tmp_path / "README.md").exists()
