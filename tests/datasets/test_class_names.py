"""Which class a typed name means, and lists of names as text."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msgm_bench import OptionError
from msgm_bench.api import indices, join_names, parse_names
from msgm_bench.api.class_names import split_names

HOSTILE = st.text(st.sampled_from(list(" ,\"'#~\n\r\t\\;[]{}:&*!|>%@`=-+.0123aAbBé")), max_size=12)
NAMES = st.one_of(HOSTILE, st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
PRESENT = NAMES.filter(lambda name: name.strip())


@given(st.lists(PRESENT, min_size=1, max_size=4))
@example(["tench, Tinca tinca"])
@example(['say "hi", x', " b"])
def test_a_list_survives_its_text(names):
    """What ``join_names`` writes, ``parse_names`` reads back."""
    assert parse_names(join_names(names)) == tuple(names)


@given(PRESENT)
def test_a_text_survives_its_list(text):
    """Whatever is typed is stored so that writing and reading it again changes nothing."""
    names = parse_names(text)
    assert parse_names(join_names(names)) == names


@given(st.lists(PRESENT, min_size=2, max_size=5, unique=True), st.data())
def test_every_class_answers_to_its_name(classes, data):
    """A class is meant by its own name, whatever the others are called and whatever is in it.

    Two readings of one list, of which no single name is a case, are refused.
    """
    for i, name in enumerate(classes):
        assert indices(classes, [name]) == (i,)
    chosen = data.draw(st.sets(st.sampled_from(range(len(classes))), min_size=2))
    names = [classes[i] for i in chosen]
    if join_names(names) not in classes:
        assert indices(classes, names) == tuple(sorted(chosen))


@given(st.lists(PRESENT, min_size=2, max_size=5, unique=True), PRESENT.filter(split_names))
@example(["0", "00"], '"1 "')
@example(["0", "00"], '"0 "')
@example(["0", "1 "], '"1 "')
@example(["a", "b"], '"a ",b')
def test_a_typed_class_is_stored_as_that_class(classes, text):
    """Typing a class's name selects it, commas or not, unless it is a list of others, too.

    In quotes it is the class of the name within, where there is one.
    """
    typed = [*classes, text] if text not in classes else classes
    parts = parse_names(text)
    if len(parts) == 1 and parts[0] in typed:
        assert indices(typed, parts) == (typed.index(parts[0]),)
    elif len(parts) > 1 and all(stands_alone(typed, part) for part in parts):
        with pytest.raises(OptionError, match="list of the names of others"):
            indices(typed, parts)
    else:
        assert indices(typed, parts) == (typed.index(text),)


def stands_alone(classes, name):
    """Whether a name is that of a class by itself."""
    try:
        return len(indices(classes, [name])) == 1
    except OptionError:
        return False


@pytest.mark.parametrize(
    ("classes", "text", "chosen"),
    [
        (("goldfish", "tench, Tinca tinca", "dog"), "tench, Tinca tinca", [1]),
        (("goldfish", "tench, Tinca tinca", "dog"), "TENCH, tinca tinca", [1]),
        (("goldfish", "tench, Tinca tinca", "dog"), '"tench, Tinca tinca",dog', [1, 2]),
        (("goldfish", "tench, Tinca tinca", "dog"), 'dog, "tench, Tinca tinca"', [1, 2]),
        (("a", "b", "c,d"), "c,d", [2]),
        (("cat", "dog", "fox"), " dog , fox", [1, 2]),
        (("cat", "dog", "fox"), "0,2", [0, 2]),
        (("A", "B", "a"), "A", [0]),
        (("A", "B", "a"), "a", [2]),
        (("Cat", "dog"), "CAT", [0]),
        (("00001", "00002"), "00001", [0]),
        (("1", "2", "3"), "1", [0]),
        (("caf\u00e9", "tea"), "cafe\u0301", [0]),
    ],
)
def test_readings(classes, text, chosen):
    """The whole text first, then the list; the exact name first, then any case; then an index."""
    assert indices(classes, parse_names(text)) == tuple(chosen)


@pytest.mark.parametrize(
    ("classes", "text", "message"),
    [
        (("1", "2", "3"), "0", "no class '0' to forget\nallowed: 1, 2, 3"),
        (("00001", "00002"), "1", "no class '1'"),
        (("cat", "7"), "0", "no class '0'"),
        (("1.5", "x"), "0", "no class '0'"),
        (("cat", "dog"), "01", "no class '01'"),
        (("cat", "dog"), "2", "no class '2'"),
        (("Cat", "cat"), "CAT", "'CAT' may be any of several classes\nallowed: Cat, cat"),
        (("a", "b", "a,b"), "a,b", "'a,b' is the name of a class, and a list"),
        (("cat", "dog"), "cot", "did you mean 'cat'"),
        (tuple(f"class {i}" for i in range(99)), "x", "class 39 and 59 more"),
    ],
)
def test_refusals(classes, text, message):
    """No index where a class is a number, no guess between two; the classes are listed."""
    with pytest.raises(OptionError) as caught:
        indices(classes, parse_names(text))
    assert message in str(caught.value)


def test_quotes_settle_two_readings():
    """What the refusal proposes is read as it says."""
    classes = ("a", "b", "a,b")
    assert indices(classes, parse_names('"a,b"')) == (2,)
    assert indices(classes, parse_names('"a","b"')) == (0, 1)
