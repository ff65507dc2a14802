"""Two models, an edited input, a table and an answer set against other words in a browser: at three widths, in both themes, by keyboard, checked for accessibility.

With HEEDMAP_SCREENSHOTS=docs/img the pictures of the documents are written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_browsing import IN_A_BROWSER, SETTLING, check, choose, choose_model, saved, screenshot, settled, tab_to, title
from PIL import Image

from heedmap.web.form_inputs import offered, sample

pytestmark = IN_A_BROWSER
WIDTHS = (1280, 768, 390)
SHOWN = """(expected) => {
  const image = document.querySelector('#image img'), canvas = document.createElement('canvas');
  if (!image?.naturalWidth) return false;
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const seen = [...context.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, i) => i % 4 < 3);
  return String(seen) === String(expected);
}"""
"""Whether the picture in the field has these numbers, one after the other."""
TEXT = "dog red ; cat blue ; sun green ? cat"


@pytest.fixture
def page(page: Any) -> Iterator[Any]:
    """The page, on which nothing goes wrong."""
    yield page
    assert page.faults == []


def opened(page: Any, name: str) -> None:
    """A folded part."""
    page.locator(f"#{name} > button").click()
    page.wait_for_timeout(SETTLING)


def seen(page: Any, name: str) -> None:
    """At each width in each theme: nothing is cut off, and the checker finds nothing serious."""
    for theme in ("light", "dark"):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(SETTLING)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, theme, width)
            for place in page.locator(".heedmap-columns .heedmap, #table table, .odds").all():
                box = place.bounding_box()
                assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= width), (name, theme, width)
        check(page, f"{name}, {theme}")
    page.evaluate("document.body.classList.remove('dark')")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_a_region_is_painted_over_and_what_changes_is_shown(page: Any, tmp_path: Path) -> None:
    title(page, "ring")
    opened(page, "edits")
    page.locator("#old").wait_for(state="hidden")
    page.locator("#region input, #region textarea").fill("0 20 30 50")
    page.locator("#change").click()
    page.locator("#result h3", has_text="What changes for “ring").wait_for()
    assert page.locator("#result h2.column").all_inner_texts() == ["before", "after", "change"]
    first = page.locator("#result .odds tbody tr").first.locator("td").all_inner_texts()
    assert first == ["99.7 %", "< 0.1 %"]
    assert len(json.loads(saved(page, "json"))) == 3
    assert saved(page, "png").startswith(b"\x89PNG")
    screenshot(page, "app-changed.png", tmp_path)
    seen(page, "edit")
    page.locator("#region input, #region textarea").fill("0 20 30 500")
    page.locator("#change").click()
    page.wait_for_selector(".heedmap-error")
    assert "not within the picture" in page.inner_text("#message")


def test_a_word_is_changed_from_the_keyboard(page: Any) -> None:
    choose_model(page, "zoo/gpt-lists")
    page.locator("#text textarea").fill(TEXT)
    page.locator("#ask").click()
    title(page, "blue")
    tab_to(page, "#edits")
    page.keyboard.press("Enter")
    tab_to(page, "#old")
    page.keyboard.type("blue")
    tab_to(page, "#new")
    page.keyboard.type("red")
    page.locator("#region").wait_for(state="hidden")
    tab_to(page, "#change")
    page.keyboard.press("Enter")
    page.locator("#result h3", has_text="What changes for “blue, the next word”").wait_for()
    odds = page.locator("#result .odds tbody tr").first.locator("td").all_inner_texts()
    assert odds == ["> 99.9 %", "< 0.1 %"]


def test_an_edit_that_empties_the_text_is_refused_and_nothing_is_lost(page: Any) -> None:
    choose_model(page, "zoo/gpt-lists")
    page.locator("#text textarea").fill("blue")
    page.locator("#ask").click()
    title(page, "blue")
    page.locator("#message").wait_for(state="attached")
    before = page.inner_html("#result")
    opened(page, "edits")
    page.locator("#old input, #old textarea").fill("blue")
    page.locator("#change").click()
    page.wait_for_selector(".heedmap-error")
    assert page.inner_text("#message") == "the edit leaves no text; leave at least one word"
    assert page.locator("#text textarea").input_value() == "blue"
    assert page.inner_html("#result") == before
    assert saved(page, "png").startswith(b"\x89PNG")
    assert page.faults == []


def test_two_models_are_set_beside_each_other(page: Any, tmp_path: Path) -> None:
    title(page, "ring")
    opened(page, "models-beside")
    choose(page, "other-model", "zoo/deformable-shapes")
    page.locator("#beside").click()
    page.wait_for_selector("#result h2.column")
    assert page.locator("#result h2.column").all_inner_texts() == ["zoo/detr-shapes", "zoo/deformable-shapes"]
    screenshot(page, "app-models.png", tmp_path)
    seen(page, "models")
    choose(page, "other-model", "zoo/gpt-lists")
    page.locator("#beside").click()
    page.wait_for_selector(".heedmap-error")
    assert "take the same" in page.inner_text("#message")


def test_a_table_is_stepped_through_by_the_keyboard(page: Any, tmp_path: Path) -> None:
    files = []
    for number in list(offered("zoo/detr-shapes"))[:3]:
        picture = sample("zoo/detr-shapes", number).picture
        assert picture is not None
        files.append(tmp_path / f"picture-{number}.png")
        picture.save(files[-1])
    opened(page, "own")
    page.locator("#own input[type=file]").set_input_files(files)
    page.wait_for_selector("#table [data-row='2']")
    answers = page.locator("#table tbody tr td:nth-child(2)").all_inner_texts()
    assert len(answers) == 3
    page.locator("#table [data-row='0']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    title(page, answers[1])
    page.locator("#table [data-row='1'][aria-pressed=true]").wait_for()
    assert page.locator("#samples [aria-pressed=true]").count() == 0
    in_field(page, files[1])
    screenshot(page, "app-table.png", tmp_path)
    seen(page, "table")
    page.locator("#table [data-row='2']").click()
    title(page, answers[2])
    in_field(page, files[2])
    page.locator("#samples [data-sample]").first.click()
    page.locator("#samples [aria-pressed=true]").wait_for()
    choose_model(page, "zoo/gpt-lists")  # a row of another model's table leaves the fields alone
    page.locator("#table [data-row='0']").click()
    title(page, answers[0])
    assert page.locator("#text textarea").input_value() == ""


@pytest.mark.parametrize("begin", ["sample", "explain"])
def test_a_slow_map_does_not_take_the_place_of_another_model(page: Any, begin: str) -> None:
    """What was begun for a sample ends after the other model was chosen."""
    choose(page, "method", "smoothgrad")
    opened(page, "options-of-both")
    page.locator("#options textarea").fill("samples=60")
    page.locator({"sample": "#samples [data-sample] >> nth=1", "explain": "#explain"}[begin]).click()
    page.locator("#result .progress-text").first.wait_for()
    choose_model(page, "zoo/gpt-lists")
    page.wait_for_timeout(6000)
    settled(page, "zoo/gpt-lists")
    assert page.locator("#result .heedmap").count() == 0


def in_field(page: Any, path: Path) -> None:
    """Wait until the field has the picture of a file; after the one that it had, the browser may still read it."""
    with Image.open(path) as picture:
        page.wait_for_function(SHOWN, arg=np.asarray(picture.convert("RGB")).flatten().tolist())


def test_a_table_without_its_column_is_told(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text("<img src=x onerror=alert(1)>\nred\n")
    choose_model(page, "zoo/gpt-lists")
    opened(page, "own")
    page.locator("#own input[type=file]").set_input_files(path)
    page.wait_for_selector(".heedmap-error")
    assert "a column called text is needed" in page.inner_text("#message")
    assert page.locator("#message img").count() == 0


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


def test_a_contrast_that_cannot_be_is_told_and_the_next_is_answered(page: Any) -> None:
    choose_model(page, "zoo/bart-dates")
    page.locator("#text textarea").fill("the 3rd of may 1987")
    page.locator("#ask").click()
    title(page, "rests on")
    whole = page.frame_locator("#result iframe").locator("#target", has_text="the whole answer")
    for written, told in {
        "05=06, 99=1": "which is not in the answer",
        "05=06, 07": "is not KEY=VALUE",
        "05=06, 05=07": "is given twice",
        "x" * 501: "the contrast has 501 characters",
    }.items():
        page.locator("#against textarea").fill(written)
        page.locator("#against textarea").press("Enter")
        page.locator(".heedmap-error", has_text=told).wait_for()
        page.locator("#against textarea").fill("runner-up")
        page.locator("#against textarea").press("Enter")
        page.locator(".heedmap-error").wait_for(state="detached")
        assert whole.inner_text() == "the whole answer, each token rather than another"
    choose_model(page, "zoo/vit-shapes")
    page.locator("#against").wait_for(state="hidden")
