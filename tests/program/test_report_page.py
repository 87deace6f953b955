"""The report in a browser, wide and narrow: no error, nothing of a run's is executed, filter, boxes and zoom work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import NO_CHROMIUM
from tests.samples.reports import build_page, write_run

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WIDTHS = (1440, 390)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium, with a profile of its own."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(_FLAGS), timeout=120_000)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the page of a run."""
    folder = tmp_path_factory.mktemp("report")
    build_page(write_run(folder), folder / "page")
    return folder / "page" / "index.html"


@pytest.fixture(scope="module", params=WIDTHS)
def opened(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[tuple[Page, list[str]]]:
    """Open the page from its file, without a network; gather what the console says."""
    page = browser.new_context(viewport={"width": request.param, "height": 900}, offline=True).new_page()
    page.set_default_timeout(30_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    yield page, said
    page.context.close()


def visible_boxes(page: Page) -> int:
    return page.evaluate("[...document.querySelectorAll('.picture g')].filter((g) => g.style.display === '').length")


def test_it_opens_without_an_error_and_within_its_width(opened: tuple[Page, list[str]]) -> None:
    page, said = opened
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("window.broken") is None
    assert page.locator("#gallery .picture").count() == 24
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("[...document.querySelectorAll('.frame img')].every((image) => image.clientHeight > 100)")
    assert said == []


def test_boxes_are_switched_and_filtered(opened: tuple[Page, list[str]]) -> None:
    page, said = opened
    page.locator("#confidence").fill("0")
    everything = visible_boxes(page)
    assert everything > 24 * 7
    page.locator("#filter").fill("dog")
    dogs = sum("dog" in name for name in page.locator(".picture title").all_text_contents())
    assert 0 < visible_boxes(page) == dogs < everything
    page.locator("#filter").fill("</script>")
    assert 0 < visible_boxes(page) < everything
    page.locator("#filter").fill("")
    page.locator("#confidence").fill("0.6")
    assert 0 < visible_boxes(page) < everything
    page.locator("#show").uncheck()
    assert visible_boxes(page) == 0
    page.locator("#show").check()
    page.locator("#confidence").fill("0")
    assert visible_boxes(page) == everything and said == []


def test_a_picture_enlarges_and_its_boxes_switch_one_by_one(opened: tuple[Page, list[str]]) -> None:
    page, said = opened
    page.locator(".picture .stage:enabled").first.click()
    frame = page.locator("#zoom-frame")
    expect(page.locator("#zoom")).to_be_visible()
    shown = page.locator("#zoom-frame .label:visible")
    boxes = shown.count()
    assert boxes == 8
    page.locator("#zoom-list input").first.uncheck()
    expect(shown).to_have_count(boxes - 1)
    before = frame.bounding_box()
    page.locator("#larger").click()
    page.locator("#larger").click()
    after = frame.bounding_box()
    assert before and after and after["width"] > 2 * before["width"]
    expect(page.locator("#zoom-share")).to_have_text("225 %")
    name = page.locator("#zoom-name").inner_text()
    page.locator("#later").click()
    expect(page.locator("#zoom-name")).not_to_have_text(name)
    expect(page.locator("#zoom-share")).to_have_text("100 %")
    page.keyboard.press("Escape")
    expect(page.locator("#zoom")).not_to_be_visible()
    assert page.evaluate("window.broken") is None and said == []
