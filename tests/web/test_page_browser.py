"""The page in a browser: pick, ask, explain, click on, compare, download; nothing comes from elsewhere, nothing runs that
was typed, all of it works from the keyboard, and a checker of accessibility finds nothing serious.

With HEEDMAP_SCREENSHOTS=docs/img the pictures of the documents are written again.
"""

from __future__ import annotations

import json
import re
import wave
from pathlib import Path
from typing import Any

import pytest
from page_browsing import (
    IN_A_BROWSER,
    PATIENCE,
    SETTLING,
    check,
    choose,
    choose_model,
    explain,
    pick,
    saved,
    screenshot,
    settled,
    tab_to,
    title,
)

pytestmark = IN_A_BROWSER


def test_an_object_is_clicked_on_the_picture_compared_and_downloaded(page: Any, tmp_path: Path) -> None:
    title(page, "ring")  # the page opens on an explained sample
    screenshot(page, "app.png", tmp_path)
    page.locator('#result [data-choice="2"]').click()
    title(page, "star")
    assert page.locator("#answers input:checked").get_attribute("value") == "2"
    assert saved(page, "html").startswith(b"<!DOCTYPE html>")
    page.locator("#compare").click()
    page.wait_for_selector(".heedmap-columns img")
    assert page.locator(".heedmap-columns > div > h2").all_inner_texts() == ["generic", "rollout"]
    assert page.get_by_text("each map has a scale of its own").count() == 1
    assert saved(page, "png").startswith(b"\x89PNG")
    assert saved(page, "json").startswith(b"[")
    compared = saved(page, "html")
    assert all(words in compared for words in (b"<h2>generic</h2>", b"<h2>rollout</h2>", b"a scale of its own"))
    assert b"share of" not in compared
    screenshot(page, "app-compared.png", tmp_path)
    page.locator('#result [data-choice="0"]').first.click()
    title(page, "ring")
    page.locator('#samples [data-sample="1"]').click()
    page.wait_for_function("document.querySelector('#image img').naturalWidth > 0")
    page.locator("#samples [data-sample='1'][aria-pressed=true]").wait_for()
    assert page.faults == []


def test_the_map_is_in_view_nothing_is_cut_off_and_dark_is_dark(page: Any) -> None:
    page.locator("#compare").click()
    page.wait_for_selector(".heedmap-columns .stack img")
    for width in (1280, 768, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        columns = page.locator(".heedmap-columns .heedmap").all()
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in (c.bounding_box() for c in columns))
    page.set_viewport_size({"width": 1280, "height": 900})
    page.locator("#explain").click()
    page.locator(".heedmap-columns").wait_for(state="detached")
    page.wait_for_selector("#result .stack img")
    picture = page.locator("#result .stack").bounding_box()
    assert picture["height"] > 400
    assert picture["y"] + picture["height"] <= 900
    page.evaluate("document.body.classList.add('dark')")
    page.wait_for_timeout(SETTLING)
    light = """[...document.querySelectorAll('#result, #result .heedmap, #samples, #message, #files a')].filter((each) =>
        getComputedStyle(each).backgroundColor.match(/\\d+/g).slice(0, 3).some((channel) => channel > 80))"""
    assert page.evaluate(f"{light}.map((each) => each.outerHTML.slice(0, 200))") == []
    page.evaluate("document.body.classList.remove('dark')")
    page.set_viewport_size({"width": 1280, "height": 880})
    assert page.faults == []


def test_names_of_objects_stand_apart_at_each_width_and_the_chosen_one_covers_no_map(page: Any) -> None:
    pick(page, 1)
    title(page, "heart")
    for width in (1280, 768, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(SETTLING)
        picture = page.locator("#result .stack").bounding_box()
        names = [name.bounding_box() for name in page.locator("#result .objects b").all()]
        assert len(names) == 4
        for i, a in enumerate(names):
            assert picture["x"] <= a["x"]
            assert a["x"] + a["width"] <= picture["x"] + picture["width"] + 1
            for b in names[:i]:
                beside = a["x"] + a["width"] <= b["x"] + 1 or b["x"] + b["width"] <= a["x"] + 1
                assert beside or a["y"] + a["height"] <= b["y"] + 1 or b["y"] + b["height"] <= a["y"] + 1, width
        chosen = page.locator("#result .objects b[aria-pressed=true]").bounding_box()
        assert chosen["y"] + chosen["height"] <= page.locator("#result .objects .chosen").bounding_box()["y"] + 2
    page.set_viewport_size({"width": 1280, "height": 880})
    assert page.faults == []


def test_a_chosen_method_ends_before_the_arrow_of_its_list_and_is_whole_on_a_phone(page: Any) -> None:
    choose(page, "method", "integrated_gradients")
    shown = """(() => { const input = document.querySelector('#method input'), style = getComputedStyle(input);
        const pen = document.createElement('canvas').getContext('2d'); pen.font = style.font;
        const box = input.getBoundingClientRect(), begin = box.left + parseFloat(style.paddingLeft);
        return [style.textOverflow, box.right - parseFloat(style.paddingRight), begin + pen.measureText(input.value).width,
            document.querySelector('#method svg').getBoundingClientRect().left] })()"""
    for width in (1280, 768, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(SETTLING)
        overflow, room, end, arrow = page.evaluate(shown)
        assert overflow == "ellipsis"
        assert room <= arrow + 1, width
    assert end <= room, "at 390 pixels"
    page.set_viewport_size({"width": 1280, "height": 880})


def test_a_slow_method_tells_how_far_it_is_over_the_map_alone(page: Any) -> None:
    choose(page, "method", "occlusion")
    page.locator("#answers label").nth(1).click()
    seen = page.locator(":not([role=status])")  # Gradio says it to screen readers, too, and later
    told = page.get_by_text(re.compile(r"explaining by occlusion: \d+ of 144")).and_(seen)
    told.first.wait_for()
    assert page.locator("#answers label").first.is_visible()
    assert page.locator("#result").get_by_text(re.compile("explaining by")).and_(seen).count() == told.count() == 1
    told.wait_for(state="detached")
    page.locator("#result h2").get_by_text("object query 8").wait_for()
    assert page.faults == []


def test_there_is_one_font(page: Any) -> None:
    fonts = """[...document.querySelectorAll('body, button, button *, label, label *, a, input, textarea, [role=button]')]
        .filter((each) => each.tagName === 'BODY' || each.textContent.trim() || 'placeholder' in each)
        .map((each) => getComputedStyle(each).fontFamily)"""
    seen = page.evaluate(fonts)
    assert len(seen) > 30
    assert set(seen) == {page.evaluate("getComputedStyle(document.body).fontFamily")}


def test_a_word_and_a_box_are_clicked_on_the_map(page: Any, tmp_path: Path) -> None:
    choose_model(page, "zoo/lxmert-shapes")
    pick(page, 21)
    page.locator("#result .heat [data-start]", has_text="yellow").click()
    title(page, "by way of “yellow” of text")
    screenshot(page, "app-token.png", tmp_path)
    data = json.loads(saved(page, "json"))
    assert data["target"][0].endswith("by way of “yellow” of text")
    page.locator("#compare").click()
    page.wait_for_selector(".heedmap-columns h3:has-text('by way of')")
    page.get_by_role("button", name="Back to what the whole answer").click()
    page.wait_for_selector("#result :is(h2:not(.column), h3):not(:has-text('by way of'))")
    page.locator('#result .frames [data-start="boxes:0"]').click(force=True)  # others may lie over its middle
    title(page, "of boxes")
    assert page.faults == []


def test_a_patch_is_clicked_on_the_picture(page: Any) -> None:
    choose_model(page, "zoo/vit-shapes")
    page.locator("#samples [data-sample]").first.click()
    page.wait_for_selector("#result h2")
    picture = page.locator("#result .stack").bounding_box()
    page.locator("#result .stack").click(position={"x": picture["width"] * 0.3, "y": picture["height"] * 0.05})
    title(page, "by way of image, row 1, column 4")  # of twelve
    assert page.faults == []


def test_every_word_of_an_answer_can_be_chosen(page: Any, tmp_path: Path) -> None:
    choose_model(page, "zoo/bart-dates")
    page.locator("#text textarea").fill("the 3rd of may 1987")
    page.locator("#ask").click()
    title(page, "rests on")
    page.locator("#every").click()
    frame = page.frame_locator("#result iframe")
    frame.locator("#said button", has_text="05").click()
    assert "tokens of the answer" in frame.locator("#target").inner_text()
    deep = frame.locator("[data-part][class^=s]").evaluate_all(
        "(all) => all.map((word) => [word.className, word.textContent])"
    )
    assert ["s40", "may"] in deep
    chosen = frame.locator("#said button[aria-pressed=true]")
    said = frame.locator("#said button").all_inner_texts()
    assert chosen.all_inner_texts() == ["05"]
    page.keyboard.press("Shift+ArrowRight")  # a phrase, from the keyboard
    assert chosen.all_inner_texts() == said[said.index("05") :][:2]
    page.keyboard.press("Escape")
    assert chosen.all_inner_texts() == said
    frame.locator("#said button", has_text="05").click()
    screenshot(page, "app-answer.png", tmp_path)
    assert json.loads(saved(page, "json"))["answer"]["text"] == ["1987-05-03"]
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(SETTLING)
    choose_model(page, "zoo/vit-shapes")
    page.locator("#every").wait_for(state="hidden")
    assert page.faults == []


def test_fields_that_a_model_does_not_take_are_hidden(page: Any, listener: str) -> None:
    seen = {
        "zoo/gpt-lists": ["text"],
        "zoo/lxmert-shapes": ["text", "image", "more"],
        listener: ["audio", "more"],
    }
    for model, fields in seen.items():
        choose_model(page, model)
        for name in ("text", "second", "image", "audio", "more"):
            page.locator(f"#{name}").wait_for(state="visible" if name in fields else "hidden")
    assert page.faults == []


def test_a_sound_is_uploaded(page: Any, listener: str, tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(bytes(16_000))
    choose_model(page, listener)
    page.locator("#audio input[type=file]").set_input_files(path)
    page.locator("#audio").get_by_text("tone.wav").or_(page.locator("#audio [data-testid*=waveform]")).first.wait_for()
    page.locator("#ask").click()
    page.wait_for_selector("#answers label")
    explain(page, 0)
    assert page.locator("#result svg[role=img]").count() == 1
    assert page.faults == []


# -- without a mouse --------------------------------------------------------------------------------------------------


def test_all_of_it_works_from_the_keyboard(page: Any) -> None:
    for words, model in (("gpt", "zoo/gpt-lists"), ("bart", "zoo/bart-dates")):
        tab_to(page, "#model")
        page.keyboard.press("Control+A")
        page.keyboard.type(words)
        page.keyboard.press("Enter")
        settled(page, model)
    tab_to(page, "#text")
    page.keyboard.type("31.10.1924")
    tab_to(page, "#ask")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answers label")
    tab_to(page, "#answers")
    page.keyboard.press("Space")
    title(page, "token 1 of the answer")
    tab_to(page, "#answer")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    title(page, "token 2 of the answer")
    tab_to(page, "#result .heat")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    word = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    title(page, f"by way of “{word}”")
    page.wait_for_function("document.activeElement.dataset.start !== undefined")  # the focus is where it was
    assert page.evaluate("document.activeElement.textContent") == word
    tab_to(page, "#compare")
    page.keyboard.press("Enter")
    page.wait_for_selector(".heedmap-columns")
    assert page.locator("[role=listbox]").count() == 0  # no list stays open that was passed
    tab_to(page, "#files")
    assert "PNG" in page.evaluate("document.activeElement.textContent")
    assert page.faults == []


def test_nothing_serious_stands_in_anyones_way(page: Any) -> None:
    check_in_both_themes(page, "empty")
    choose_model(page, "zoo/lxmert-shapes")
    page.locator("#more button").first.click()
    page.locator("#options-of-both button").first.click()
    page.locator("#ask").click()
    page.wait_for_selector(".heedmap-error")
    check_in_both_themes(page, "an error")
    pick(page, 21)
    check_in_both_themes(page, "an answer")
    page.locator("#compare").click()
    page.wait_for_selector(".heedmap-columns")
    check_in_both_themes(page, "a comparison")


def check_in_both_themes(page: Any, state: str) -> None:
    """In Gradio's light and in its dark theme, which is a class of the body."""
    for theme in ("light", "dark"):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
        check(page, f"{state}, {theme}")
    page.evaluate("document.body.classList.remove('dark')")


# -- what goes wrong, and what must not -------------------------------------------------------------------------------


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
    path.write_bytes(bytes(10 * 2**20 + 1))
    page.locator("#image input[type=file]").set_input_files(path)
    page.get_by_text("size").first.wait_for()
    assert page.locator("#image img").count() == 0


# -- light and dark: the system's at first, and one that is chosen in its place, everywhere on the page ------------------


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
