"""Maps of a page have the colours of the theme in which they are seen, whoever chose it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import patches, segment
from PIL import Image

import heedmap
from browsing import IN_A_BROWSER, launched
from heedmap.data.segments import Segment
from heedmap.render.answer_page import answer_page
from heedmap.render.page import explanation_page

pytestmark = IN_A_BROWSER
ROWS = 4


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


def hot_and_cold(locator: Any) -> tuple[float, float]:
    """How bright the first and the last patch of a map are, from 0 to 255."""
    shot = Image.open(BytesIO(locator.screenshot())).convert("L")
    side = shot.width / ROWS / 2
    return shot.getpixel((int(side), int(side))), shot.getpixel((int(shot.width - side), int(shot.height - side)))


def is_drawn(locator: Any, theme: str) -> bool:
    hot, cold = hot_and_cold(locator)
    return hot < cold - 60 if theme == "light" else hot > cold + 60


def opened(browser: Any, html: str, folder: Path, system: str) -> Any:
    (folder / "page.html").write_text(html, encoding="utf-8")
    page = browser.new_page(viewport={"width": 900, "height": 900}, color_scheme=system)
    page.goto((folder / "page.html").as_uri())
    return page


@pytest.mark.parametrize("under", [True, False], ids=["on a picture", "alone"])
@pytest.mark.parametrize("system", ["light", "dark"])
def test_a_map_of_a_page(browser, make_explanation, tmp_path, system, under):
    image = Image.new("RGB", (64, 64), "grey") if under else None
    drawn = make_explanation(patches(ROWS, ROWS, {(0, 0): 1.0}))
    page = opened(browser, explanation_page(drawn, 0, image), tmp_path, system)
    assert is_drawn(page.locator("figure img"), system)
    other = {"light": "dark", "dark": "light"}[system]
    page.evaluate("scheme => { document.documentElement.style.colorScheme = scheme }", other)
    assert is_drawn(page.locator("figure img"), other), "as a page's own choice, or a notebook's, has it"
    page.close()


@pytest.mark.parametrize("system", ["light", "dark"])
def test_what_a_token_draws_from_a_picture(browser, make_explanation, tmp_path, system):
    whole = torch.zeros(1, 1, ROWS * ROWS)
    whole[0, 0, 0] = 1.0
    text = segment([1.0], labels=(("red",),))
    drawn = make_explanation(text, patches(ROWS, ROWS, {(0, 0): 1.0}), maps={("text", "image"): whole})
    page = opened(browser, explanation_page(drawn, 0, Image.new("RGB", (64, 64), "grey")), tmp_path, system)
    assert is_drawn(page.locator(".stack.seen").first, system)
    page.close()


@pytest.fixture(scope="module")
def answer() -> heedmap.Explanation:
    said = heedmap.load("zoo/bart-dates").explain_answer(text="the 3rd of may 1987")
    hot = torch.zeros(1, len(said.answer), ROWS * ROWS)
    hot[..., 0] = 1.0
    image = Segment("image", "image", "seen", hot, torch.arange(ROWS * ROWS)[None], (ROWS, ROWS))
    return replace(said, segments={"image": image, **said.segments})


@pytest.mark.parametrize("under", [True, False], ids=["on a picture", "alone"])
@pytest.mark.parametrize("system", ["light", "dark"])
def test_maps_of_an_answer(browser, answer, tmp_path, system, under):
    image = Image.new("RGB", (64, 64), "grey") if under else None
    page = opened(browser, answer_page(answer, 0, image), tmp_path, system)
    for theme in (system, {"light": "dark", "dark": "light"}[system]):
        page.emulate_media(color_scheme=theme)
        assert is_drawn(page.locator("figure .map").first, theme)
        assert is_drawn(page.locator(".strip .map").first, theme)
    page.close()


def test_many_words_as_pixels_have_the_colours_of_the_theme(browser, answer, tmp_path):
    count = 900
    hot = torch.zeros(1, len(answer.answer), count)
    hot[..., 0] = 1.0
    names = (tuple(f"word{n}" for n in range(count)),)
    text = replace(answer.segments["text"], relevance=hot, positions=torch.arange(count)[None], labels=names)
    text = replace(text, boundaries=None, roles=None)
    page = opened(browser, answer_page(replace(answer, segments={**answer.segments, "text": text})), tmp_path, "light")
    table = page.locator("figure[data-segment='1'] details.table")
    table.locator("summary").click()
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        shot = np.asarray(Image.open(BytesIO(table.locator("canvas.pixels").screenshot())).convert("L"))
        assert np.median(shot) > 200 if theme == "light" else np.median(shot) < 60
    page.close()
