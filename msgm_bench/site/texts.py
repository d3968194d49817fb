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
_FORMULA = re.compile(r"^[^.;:]{1,40}(?<![<>=!])(=|<-)(?!=)\s*\S")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


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


def cited(value: object) -> Markup:
    """Words in which arXiv's numbers are links; the only links that a text of a user can make."""
    text = str(escape(plain(value)))
    link = r'<a href="https://arxiv.org/abs/\1" rel="noreferrer noopener">arXiv:\1</a>'
    return Markup(_ARXIV.sub(link, text))


def formula(value: object) -> Markup:
    """A line of a docstring's mathematics with Greek letters, indices and exponents."""
    text = _LETTER.sub(lambda match: LETTERS[match[1]], plain(value))
    text = re.sub(r" \. ", " · ", text)
    return Markup(_INDEX.sub(_raise, str(escape(text))))


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
            yield Paragraph("text", cited_prose(" ".join(lines)))


def cited_prose(value: object) -> Markup:
    """``prose`` with the links of ``cited``."""
    link = r'<a href="https://arxiv.org/abs/\1" rel="noreferrer noopener">arXiv:\1</a>'
    return Markup(_ARXIV.sub(link, str(prose(value))))


def file_part(name: str) -> str:
    """A name as a part of an address: ASCII letters, readable, one for each name."""
    part = re.sub(r"[^a-z0-9_.-]", "_", path_part(name)).strip("._-") or "x"
    if part == name:
        return part
    return f"{part}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
