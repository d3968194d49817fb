"""Names that anybody may have chosen, on their way to places."""

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from msgm_bench.errors import MsgmBenchError, clean
from msgm_bench.storage import markdown_code, markdown_text, path_part, single_line


@given(st.text())
def test_a_part_of_a_path_is_one_short_part(text):
    """Whatever the text, the part is one name, short, not hidden, and no way up."""
    part = path_part(text)
    assert PurePosixPath(part).name == part
    assert part not in (".", "..", "")
    assert not part.startswith((".", "-"))
    assert len(part.encode()) <= 60
    assert not set(part) & set('/\\:*?"<>|\n\r\t \0')


def test_readable_names_stay_readable():
    """What people call classes survives."""
    assert path_part("3+7") == "3+7"
    assert path_part("Éclair au café") == "éclair_au_café"


@given(st.text())
def test_a_line_is_a_line_without_escapes(text):
    """No text breaks the line, and nothing in it moves a terminal's cursor."""
    line = single_line(text)
    assert len(line.splitlines()) <= 1
    assert "\x1b" not in line


@pytest.mark.parametrize(
    "escape", ["\x1b[31m", "\x9b0m", "\u202e", "\u2066", "\x07", "\x08", "\ud800"]
)
def test_controls_become_visible(escape):
    """Terminal escapes and invisible marks are shown as text, everywhere in an error."""
    text = clean(f"a{escape}b")
    assert escape not in text
    assert "\\" in text
    assert escape not in str(MsgmBenchError(f"a{escape}b", escape, escape))


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_visible_text_is_left_alone(text):
    """Letters, digits, punctuation and symbols of all languages stay as they are."""
    assert clean(text) == text


def inline(markdown):
    """What a reader of CommonMark makes of a line."""
    (_, token, _) = MarkdownIt("commonmark").parse(f"x{markdown}x")
    return [(child.type, child.content) for child in token.children]


@given(st.text(alphabet="ab<>&;`*_[]()!|~#$\\ \n\x1b") | st.text())
def test_a_page_shows_letters(text):
    """A name is one piece of text, letter by letter, and ends no table's cell; none is a dash."""
    markdown = markdown_text(text)
    line = " ".join(single_line(text).split()) or "–"
    assert inline(markdown) == [("text", f"x{line}x")]
    assert not re.search(r"(?<!\\)(?:\\\\)*\|", markdown)


@given(st.text(alphabet="ab`|\n\x1b ") | st.text())
def test_code_ends_where_it_should(text):
    """A reader of CommonMark finds one piece of code, and nothing beside it."""
    (before, code, after) = inline(markdown_code(text))
    assert (before, after) == (("text", "x"), ("text", "x"))
    assert code[0] == "code_inline"
    assert code[1].strip(" ") == single_line(text).strip(" ")
