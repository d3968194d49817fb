"""The site in a real Chromium, as people use it: with a mouse, a keyboard and a phone."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest
import torch

from msgm_bench.boards.sample_sheets import sheet_path
from msgm_bench.report.sample_sheets import image_sheet, write_sheet
from msgm_bench.site import build_site

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [browser]")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
LEADERBOARDS = Path(__file__).parents[2] / "leaderboards"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    # sockets of the browser's driver, which ends with the process
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture
def site(folder, tmp_path):
    """The site of a board with sheets of all methods, one of them recorded."""
    shades = {"base": 0.2, "ideal": 0.4, "alpha": 0.6, "beta": 0.6}
    for method, shade in shades.items():
        content = image_sheet({"samples": torch.full((9, 1, 8, 8), shade)})
        write_sheet(sheet_path(folder, method), content)
    for step in (0, 100, 2000):
        content = image_sheet({"samples": torch.full((4, 1, 8, 8), step / 2000)})
        write_sheet(sheet_path(folder, "alpha").with_name(f"step-{step}.png"), content)
    build_site(folder.parent, tmp_path / "site")
    return tmp_path / "site"


class Visit:
    """A page and all that goes wrong on it.

    Attributes:
        page: The page.
        complaints: Messages of the console, errors, and requests that leave the folder.
    """

    def __init__(self, context, site):
        self.page, self.site, self.complaints = context.new_page(), site, []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", self._asked)

    def _failed(self, request):
        if request.failure != "net::ERR_ABORTED":  # an image of a page that is left early
            self.complaints.append(f"{request.failure}: {request.url}")

    def _asked(self, request):
        if not request.url.startswith((self.site.as_uri(), "data:")):
            self.complaints.append(f"leaves: {request.url}")

    def open(self, address):
        """Open a page of the site."""
        self.page.goto(f"{self.site.as_uri()}/{address}")
        return self.page

    def column(self, n):
        """Texts of a column of the board's table, of the rows that are seen."""
        cells = self.page.locator(f"#board tbody tr:visible > :nth-child({n})")
        return [text.split()[0] for text in cells.all_inner_texts()]


@pytest.fixture
def visit(browser, site):
    """A visitor of the site, who has nothing to complain of in the end."""
    with browser.new_context(viewport={"width": 1200, "height": 900}) as context:
        visitor = Visit(context, site)
        yield visitor
        assert visitor.complaints == []


def test_a_heading_sorts(visit):
    """The better end first, then the other; aria-sort says so; the first order is the rank's."""
    page = visit.open("boards/toy-net-b.html")
    assert visit.column(2) == ["alpha", "beta", "ideal", "base"]
    head = page.locator("#board thead th", has_text="nll, forget")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert visit.column(2) == ["beta", "alpha", "ideal", "base"]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert visit.column(2) == ["base", "ideal", "alpha", "beta"]
    assert page.locator("#board th[aria-sort=none]").count() >= 4


def test_rows_are_filtered(visit):
    """By name and by place; the count says how many are left."""
    page = visit.open("boards/toy-net-b.html")
    page.locator("#ranking [data-find]").fill("a a")
    assert visit.column(2) == ["alpha", "beta", "ideal", "base"]
    page.locator("#ranking [data-find]").fill("ALPHA")
    assert visit.column(2) == ["alpha"]
    assert page.locator("#ranking [data-count]").inner_text() == "1 of 4 methods"
    page.locator("#ranking [data-find]").fill("")
    page.locator("#ranking [data-pick=place]").select_option("below")
    assert set(visit.column(2)) <= {"base", "ideal", "alpha", "beta"}
    assert len(visit.column(2)) < 4


def test_two_methods_are_compared(visit):
    """Side by side, under a slider, as a difference, which is black where both are equal."""
    page = visit.open("boards/toy-net-b.html")
    stage = page.locator("[data-stage]")
    page.locator("[data-side=a]").select_option("alpha")
    page.locator("[data-side=b]").select_option("beta")
    assert stage.locator("figcaption").all_inner_texts() == ["alpha", "beta"]
    boxes = [figure.bounding_box() for figure in stage.locator("img").all()]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    page.get_by_label("slider").check()
    boxes = [figure.bounding_box() for figure in stage.locator("img").all()]
    assert boxes[0] == boxes[1]
    page.get_by_label("Boundary").fill("25")
    clip = "image => getComputedStyle(image).clipPath"
    assert "25%" in stage.locator("img").nth(1).evaluate(clip)
    page.get_by_label("difference").check()
    blend = stage.locator("img").nth(1).evaluate("image => getComputedStyle(image).mixBlendMode")
    assert blend == "difference"
    assert darkest(stage.locator("img").nth(0).screenshot()) == 0
    page.locator("[data-side=b]").select_option("base")
    assert darkest(stage.locator("img").nth(0).screenshot()) > 50


def darkest(png):
    """The grey value in the middle of the first image of a sheet."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return image.convert("L").getpixel((image.width // 8, image.height // 8))


def test_a_slider_runs_along_the_training(visit):
    """The last step first; every other one is there, and its number is spoken."""
    page = visit.open("boards/toy-net-b.html")
    slider, at = page.locator("[data-step]"), page.locator("[data-at]")
    assert at.inner_text() == "2,000"
    slider.focus()
    page.keyboard.press("Home")
    assert at.inner_text() == "0"
    assert slider.get_attribute("aria-valuetext") == "step 0"
    page.keyboard.press("ArrowRight")
    assert at.inner_text() == "100"
    assert page.locator("#training img:visible").count() == 1


def test_a_run_is_opened_and_a_protocol_is_one_click_away(visit):
    """From the row to its runs and their commands; from a heading to its protocol."""
    page = visit.open("index.html")
    page.get_by_role("link", name="Toy, forgetting b", exact=True).click()
    page.locator("#board").get_by_role("link", name="Protocol of UR").click()
    assert page.url.endswith("#protocol-1")
    assert page.locator("#protocol-1").is_visible()
    page.locator("#row-alpha").get_by_role("link", name="alpha").click()
    assert page.locator("h1").inner_text() == "Runs of alpha"
    assert page.locator("pre.command").count() == 3
    page.locator("h1").get_by_role("link").click()
    assert page.url.endswith("methods/alpha.html")


def test_points_say_what_they_are(visit):
    """Hover and focus show name and values, and light up the row; a click leads to it."""
    page = visit.open("boards/toy-net-b.html")
    spot = page.locator(".spot[data-method=alpha]")
    spot.hover()
    assert page.locator("[data-tip]").inner_text().startswith("alpha: 5.0")
    spot.focus()
    assert "lit" in page.locator("#row-alpha").get_attribute("class")
    page.keyboard.press("Enter")
    assert page.url.endswith("#row-alpha")


def test_the_keyboard_reaches_everything(visit):
    """The first stop skips the head; a heading sorts with Enter, with a visible focus."""
    page = visit.open("boards/toy-net-b.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    button = page.locator("#board thead button").nth(1)
    for _ in range(40):
        page.keyboard.press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    assert button.evaluate("button => getComputedStyle(button).outlineStyle") != "none"
    page.keyboard.press("Enter")
    assert visit.column(2) == ["alpha", "base", "beta", "ideal"]


def test_light_and_dark(visit):
    """The system's choice, and the reader's, which other pages remember."""
    ground = "getComputedStyle(document.body).backgroundColor"
    page = visit.open("index.html")
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(ground) == light
    page = visit.open("boards/toy-net-b.html")
    assert page.evaluate(ground) == light


@pytest.mark.parametrize("width", [320, 768])
def test_no_page_is_wider_than_the_screen(visit, width):
    """Tables scroll in their own frame, on a phone too."""
    visit.page.set_viewport_size({"width": width, "height": 640})
    for path in sorted(visit.site.rglob("*.html")):
        page = visit.open(path.relative_to(visit.site).as_posix())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_without_scripts_all_is_there(browser, site):
    """All columns, sheets and steps; no control that does nothing but the filters."""
    with browser.new_context(java_script_enabled=False) as context:
        page = Visit(context, site).open("boards/toy-net-b.html")
        assert page.locator("#samples img:visible").count() == 4
        assert page.locator("#training img:visible").count() == 3
        assert page.locator("[data-compare]:visible").count() == 0


def test_the_boards_of_the_project(browser, tmp_path):
    """Every page of the site of this repository opens without a complaint."""
    build_site(LEADERBOARDS, tmp_path / "site")
    with browser.new_context() as context:
        visitor = Visit(context, tmp_path / "site")
        for path in sorted((tmp_path / "site").rglob("*.html")):
            visitor.open(path.relative_to(tmp_path / "site").as_posix())
        assert visitor.complaints == []


def test_a_web_server_serves_it_too(browser, site):
    """Over HTTP the same policy holds: styles and scripts load, and nothing else is asked for."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser.new_context() as context:
            page, asked = context.new_page(), []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"http://127.0.0.1:{server.server_port}/boards/toy-net-b.html")
            assert page.locator("[data-count]").first.inner_text() == "4 of 4 methods"
            assert all(f":{server.server_port}/" in url for url in asked if url[:5] != "data:")
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files without a log."""

    def log_message(self, *arguments):
        """Nothing."""
