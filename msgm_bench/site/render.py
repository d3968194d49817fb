"""Views to HTML: every text is escaped unless a filter of this package made it."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from msgm_bench.api.track import track_name
from msgm_bench.boards.board import ORIGINS
from msgm_bench.boards.index import leaders
from msgm_bench.boards.markdown import estimate
from msgm_bench.boards.pages import BoardPage
from msgm_bench.boards.panels import panels
from msgm_bench.boards.plot import plot
from msgm_bench.boards.ranking import rows, stamps_of
from msgm_bench.boards.render import label_of
from msgm_bench.boards.scatter import Scatter, scatter
from msgm_bench.drawing.svg import style
from msgm_bench.site.board_view import BoardView
from msgm_bench.site.method_view import MethodView
from msgm_bench.site.run_view import RunView, short
from msgm_bench.site.samples import BoardSamples
from msgm_bench.site.texts import cited, file_part, head, plain, prose, worded
from msgm_bench.sweep import sweep_figure
from msgm_bench.templating import environment, px

STYLE = "site.css"
ASSETS = (STYLE, "site.js")


@dataclass(frozen=True)
class Card:
    """A board on the first page.

    Attributes:
        view: The board.
        track: Its track in words.
        scatter: Its plot, or None.
        leaders: Best-ranked methods beside reference and baseline.
        label: What ranks.
        value: The first leader's value.
        words: What a reader may look for.
    """

    view: BoardView
    track: str
    scatter: Scatter | None
    leaders: Sequence[str]
    label: str
    value: str
    words: str


def index_page(
    views: Sequence[BoardView], methods: Sequence[MethodView], refused: Mapping[str, str]
) -> str:
    """The first page: boards, methods, how to read them.

    Args:
        views: The boards.
        methods: The methods.
        refused: Folders of boards that cannot be shown, and why.
    """
    cards = [card(view) for view in views]
    return _template("index.html.j2").render(
        root="",
        boards=cards,
        tracks=sorted({entry.track for entry in cards}),
        methods=methods,
        refused=refused,
    )


def card(view: BoardView) -> Card:
    """A board on the first page."""
    board, page = view.board, view.page
    best = [row.method for row in leaders(page)]
    digits = [column.digits for column in board.columns if column.key == board.rank.key]
    value = ""
    if best:
        chosen = rows(page.frame, best[0], board.rank.key)
        value, _ = estimate(chosen, digits[0] if digits else 2)
    names = (board.run.dataset, board.run.backbone, *board.run.forget, *board.methods)
    label = label_of(board, board.rank)
    track = track_name(board.run.track)
    return Card(view, track, _drawing(page), best, label, value, " ".join(names))


def _drawing(page: BoardPage) -> Scatter | None:
    """Forgetting against retained quality; None where no method has both values."""
    drawing = scatter(page.board, page.frame, page.ranked)
    return drawing if drawing.spots else None


def board_page(view: BoardView, samples: BoardSamples) -> str:
    """The page of a board."""
    board, page = view.board, view.page
    scattered = _drawing(page)
    bands = [(label_of(board, band), band.low, band.high) for band in board.baseline.bands]
    return _template("board.html.j2").render(
        root="../",
        view=view,
        plot=None if scattered is None else Markup(plot(board, scattered, is_file=False)),
        panels=Markup(panels(board, page.frame, page.ranked, is_file=False))
        if board.panels
        else None,
        sweep=None if page.sweep is None else Markup(sweep_figure(page.sweep, is_file=False)),
        samples=samples,
        doubts=stamps_of(page.frame),
        problems=[*page.refusals, *samples.problems],
        bands=bands,
        origins=ORIGINS,
    )


def run_page(view: BoardView, run: RunView) -> str:
    """The page of a method's runs on a board."""
    protocols = {protocol.name: i for i, protocol in enumerate(view.protocols, 1)}
    own = view.settings[1].get(run.method, [])
    return _template("run.html.j2").render(
        root="../../", view=view, run=run, protocols=protocols, own=own
    )


def method_page(method: MethodView) -> str:
    """The page of a method."""
    return _template("method.html.j2").render(root="../", method=method)


def assets() -> dict[str, str]:
    """Style and script of all pages, by file name."""
    folder = importlib.resources.files(__package__) / "templates"
    files = {name: (folder / name).read_text("utf-8") for name in ASSETS}
    return files | {STYLE: files[STYLE] + style()}


@functools.cache
def _environment() -> jinja2.Environment:
    return environment(
        "msgm_bench.site",
        autoescape=True,
        plain=plain,
        head=head,
        prose=prose,
        worded=worded,
        cited=cited,
        file=file_part,
        short=short,
        px=px,
    )


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)
