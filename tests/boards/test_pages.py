"""Pages: what they show, that they are repeatable, and that the check finds what is wrong."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgm_bench.boards import build, check, find_boards
from msgm_bench.boards.markdown import number
from msgm_bench.errors import UsageError
from msgm_bench.storage import markdown_text


def line_of(text, method):
    """The table line of a method."""
    return next(
        line for line in text.splitlines() if line.startswith("|") and f"`{method}`" in line
    )


def test_a_complete_board(folder):
    """Ranks, ties, intervals and arrows of a board whose numbers were worked out by hand."""
    text = build(folder).text
    assert "| Rank | Method | UR (%) ↓ | nll, retain (bits/dim) ↓ |" in text
    assert "nll, forget (bits/dim) ↑" in text
    # mean 5.0333, s = 0.0577, t = 4.303: half-width 0.143
    assert line_of(text, "alpha").startswith("| **1=** [1, 2] | `alpha` | 5.0 ± 0.1 | 2.05 ± 0.0")
    assert line_of(text, "beta").startswith("| **1=** [1, 2] | `beta` | 5.1 ± 0.4 |")
    assert line_of(text, "ideal").startswith("| 3 [3, 3] | `ideal` (reference) | 10.0 ± 0.5 |")
    assert line_of(text, "base").startswith("| 4 [4, 4] | `base` (baseline) | 30.0 ± 2.5 |")
    assert "⚠" not in text
    protocols = (folder / "protocols.md").read_text("utf-8")
    assert "msgm-bench board build BOARD --runs RUNS" in protocols
    assert "toy-net-b" not in text + protocols, "a folder that moves stays in order"
    assert "msgm-bench run --dataset toy" in protocols
    assert check(folder) == []


def test_no_secrets_of_the_machine(folder):
    """Versions and device are shown, hosts and paths are not."""
    text = "".join(build(folder).files.values())
    assert "| packages.torch | 2.8.0 |" in text
    assert "| threads | 2 |" in text
    assert "Some CPU" in text
    assert "secret" not in text
    assert str(folder.parent) not in text


def test_building_twice_gives_the_same_bytes(folder):
    """A page depends on the board and its results only, not on the order of files or on time."""
    build(folder)
    names = ("README.md", "protocols.md", "plot.svg")
    first = [(folder / name).read_bytes() for name in names]
    moved = folder / "results" / "alpha-s0.json"
    moved.rename(folder / "results" / "zzz.json")
    build(folder)
    assert [(folder / name).read_bytes() for name in names] == first
    assert not list(folder.glob(".*"))


def test_a_page_that_was_edited_is_stale(folder):
    """One changed digit makes the check fail with the line and the command that repairs it."""
    path = build(folder).path
    path.write_text(path.read_text(encoding="utf-8").replace("5.0 ± 0.1", "4.0 ± 0.1"), "utf-8")
    [problem] = check(folder)
    assert problem.error
    assert "stale from line" in problem.text
    assert "msgm-bench board build" in problem.text


def test_a_missing_page_is_an_error(folder):
    """Results without a page fail the check."""
    problems = check(folder)
    assert all(problem.error and "is missing" in problem.text for problem in problems)
    names = [problem.text.split()[0] for problem in problems]
    assert names == ["README.md", "protocols.md", "plot.svg"]


def test_a_new_result_makes_the_page_stale(folder, make, write):
    """Adding a seed without a rebuild fails the check."""
    build(folder)
    write(folder, [make("alpha", 3)])
    assert any(problem.error and "stale" in problem.text for problem in check(folder))


def test_missing_seeds_are_dashes_and_warnings(folder):
    """A method without results has a row of dashes; one with too few seeds says so."""
    for seed in range(3):
        (folder / "results" / f"beta-s{seed}.json").unlink()
    (folder / "results" / "alpha-s2.json").unlink()
    text = build(folder).text
    assert line_of(text, "beta").startswith("| – | `beta`<sup>")
    assert "| – | – | – |" in line_of(text, "beta")
    assert "2 of 3 seeds" in text
    problems = check(folder)
    assert [str(p) for p in problems] == [
        "alpha has 2 of 3 seeds",
        "beta has 0 of 3 seeds",
    ]
    assert not any(p.error for p in problems)


def test_an_empty_board_has_a_page(folder):
    """A board without any result renders, stamped, since nothing shows that its base is sound."""
    for path in (folder / "results").iterdir():
        path.unlink()
    page = build(folder)
    assert page.stamps
    assert "Nothing yet." in page.files["protocols.md"]
    assert "<circle" in page.files["plot.svg"], "its legend"
    assert not any(problem.error for problem in check(folder))


def test_a_failed_seed_is_a_dash_with_its_reason(folder, make, write):
    """A mean over the seeds that went well would flatter, so the cell is a dash with a note."""
    write(folder, [make("alpha", 1, None, 2.06, 6.1)])
    text = build(folder).text
    assert line_of(text, "alpha").startswith("| – | `alpha`<sup>")
    assert text.count("alpha, ur on samples, seed 1: the solver diverged") == 1
    assert "the other seeds have 5.0, 5.0" in text


def test_skipped_and_failed_results_show_their_reasons(folder, make, write):
    """Outcomes without numbers are part of the page and of the check's warnings."""
    for seed in range(3):
        write(folder, [make("beta", seed, status="skipped", reason="needs labels")])
    text = build(folder).text
    assert text.count("beta, seeds 0, 1, 2: skipped: needs labels") == 1
    assert "beta seed 1 skipped: needs labels" in [p.text for p in check(folder)]


def test_a_missed_baseline_stamps_every_row(folder, make, write):
    """Base models outside the band put a warning at the top and a mark on all ranks."""
    for seed in range(3):
        write(folder, [make("base", seed, 60.0 + seed, 2.0, 2.5)])
    page = build(folder)
    assert "base has a mean ur on samples of 61, outside 20 to 40" in page.text
    assert all("⚠" in line_of(page.text, method) for method in page.board.methods)
    assert any("baseline gate" in problem.text for problem in check(folder))


def test_stamped_values_are_marked_and_explained(folder, make, write):
    """A value in doubt stands with a mark; page and check say why, once; ranks are as before."""
    doubt = "the judge 'net' misses its gate"
    plain = [make("alpha", s, 5.0 + s / 10, 2.05, 6.0) for s in range(3)]
    write(folder, plain)
    before = build(folder)
    write(folder, [stamped(result, doubt) for result in plain])
    page = build(folder)
    assert line_of(page.text, "alpha").split(" | ")[2] == "5.1 ± 0.2 ⚠<sup>1</sup>"
    assert "2.05" in line_of(page.text, "alpha").split(" | ")[3]
    assert line_of(page.text, "alpha").count("⚠") == 1
    assert "⚠" not in line_of(page.text, "beta")
    assert page.text.count(doubt) == 2, "at the top and in the note"
    assert [p.text for p in check(folder)] == [f"stamped: {doubt}"]
    assert [s.method for s in page.ranked] == [s.method for s in before.ranked]


def stamped(result, doubt):
    """The result with its first row in doubt."""
    first, *rest = result.metrics
    changed = result.model_copy(
        update={"metrics": [first.model_copy(update={"stamp": doubt}), *rest]}
    )
    return changed.model_copy(update={"digest": changed.content_digest()})


def test_untrusted_text_stays_text(folder, definition, make, write):
    """Unicode survives; pipes, tags, links and lines in reasons cannot break the table."""
    definition["title"] = "Żółć 忘却 | <b>x</b>"
    reason = "a | b\n# c <script> [d](e) `f` 忘"
    write(folder, [make("beta", 0, status="failed", reason=reason)], definition)
    text = build(folder).text
    assert text.count("忘\n") == 1
    assert "| `judge` | `width=8` | `unlearning_ratio/judge@1` |" in (
        (folder / "protocols.md").read_text("utf-8")
    )
    assert "# Żółć 忘却 \\| &lt;b&gt;x&lt;/b&gt;" in text
    assert "a \\| b \\# c &lt;script&gt; \\[d\\](e) \\`f\\` 忘" in text
    assert check(folder)[0].error is False


@given(st.text())
def test_no_word_leaves_its_cell(text):
    """Whatever the text, it stays on one line, opens no tag and ends no cell of a table."""
    line = markdown_text(text)
    assert "\n" not in line
    assert "<" not in line
    assert not re.search(r"(?<!\\)(\\\\)*\|", line)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (-0.001, 2, "0.00"),
        (0.0, 0, "0"),
        (-1.25, 1, "-1.2"),
        (1234.5, 2, "1234.50"),
        (-2.904e20, 3, "-2.9e+20"),
    ],
)
def test_numbers(value, digits, text):
    """Fixed decimals, no negative zero, and a power of ten for what no table holds."""
    assert number(value, digits) == text


def test_one_seed_shows_the_interval_of_its_items(folder, definition, everything, write):
    """With a single seed there is no interval over seeds: the items' intervals rank."""
    for path in (folder / "results").iterdir():
        path.unlink()
    definition["seeds"] = 1
    write(folder, [r for r in everything if r.spec.seed == 0], definition)
    text = build(folder).text
    assert "| **1=** | `alpha` | 5.0 [3.8, 6.5] |" in text
    assert "| 4 | `base` (baseline) | 30.0" in text


def test_quick_boards_say_so(folder, definition, everything, make, write):
    """A board of the quick preset carries a note on every page."""
    definition["run"]["preset"] = "quick"
    quick = [make(r.spec.method, r.spec.seed, preset="quick", ur=30.0) for r in everything]
    write(folder, quick, definition)
    assert "> [!NOTE]" in build(folder).text


def test_finding_boards(folder):
    """A board is found as itself and below its parent; another path is an error."""
    assert find_boards(folder) == [folder]
    assert find_boards(folder.parent) == [folder]
    assert find_boards(folder / "results") == []
    with pytest.raises(UsageError, match="no folder"):
        find_boards(folder / "nowhere")
