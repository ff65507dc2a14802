"""Light and dark: the system's at first, and one that is chosen in its place, everywhere on the page."""

from __future__ import annotations

from typing import Any

import pytest
from page_browsing import IN_A_BROWSER, PATIENCE, SETTLING, choose_model, title

pytestmark = IN_A_BROWSER
GROUNDS = """(selector) => [...document.querySelectorAll(selector)].map((each) => getComputedStyle(each).backgroundColor)
    .filter((colour) => !/, 0\\)$/.test(colour)).map((colour) => Math.max(...colour.match(/\\d+/g).slice(0, 3)))"""
"""Of elements that have a ground of their own how bright it is, from 0 to 255."""
PARTS = "body, .gradio-container, #result, #result .heedmap, #samples, #answer, #files a, textarea, #options-of-both, #edits"


def _bright(page: Any, frame: Any) -> list[int]:
    seen = page.evaluate(GROUNDS, PARTS) + frame.evaluate(GROUNDS, ".heedmap")
    assert len(seen) > 5
    return seen


def _is(seen: list[int], theme: str) -> bool:
    return all(level < 100 for level in seen) if theme == "dark" else all(level > 200 for level in seen)


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_answers_frame_too_is_as_the_page_is(browser: Any, address: str, system: str) -> None:
    other = {"light": "dark", "dark": "light"}[system]
    for asked, theme in (("", system), (f"?__theme={other}", other)):
        page = browser.new_page()
        page.emulate_media(color_scheme=system)
        page.set_default_timeout(PATIENCE)
        page.goto(address + asked)
        page.add_style_tag(content="* { transition: none !important; }")
        page.wait_for_selector("#image img")
        choose_model(page, "zoo/bart-dates")
        page.locator("#text textarea").fill("the 3rd of may 1987")
        page.locator("#ask").click()
        title(page, "rests on")
        page.locator("#every").click()
        page.frame_locator("#result iframe").locator("#said button").first.wait_for()
        holder = page.locator("#result iframe").element_handle()
        frame = holder.content_frame()
        page.wait_for_timeout(SETTLING)
        assert _is(_bright(page, frame), theme), (system, asked, _bright(page, frame))
        page.evaluate("document.body.classList.toggle('dark')")  # as Gradio's settings do
        page.wait_for_timeout(SETTLING)
        after = {"light": "dark", "dark": "light"}[theme]
        assert _is(_bright(page, frame), after), (system, asked, "switched", _bright(page, frame))
        page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_map_is_as_the_page_is(browser: Any, address: str, theme: str) -> None:
    page = browser.new_page()
    page.emulate_media(color_scheme={"light": "dark", "dark": "light"}[theme])
    page.goto(f"{address}?__theme={theme}")
    page.wait_for_selector("#image img")
    title(page, "rests on")
    page.wait_for_timeout(SETTLING)
    assert _is(page.evaluate(GROUNDS, PARTS), theme), page.evaluate(GROUNDS, PARTS)
    page.close()
