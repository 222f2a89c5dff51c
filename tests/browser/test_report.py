"""The report as a reader's browser shows it: Chromium, with axe-core's rules of accessibility."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from reported import material

from services.cli.report.page import render, view

pytestmark = pytest.mark.browser
WIDE, PHONE = {"width": 1100, "height": 900}, {"width": 390, "height": 800}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


class Opened(NamedTuple):
    """A page, what its console said, and what it asked for."""

    page: Page
    said: list[str]
    asked: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        pytest.skip(reason="there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        # The page comes from this test; a container that runs as root has no sandbox.
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(render(view(material())))
    return path


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield Opened(page, said, asked)
    page.close()


def test_the_page_opens_without_a_complaint_and_asks_nobody(opened: Opened, file: Path) -> None:
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [file.as_uri()]
    assert opened.page.title().startswith("What the model did")


def test_there_is_something_to_see_and_every_drawing_is_drawn(opened: Opened) -> None:
    shot = Image.open(io.BytesIO(opened.page.screenshot(full_page=True)))
    colors = shot.convert("RGB").getcolors(maxcolors=1 << 24)
    assert colors is not None
    assert len(colors) > 50
    sizes = opened.page.eval_on_selector_all("img", "all => all.map(img => img.naturalWidth)")
    assert len(sizes) >= 5
    assert all(size > 0 for size in sizes)


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing_that_keeps_a_reader_out(
    opened: Opened, viewport: dict[str, int]
) -> None:
    opened.page.set_viewport_size({"width": viewport["width"], "height": viewport["height"]})
    found = Axe().run(opened.page, options={"runOnly": RULES})
    assert found.violations_count == 0, found.generate_report()
    assert found.response["passes"]


def test_axe_does_find_what_is_wrong(opened: Opened) -> None:
    opened.page.eval_on_selector("img", "img => img.removeAttribute('alt')")
    found = Axe().run(opened.page, options={"runOnly": RULES})
    assert [each["id"] for each in found.response["violations"]] == ["image-alt"]


def test_nothing_is_cut_off_beside_a_phone_or_on_paper(opened: Opened) -> None:
    wider = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
    opened.page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    assert not opened.page.evaluate(wider)
    # An A4 page less its margins, at 96 px an inch.
    opened.page.emulate_media(media="print")
    opened.page.set_viewport_size({"width": 680, "height": 980})
    assert not opened.page.evaluate(wider)
    assert opened.page.pdf(format="A4").startswith(b"%PDF")
