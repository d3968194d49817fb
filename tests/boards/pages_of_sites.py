"""Pages of a site as an independent parser of HTML reads them."""

from __future__ import annotations

from html.parser import HTMLParser
from posixpath import join, normpath
from urllib.parse import urlsplit

VOID = {"meta", "link", "img", "input", "br", "hr"}
SVG_LEAVES = {"path", "circle", "rect", "polyline"}
CELLS = ("td", "th")
ENDED_BY = {"td": {*CELLS, "tr"}, "th": {*CELLS, "tr"}, "tr": {"tr"}}  # by the start of another
ENDED_WITH = {"td": {"tr", "tbody"}, "th": {"tr", "tbody"}, "tr": {"tbody"}}  # by a parent's end


class Page(HTMLParser):
    """What a page holds.

    Attributes:
        elements: Names of all elements with the names of their attributes, in order.
        links: Values of ``href`` of links.
        sources: Values of ``src``, and ``href`` of what is loaded.
        ids: All ids.
        text: All text, entities resolved.
        problems: Tags that do not match.
    """

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.links, self.sources, self.ids = [], [], [], []
        self.words, self.problems, self._open = [], [], []
        self.feed(text)
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self._open]

    @property
    def text(self):
        """All text."""
        return "".join(self.words)

    def handle_starttag(self, tag, attributes):
        """An element begins."""
        self._leave(ENDED_BY, tag)
        named = dict(attributes)
        if len(named) < len(attributes):
            self.problems.append(f"<{tag}> has an attribute twice")
        self.elements.append((tag, tuple(sorted(named))))
        self.ids += [named["id"]] if "id" in named else []
        if "src" in named:
            self.sources.append(named["src"])
        if "href" in named:
            (self.sources if tag == "link" else self.links).append(named["href"])
        if tag not in VOID | SVG_LEAVES:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        """An element without content."""
        self.handle_starttag(tag, attributes)
        if self._open and self._open[-1] == tag and tag not in VOID | SVG_LEAVES:
            self._open.pop()

    def handle_endtag(self, tag):
        """An element ends."""
        self._leave(ENDED_WITH, tag)
        if not self._open or self._open[-1] != tag:
            self.problems.append(f"</{tag}> ends {self._open[-1:] or 'nothing'}")
        else:
            self._open.pop()

    def _leave(self, ends, tag):
        """End the cells and rows whose end tags HTML lets a page omit before ``tag``."""
        while self._open and tag in ends.get(self._open[-1], ()):
            self._open.pop()

    def handle_data(self, data):
        """Text."""
        self.words.append(data)


def pages_of(files):
    """The pages of a site, by address."""
    return {
        name: Page(content.decode("utf-8"))
        for name, content in files.items()
        if name.endswith(".html")
    }


def broken(files, pages):
    """Everything that a page loads or links to and the site does not have."""
    wrong = []
    for name, page in pages.items():
        for address in page.sources + page.links:
            parts = urlsplit(address)
            if parts.scheme == "https" and address in page.links:
                if parts.netloc != "arxiv.org":
                    wrong.append(f"{name}: {address}")
                continue
            if parts.scheme == "data" and address in page.sources:
                continue
            if parts.scheme or parts.netloc:
                wrong.append(f"{name}: {address}")
                continue
            target = normpath(join(name, "..", parts.path)) if parts.path else name
            if target not in files:
                wrong.append(f"{name}: {address} is not there")
            elif parts.fragment and parts.fragment not in pages[target].ids:
                wrong.append(f"{name}: {address} has no such place")
    return wrong
