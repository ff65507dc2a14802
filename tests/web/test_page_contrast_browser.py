"""Why this word and not that one, asked on the page, in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from page_browsing import IN_A_BROWSER, SETTLING, check, choose_model, saved, screenshot, title

pytestmark = IN_A_BROWSER


def test_the_words_of_an_answer_are_set_against_others(page: Any, tmp_path: Path) -> None:
    choose_model(page, "zoo/bart-dates")
    page.locator("#text textarea").fill("the 3rd of may 1987")
    page.locator("#ask").click()
    title(page, "rests on")
    page.locator("#against textarea").fill("05=06")
    page.locator("#every").click()
    frame = page.frame_locator("#result iframe")
    frame.locator("#said button", has_text="05").click()
    assert "rather than “06”" in frame.locator("#target").inner_text()
    others = json.loads(saved(page, "json"))["answer"]["contrast"][0]
    assert [token >= 0 for token in others] == [token in (5, 6) for token in range(10)]  # of "1987-05-03"
    for width in (390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(SETTLING)
        for theme in ("light", "dark"):
            page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
            check(page, f"{width}, {theme}")
            screenshot(page, f"contrast-{width}-{theme}.png", tmp_path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        field = page.locator("#against").bounding_box()
        assert 0 <= field["x"] <= width - field["width"]
    page.evaluate("document.body.classList.remove('dark')")
    page.set_viewport_size({"width": 1280, "height": 880})
    assert page.faults == []


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("05=06, 99=1", "which is not in the answer"),
        ("05=06, 07", "is not KEY=VALUE"),
        ("05=06, 05=07", "is given twice"),
        ("x" * 501, "the contrast has 501 characters"),
    ],
)
def test_a_contrast_that_cannot_be_is_told(page: Any, written: str, told: str) -> None:
    choose_model(page, "zoo/bart-dates")
    page.locator("#text textarea").fill("the 3rd of may 1987")
    page.locator("#ask").click()
    title(page, "rests on")
    page.locator("#against textarea").fill(written)
    page.locator("#against textarea").press("Enter")
    page.locator(".heedmap-error", has_text=told).wait_for()
    page.locator("#against textarea").fill("runner-up")
    page.locator("#against textarea").press("Enter")
    whole = page.frame_locator("#result iframe").locator("#target", has_text="the whole answer")
    assert whole.inner_text() == "the whole answer, each token rather than another"
    page.locator(".heedmap-error").wait_for(state="detached")
    choose_model(page, "zoo/vit-shapes")
    page.locator("#against").wait_for(state="hidden")
    assert page.faults == []
