"""Wrong values of options: the error says what is allowed, in words of this program."""

from __future__ import annotations

import re

import pytest

from msgm_bench import OptionError
from msgm_bench.api.option_text import OptionText
from msgm_bench.api.plugin import parse_options
from msgm_bench.registry import KINDS, registry
from msgm_builtin.methods.sfd import SFD

VALUES = ("abc", "-5", "1.5", "[1, abc]", "{a: 1}", "null", "", "[]", "nan", "x" * 5000, "\x00")
PYDANTIC = re.compile(
    r"Input should|should (have|be|match)|Value error|Field required|unable to|after validation"
)


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_of_an_option_is_answered_in_pydantics_words(kind):
    """Whatever is typed, every option of every plugin takes it or says what it allows."""
    errors = [
        error
        for entry in registry().entries(kind)
        for name in entry.cls.options_type.model_fields
        for value in VALUES
        if (error := refusal(entry.cls, name, value)) is not None
    ]
    assert errors
    for error in errors:
        assert error.allowed
        assert not PYDANTIC.search(str(error))


def refusal(cls, name, value):
    """The error about a value of an option; None where it is allowed."""
    try:
        parse_options(cls, {name: OptionText(value)})
    except OptionError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"alpha": "-1"}, "a number of at least 0"),
        ({"alpha": "x"}, "a number"),
        ({"fake_steps": "1.5"}, "a whole number"),
        ({"forget_fraction": "1"}, "a number below 1"),
        ({"reduction": "max"}, "sum or mean"),
        ({"safe_class": "last"}, "a whole number or next or random"),
        ({"sigma_range": "[1, 2, 3]"}, "2 or fewer entries"),
        ({"sigma_range": "[2, 1]"}, "two positive numbers, the smaller one first"),
        ({"override": "x" * 1001}, "text of at most 1000 letters"),
        ({"weights": "Ä"}, "text that matches ^[a-z0-9]"),
    ],
)
def test_the_error_says_what_is_allowed(options, allowed):
    """The bound or the words, then what the option is for."""
    ((name, text),) = options.items()
    with pytest.raises(OptionError, match=f"option '{name}' of sfd = ") as caught:
        SFD.create({name: OptionText(text)})
    assert caught.value.allowed.startswith(allowed)
