"""Cards beside weights: every field is read, and what is not understood is refused."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator

from msgm_bench.errors import IncompatibleError, MsgmBenchError, StorageError, key_at
from msgm_bench.storage.cards import Card, ForeignCard, parse_card, read_card


class Inner(ForeignCard):
    """A card in a card."""

    depth: Annotated[int, Field(ge=1, le=9)] = 1


class Outer(ForeignCard):
    """A card of another program."""

    ignored = frozenset(("note",))

    kind: Literal["a", "b"] = Field(alias="_kind")
    sizes: tuple[int, ...] = ()
    scale: float = 1.0
    inner: Inner = Inner()


class Own(Card):
    """A card of ours."""

    width: int


class Joint(Card):
    """A field of two types, and two fields that must go together."""

    size: Annotated[int, Field(le=9)] | tuple[int, int] = 1
    heads: int = 1

    @model_validator(mode="after")
    def _fit(self):
        if isinstance(self.size, int) and self.size % self.heads:
            raise ValueError("heads do not divide the size")
        return self


GOOD = {"_kind": "a", "sizes": [1, 2], "scale": 2, "inner": {"depth": 3}}


def test_a_card_is_its_fields():
    """Lists become tuples and whole numbers floats; nothing else is converted."""
    card = parse_card(GOOD, Outer, "x")
    assert (card.kind, card.sizes, card.scale, card.inner.depth) == ("a", (1, 2), 2.0, 3)


@pytest.mark.parametrize(
    "extra",
    [{"_version": "0.1"}, {"new": None}, {"new": False}, {"note": "x"}, {"inner": {"new": None}}],
)
def test_what_says_nothing_changes_nothing(extra):
    """Bookkeeping, and options of other versions that are null or off, inside as well."""
    assert parse_card(GOOD | extra, Outer, "x").kind == "a"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"new": 1}, "x: new = 1 is not understood"),
        ({"new": True}, "x: new = True is not understood"),
        ({"inner": {"new": 2}}, "x: inner.new = 2 is not understood"),
        ({"inner": {"depth": 10**6}}, "x: inner.depth = 1000000"),
        ({"inner": {"depth": True}}, "x: inner.depth = True"),
        ({"sizes": ["1"]}, "x: sizes.0 = '1'"),
        ({"sizes": "12"}, "x: sizes = '12'"),
        ({"_kind": "c" * 1000}, "x: _kind = 'ccc"),
        ({"x\x1b[2J": 1}, r"x: x\x1b[2J = 1"),
    ],
)
def test_everything_else_is_refused(change, words):
    """The field, what it holds, in short and without terminal escapes."""
    with pytest.raises(IncompatibleError) as caught:
        parse_card(GOOD | change, Outer, "x")
    assert words in caught.value.what
    assert len(str(caught.value)) < 400


def test_cards_of_ours_have_no_other_fields():
    """Not even null ones; a field that is missing is named."""
    with pytest.raises(IncompatibleError, match="more = None is not understood"):
        parse_card({"width": 1, "more": None}, Own, "x")
    with pytest.raises(IncompatibleError, match="x lacks width"):
        parse_card({}, Own, "x")


@pytest.mark.parametrize("content", [b"[]", b"1", b"{", b"", b"\xff", b'{"_kind":"a","scale":NaN}'])
def test_files_that_are_no_card(tmp_path, content):
    """No object, no JSON, no text, a number that is none."""
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"card\.json"):
        read_card(tmp_path / "card.json", Outer)


def test_a_card_has_a_size(tmp_path):
    """A file of more than a mebibyte is no card."""
    (tmp_path / "card.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(MsgmBenchError, match="larger than 1 MiB"):
        read_card(tmp_path / "card.json", Outer)


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"size": 10}, "x: size = 10"),
        ({"size": [1, "a"]}, "x: size = [1, "),
        ({"size": 3, "heads": 2}, "x: heads do not divide the size"),
    ],
)
def test_complaints_name_keys_of_the_card(card, words):
    """No name of a type stands for a key, and what is wrong as a whole is a plain sentence."""
    with pytest.raises(IncompatibleError) as caught:
        parse_card(card, Joint, "x")
    assert caught.value.what.startswith(words)
    assert "constrained" not in str(caught.value)


class Nested(BaseModel):
    """Mappings and lists in each other, of several types."""

    parts: dict[str, list[int] | int] = {}
    inner: Own


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"parts": {"int": ["x"]}, "inner": {"width": 1}}, {"parts.int.0", "parts.int"}),
        ({"parts": {}, "inner": {}}, {"inner.width"}),
        ({"parts": {}, "inner": {"width": 1, "further": 2}}, {"inner.further"}),
        ({"parts": []}, {"parts", "inner"}),
        (3, {""}),
    ],
)
def test_locations_are_keys(values, keys):
    """Those of the value itself, and the one that is missing, whatever pydantic calls its types."""
    with pytest.raises(ValidationError) as caught:
        Nested.model_validate(values)
    assert {key_at(error["loc"], values) for error in caught.value.errors()} == keys
