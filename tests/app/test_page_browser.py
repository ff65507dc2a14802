"""The page in a browser: pick, ask, explain, compare, download; nothing comes from elsewhere, nothing runs that was typed.

With HEEDMAP_SCREENSHOT=docs/img/app.png the picture of the documents is written again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from heedmap.webpage.server import serving

pytest.importorskip("gradio", reason="the page needs gradio; pip install 'heedmap[app]'")
playwright = pytest.importorskip("playwright.sync_api", reason="there is no playwright to drive a browser")
CHROMIUM = Path(os.environ.get("HEEDMAP_CHROMIUM", "/usr/bin/chromium"))
pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser {CHROMIUM}"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),  # within Gradio
]
PATIENCE = 30_000
"""Milliseconds for one step, on a machine that has other work."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as found:
        yield found


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, loaded; ``page.asked``: the address of all that it asked for, ``page.faults``: what went wrong."""
    page = browser.new_page(viewport={"width": 1280, "height": 880})
    page.set_default_timeout(PATIENCE)
    page.asked, page.faults = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.wait_for_selector("#ask")
    yield page
    page.close()


def choose(page: Any, box: str, words: str) -> None:
    """An entry of a drop-down list."""
    page.locator(f"#{box} input").click()
    page.get_by_role("option", name=words).first.click()


def choose_model(page: Any, name: str) -> None:
    choose(page, "model", name)
    page.locator("#result").get_by_text(f"{name}:").wait_for()


def explain(page: Any, answer: int) -> None:
    page.locator("#answers label").nth(answer).click()
    page.wait_for_selector("#result h2")


def saved(page: Any, ending: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_text(f"Download {ending.upper()}").click()
    assert download.value.suggested_filename == f"heedmap.{ending}"
    return Path(download.value.path()).read_bytes()


def screenshot(page: Any, path: Path) -> None:
    """Of the whole page, with few colours, so that it is small."""
    page.mouse.move(0, 0)
    page.screenshot(path=path, full_page=True)
    with Image.open(path) as opened:
        few = opened.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def test_a_sample_is_picked_explained_compared_and_downloaded(page: Any, tmp_path: Path) -> None:
    choose_model(page, "zoo/detr-shapes")
    choose(page, "sample", "0: pink heart")
    page.wait_for_selector("#result img")
    assert "What it finds" in page.inner_text("#answers")
    explain(page, 2)
    assert "star" in page.inner_text("#result h2")
    assert saved(page, "html").startswith(b"<!DOCTYPE html>")
    page.locator("#compare").click()
    page.wait_for_selector(".heedmap-columns img")
    assert page.locator(".heedmap-columns > div").count() == 2
    assert saved(page, "png").startswith(b"\x89PNG")
    assert saved(page, "json").startswith(b"[")
    path = Path(os.environ.get("HEEDMAP_SCREENSHOT", tmp_path / "app.png"))
    screenshot(page, path)
    assert path.stat().st_size < 200_000
    assert page.faults == []


def test_nothing_is_loaded_from_elsewhere(page: Any, address: str) -> None:
    choose_model(page, "zoo/gpt-lists")
    choose(page, "sample", "8: brush red")
    page.wait_for_selector("#answers label")
    explain(page, 0)
    places = {urlsplit(url).netloc for url in page.asked if not url.startswith(("data:", "blob:"))}
    assert places == {urlsplit(address).netloc}


def test_what_is_typed_is_shown_and_never_run(page: Any) -> None:
    choose_model(page, "zoo/bart-dates")
    title = page.title()
    page.locator("#text textarea").fill(
        "<img src=x onerror=\"document.title='run'\"> ${document.title='run'} {{value}}"
    )
    page.locator("#ask").click()
    page.wait_for_selector("#answers label, .heedmap-error")
    if page.locator("#answers label").count():
        explain(page, 0)
    assert page.title() == title
    assert page.locator("#result img[src=x]").count() == 0


def test_an_error_stands_on_the_page_and_the_next_request_works(page: Any) -> None:
    choose_model(page, "zoo/gpt-lists")
    page.locator("#text textarea").fill("a" * 100_000)
    page.locator("#ask").click()
    page.wait_for_selector(".heedmap-error")
    assert "100,000 characters" in page.inner_text("#message")
    page.locator("#text textarea").fill("dog red ; cat blue ? cat")
    page.locator("#ask").click()
    page.wait_for_selector("#answers label")
    assert page.locator(".heedmap-error").count() == 0
    assert "blue" in page.inner_text("#answers label >> nth=0")


def test_a_file_that_is_too_large_is_told(page: Any, tmp_path: Path) -> None:
    choose_model(page, "zoo/vit-shapes")
    path = tmp_path / "large.png"
    path.write_bytes(bytes(10_000_001))
    page.locator("#image input[type=file]").set_input_files(path)
    page.get_by_text("size").first.wait_for()
    assert page.locator("#image img").count() == 0
