"""What somebody does with the page in a browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from page_people import WITH_GRADIO
from PIL import Image

import browsing

IN_A_BROWSER = [
    WITH_GRADIO,
    *browsing.IN_A_BROWSER,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),  # within Gradio
]
"""Marks of such tests."""
PATIENCE = 30_000
"""Milliseconds for one step, on a machine that has other work."""
GRAVE = ("serious", "critical")
SETTLING = 250
"""Milliseconds in which Gradio puts values and colours where they belong, after they have come."""


def choose(page: Any, box: str, words: str) -> None:
    """An entry of a drop-down list."""
    page.locator(f"#{box} input").click()
    page.get_by_role("option", name=words).first.click()


def choose_model(page: Any, name: str) -> None:
    choose(page, "model", name)
    settled(page, name)


def pick(page: Any, number: int) -> None:
    """A sample, which is asked and explained at once."""
    page.locator(f'#samples [data-sample="{number}"]').click()
    page.wait_for_selector("#result h2")


def settled(page: Any, name: str) -> None:
    """A chosen model empties the fields."""
    page.locator("#result").get_by_text(f"{name}:").wait_for()
    page.wait_for_timeout(SETTLING)


def explain(page: Any, answer: int) -> None:
    page.locator("#answers label").nth(answer).click()
    page.wait_for_selector("#result h2")


def saved(page: Any, ending: str) -> bytes:
    link = page.get_by_text(f"Download {ending.upper()}")
    link.scroll_into_view_if_needed()
    page.wait_for_timeout(SETTLING)  # just after a page was moved, a press may still reach the frame that was there
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == f"heedmap.{ending}"
    return Path(download.value.path()).read_bytes()


def screenshot(page: Any, name: str, otherwise: Path) -> None:
    """Of the whole page, with few colours, so that it is small."""
    path = Path(os.environ.get("HEEDMAP_SCREENSHOTS", otherwise)) / name
    page.mouse.move(0, 0)
    page.wait_for_timeout(SETTLING)
    page.screenshot(path=path, full_page=True)
    with Image.open(path) as opened:
        few = opened.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    assert path.stat().st_size < 150_000


def check(page: Any, state: str) -> None:
    """axe-core's rules; Gradio's own markup passes them too, so none is left out."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(SETTLING)
    nodes = [
        (each["id"], node) for each in browsing.violations(page) if each["impact"] in GRAVE for node in each["nodes"]
    ]
    assert nodes == [], f"{state}: {[(rule, node['target'], node['html'][:200]) for rule, node in nodes]}"


def title(page: Any, words: str) -> None:
    page.locator("#result h2", has_text=words).first.wait_for()


def tab_to(page: Any, place: str) -> None:
    """Press the tab key until the focus is in ``place``, as somebody does who has no mouse."""
    for _ in range(40):
        if page.evaluate("place => !!document.activeElement?.closest(place)", place):
            return
        page.keyboard.press("Tab")
    pytest.fail(f"the tab key does not reach {place}")
