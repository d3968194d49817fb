"""Texts of users as HTML: words stay words, formulas of docstrings are typeset."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup, escape

from msgm_bench.storage import path_part
from msgm_bench.storage.markdown import MAX_LETTERS, one_line

LETTERS = {
    "eps_hat": "ε̂",
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "eps": "ε",
    "eta": "η",
    "theta": "θ",
    "lambda": "λ",
    "sigma": "σ",
    "phi": "φ",
    "tau": "τ",
    "mu": "μ",
    "rho": "ρ",
}
_LETTER = re.compile(rf"(?<![A-Za-z])({'|'.join(LETTERS)})(?![a-z])")
_INDEX = re.compile(r"(?<=[^\s_^])([_^])(\{[^{}]*\}|[A-Za-z0-9*]+)")
_SYMBOL = re.compile(r"(?<![\w^])([A-Za-zα-ω])([_^])([a-z0-9])(?!\w)")
_FORMULA = re.compile(r"^[^.;:]{1,40}(?<![<>=!])(=|<-)(?!=)\s*\S")
_ARROW = re.compile(" (?=[↓↑]$)")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_LINK = r'<a href="https://arxiv.org/abs/\1" rel="noreferrer noopener">arXiv:\1</a>'


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of a docstring.

    Attributes:
        kind: ``text`` or ``formula``.
        content: Its HTML.
    """

    kind: str
    content: Markup


def plain(value: object, limit: int = 20 * MAX_LETTERS) -> str:
    """Text on one line, its controls spelled out; templates escape it."""
    return one_line(value, limit)


def head(value: object) -> str:
    """The head of a column on one line that does not end before the arrow."""
    return _ARROW.sub("\u00a0", plain(value))


def prose(value: object) -> Markup:
    """Words in which only code between backticks is markup."""
    parts = plain(value).replace("``", "`").split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner
        parts[-2:] = ["`".join(parts[-2:])]
    spans = [
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part)
        for i, part in enumerate(parts)
    ]
    return Markup("").join(spans)


def worded(value: object) -> Markup:
    """``prose`` of a docstring: symbols such as D_f are typeset, and arXiv's numbers are links."""
    parts = re.split(r"(<code>.*?</code>)", str(prose(value)))
    for i in range(0, len(parts), 2):
        parts[i] = _SYMBOL.sub(_symbol, _greek(parts[i]))
    return Markup(_ARXIV.sub(_LINK, "".join(parts)))


def _symbol(match: re.Match[str]) -> str:
    tag = "sub" if match[2] == "_" else "sup"
    return f"<i>{match[1]}</i><{tag}>{match[3]}</{tag}>"


def cited(value: object) -> Markup:
    """Words in which arXiv's numbers are links; the only links that a text of a user can make."""
    return Markup(_ARXIV.sub(_LINK, str(escape(plain(value)))))


def formula(value: object) -> Markup:
    """A line of a docstring's mathematics with Greek letters, indices and exponents.

    Two spaces and more part it.
    """
    parts = (part for part in re.split(r"\s{2,}", str(value)) if part)
    return Markup("&emsp;").join(map(_formula, parts))


def _formula(part: str) -> Markup:
    text = re.sub(r" \. ", " · ", _greek(plain(part)))
    return Markup(_INDEX.sub(_raise, str(escape(text))))


def _greek(text: str) -> str:
    return _LETTER.sub(lambda match: LETTERS[match[1]], text)


def _raise(match: re.Match[str]) -> str:
    tag = "sub" if match[1] == "_" else "sup"
    return f"<{tag}>{match[2].strip('{}')}</{tag}>"


def paragraphs(documented: type) -> Iterator[Paragraph]:
    """The docstring of a class behind its first line: text and formulas."""
    body = (inspect.getdoc(documented) or "").partition("\n")[2]
    for part in re.split(r"\n\s*\n", body.partition("\nAttributes:")[0].strip()):
        lines = [line.strip() for line in part.splitlines() if line.strip()]
        if not lines:
            continue
        if all(_FORMULA.match(line) and not line.endswith(".") for line in lines):
            yield Paragraph("formula", Markup("<br>").join(map(formula, lines)))
        else:
            yield Paragraph("text", worded(" ".join(lines)))


def file_part(name: str) -> str:
    """A name as a part of an address: ASCII letters, readable, one for each name."""
    part = re.sub(r"[^a-z0-9_.-]", "_", path_part(name)).strip("._-") or "x"
    if part == name:
        return part
    return f"{part}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
