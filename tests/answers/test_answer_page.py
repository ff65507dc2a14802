"""The page of an answer in a browser: words and phrases are chosen, by mouse and keys, and the maps follow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import heedmap
from browsing import IN_A_BROWSER
from heedmap.cli.main import app
from heedmap.data.segments import Segment
from heedmap.render.answer_page import answer_page

pytestmark = IN_A_BROWSER
TEXT = "the 3rd of may 1987"
WRITTEN = "<b>t</b></script><script>"
"""What stands for the first letter of the text."""
FRAMES = 120


@pytest.fixture(scope="module")
def said() -> heedmap.Explanation:
    """An answer to a text; beside it a picture and a sound, of which each token rests on a place of its own."""
    found = heedmap.load("zoo/bart-dates").explain_answer(text=TEXT, contrast={"-": "runner-up"})
    steps = len(found.answer)
    patches = torch.eye(steps, 16)[None]
    sound = torch.eye(steps, FRAMES)[None]
    seconds = (tuple(f"{n / 50:.2f} s" for n in range(FRAMES)),)
    made = {
        "image": Segment("image", "image", "seen", patches, torch.arange(16)[None], (4, 4)),
        "audio": Segment("audio", "audio", "heard", sound, torch.arange(FRAMES)[None], None, seconds),
    }
    text = found.segments["text"]
    made["text"] = replace(text, labels=((WRITTEN, *text.labels[0][1:]),))
    return replace(found, segments={**made, "decoder": found.segments["decoder"], "answer": found.segments["answer"]})


@pytest.fixture
def page(browser: Any, said: heedmap.Explanation, tmp_path: Path) -> Iterator[Any]:
    wave = np.sin(np.linspace(0, 400, 32_000)), 16_000
    path = tmp_path / "answer.html"
    path.write_text(answer_page(said, 0, Image.new("RGB", (64, 64), "grey"), wave), encoding="utf-8")
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda asked: faults.append(asked.url) if asked.url.startswith("http") else None)
    opened.goto(path.as_uri())
    yield opened
    assert faults == []
    opened.close()


def words(page: Any) -> Any:
    return page.locator("#said button")


def pressed(page: Any) -> list[str]:
    return page.locator("#said button[aria-pressed=true]").all_inner_texts()


def brightest(page: Any) -> int:
    """The patch that the large map shows strongest."""
    return page.evaluate(
        """() => {const c = document.querySelector('.map canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        const alphas = [...Array(c.width * c.height).keys()].map((i) => d[4 * i + 3]); return alphas.indexOf(Math.max(...alphas));}"""
    )


def darkest(page: Any, figure: int) -> str:
    """The word of a text that has the deepest colour."""
    depth = "(e) => Number((e.className.match(/s(\\d+)/) ?? [0, 0])[1])"
    found = page.locator(f"figure[data-segment='{figure}'] [data-part]")
    depths = [found.nth(n).evaluate(depth) for n in range(found.count())]
    return found.nth(int(np.argmax(depths))).inner_text()


def test_a_word_is_clicked_and_its_maps_are_seen(page: Any, said: heedmap.Explanation) -> None:
    names = [text for text, _, _ in said.words()]
    assert words(page).all_inner_texts() == names
    assert pressed(page) == names  # at first the whole answer
    for n, (name, start, end) in enumerate(said.words()):
        words(page).nth(n).click()
        assert pressed(page) == [name]
        assert start <= brightest(page) < end
        tokens = said.span(start, end)["text"][0]
        told = page.locator("figure[data-segment='2'] .scale").inner_text()
        assert told.startswith("from 0 to ")
        assert 0 < float(told.split()[-1]) <= float(tokens.sum()) + 1e-3
    words(page).first.click()
    assert darkest(page, 2) == "1987"


def test_a_phrase_is_taken_by_keys_and_the_whole_by_escape(page: Any, said: heedmap.Explanation) -> None:
    names = [text for text, _, _ in said.words()]
    words(page).nth(0).click()
    page.keyboard.press("ArrowRight")
    assert pressed(page) == names[1:2]
    page.keyboard.press("Shift+ArrowRight")
    assert pressed(page) == names[1:3]
    _, start, _ = said.words()[1]
    _, _, end = said.words()[2]
    assert (
        page.locator("#target").inner_text()
        == f"“{''.join(names[1:3])}”, {end - start} tokens of the answer, by their mean"
    )
    page.keyboard.press("Escape")
    assert pressed(page) == names


def test_a_contrast_is_named_and_what_is_not_contrasted_is_plain(page: Any) -> None:
    words(page).nth(1).click()
    assert "rather than" in page.locator("#target").inner_text()
    assert "said with" in page.locator("#odds").inner_text()
    words(page).nth(0).click()
    assert "rather than" not in page.locator("#target").inner_text()


def test_the_contrast_of_the_command_line_is_read_by_mouse_and_by_keys(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "contrast.html"
    asked = ["answer", "zoo/bart-dates", "--text", TEXT, "--contrast", "-=runner-up", "--out", str(path)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(path.as_uri())
    target = page.locator("#target")
    said = words(page).all_inner_texts()
    assert said[:2] == ["1987", "-"]
    words(page).nth(1).click()
    by_mouse = target.inner_text()
    assert re.fullmatch(r"“-” rather than “.+”, token 5 of the answer", by_mouse)
    words(page).nth(0).click()
    assert "rather than" not in target.inner_text()
    page.keyboard.press("ArrowRight")
    assert target.inner_text() == by_mouse
    page.keyboard.press("Shift+ArrowRight")
    assert pressed(page) == said[1:3]
    assert "by their mean" in target.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Escape")
    assert pressed(page) == said
    page.close()


def test_small_pictures_and_rows_of_a_matrix_choose_too(page: Any, said: heedmap.Explanation) -> None:
    names = [text for text, _, _ in said.words()]
    page.locator(".strip button").nth(2).click()
    assert pressed(page) == names[2:3]
    page.locator("figure[data-segment='2'] details.table summary").click()
    page.locator("figure[data-segment='2'] .matrix tbody tr").nth(4).click()
    assert pressed(page) == names[4:5]


def test_what_a_user_wrote_is_text(page: Any) -> None:
    assert page.locator("figure b").count() == 0
    assert WRITTEN in page.locator("figure[data-segment='2']").inner_text()


def test_a_narrow_window_has_no_bar_below(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_thousands_of_tokens_stay_usable(browser: Any, said: heedmap.Explanation, tmp_path: Path) -> None:
    """1,000 tokens of an answer over 4,000 of the input: the page opens, and a word is chosen."""
    steps, tokens = 1000, 4000
    names = tuple(f"w{n}" for n in range(tokens))
    torch.manual_seed(0)
    many = replace(
        said.answer,
        tokens=torch.zeros(1, steps, dtype=torch.long), rows=torch.arange(steps)[None], others=None,
        targets=(names[:steps],), probabilities=torch.rand(1, steps),
        top_labels=((("a", "b"),) * steps,), top_probabilities=torch.rand(1, steps, 2),
    )  # fmt: skip
    made = {
        name: Segment(name, "text", "t", torch.rand(1, steps, n), torch.arange(n)[None], None, (names[:n],), ("w" * n,))
        for name, n in (("text", tokens), ("answer", steps))
    }
    path = tmp_path / "long.html"
    path.write_text(replace(said, segments=made, answer=many, scores=torch.zeros(1, steps)).to_html(), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    words(page).nth(5).click()
    assert pressed(page) == ["w5"]
    page.close()


def test_what_is_special_alone_or_has_no_relevance_is_told_and_not_drawn(said: heedmap.Explanation) -> None:
    html = answer_page(said)
    assert said.segments["decoder"].relevance.any(), "its start token draws relevance"
    assert "decoder: special tokens alone" in html
    assert html.count("<figure data-segment") == len(said.segments) - 1
    assert "There is nothing to show" not in html
    still = replace(said.segments["image"], relevance=torch.zeros_like(said.segments["image"].relevance))
    nothing = answer_page(
        replace(said, segments={n: said.segments[n] for n in ("decoder", "answer")} | {"image": still})
    )
    assert "image: no relevance" in nothing
    assert nothing.count("<figure data-segment") == 1
    alone = replace(said.segments["answer"], relevance=torch.zeros_like(said.segments["answer"].relevance))
    empty = answer_page(replace(said, segments={"decoder": said.segments["decoder"], "answer": alone}))
    assert "<figure" not in empty
    assert "There is nothing to show: the answer rests on no part of the input." in empty
