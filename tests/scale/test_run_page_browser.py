"""The page that a run writes, in a browser: wide and narrow, in both themes, nothing cut off, checked for accessibility."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from data_sets import LISTS, write_jsonl

import heedmap
from browsing import IN_A_BROWSER, violations
from heedmap.models.model import Model

pytestmark = IN_A_BROWSER
LOADED = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
CUT = """() => [...document.querySelectorAll('h1, h2, h3, p, figure, img, .heat')].filter((place) => {
  const {left, right} = place.getBoundingClientRect();
  return !place.closest('.scroll') && (left < 0 || right > innerWidth + 0.5);
}).map((place) => place.outerHTML.slice(0, 100))"""
"""What reaches over the edge of the window."""


@pytest.fixture(scope="module")
def reports(
    lists_model: Model, shapes_model: Model, pictures: tuple[bytes, ...], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, int]]:
    """The pages of pictures, and of texts with a long one and a bad row; and how many rows each has."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / "in").mkdir()
    for number, picture in enumerate(pictures):
        (folder / "in" / f"a long name of a picture that somebody took, {number}.png").write_bytes(picture)
    heedmap.run(shapes_model, folder / "in", folder / "pictures")
    rows = [{"text": text} for text in LISTS[:5]]
    rows.append({"text": LISTS[0], "target": "unicorn" * 20})
    heedmap.run(lists_model, write_jsonl(folder / "lists.jsonl", rows), folder / "texts")
    return {"pictures": (folder / "pictures", 4), "texts": (folder / "texts", 5)}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["pictures", "texts"])
def test_the_report_of_a_run(
    browser: Any, reports: dict[str, tuple[Path, int]], tmp_path: Path, name: str, width: int, theme: str
) -> None:
    folder, rows = reports[name]
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("request", lambda asked: faults.append(asked.url) if asked.url.startswith("http") else None)
    page.goto((folder / "report.html").as_uri())
    page.wait_for_function(LOADED)
    assert page.locator("h2").all_inner_texts()[:3] == ["What it said", "Most certain", "Least certain"]
    assert page.locator("figure").count() == 2 * rows
    assert ("of them could not be explained" in page.inner_text("body")) == (name == "texts")
    assert page.locator("text=could not be explained (1)").count() == (name == "texts")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
    assert (max(ground) < 60) if theme == "dark" else (min(ground) > 230)
    folder = Path(os.environ.get("HEEDMAP_SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"run-{name}-{width}-{theme}.png", full_page=True)
    assert [(fault["id"], node["html"][:200]) for fault in violations(page) for node in fault["nodes"]] == []
    assert faults == []
    page.close()
