"""The gallery's page: one file that loads nothing, and is read without scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from heedmap.render.page import document, image_html
from heedmap.render.sample import sample
from heedmap.render.scale import ramp, scale_of, token_scale
from heedmap.render.text import html_text, text_html
from heedmap.zoo.gallery.drawing import true_picture
from heedmap.zoo.gallery.show import METHODS, Answer, Shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

TITLE = "heedmap: what small trained models look at"
WORDS = {"text": "words", "image": "patches", "boxes": "boxes"}
PAPERS = "generic"

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f6f6f4; color: #1d1d1f; font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 84rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .8rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 0; }
h3 { font-size: 1rem; font-weight: 600; margin: 1.6rem 0 .6rem; overflow-wrap: anywhere; }
p { max-width: 48rem; margin: .5rem 0; }
nav { display: flex; flex-wrap: wrap; gap: .4rem .6rem; margin: 1rem 0 0; }
nav a { color: #40346e; background: #ecebf4; padding: .15rem .7rem; border-radius: 1rem; text-decoration: none; }
code { font: .9em ui-monospace, Menlo, Consolas, monospace; }
small, .fine { color: #62626a; font-size: .84rem; }
figcaption small { font-size: .76rem; }
.key { display: flex; flex-wrap: wrap; gap: .4rem 2rem; margin: 1rem 0 0; }
.key span { white-space: nowrap; }
.scale { display: inline-block; width: 7rem; height: .8rem; border-radius: .2rem; vertical-align: -.05rem; margin: 0 .4rem; }
section { background: #fff; border: 1px solid #e3e3e0; border-radius: .8rem; padding: 1.4rem 1.6rem 1.6rem; margin-top: 1.6rem; }
.pictures { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.lines { display: grid; gap: .35rem; }
figure { margin: 0; min-width: 0; }
.lines figure { display: grid; grid-template-columns: 10.5rem 1fr 12.5rem; gap: .2rem .8rem; align-items: center; }
.lines figcaption:last-child { text-align: right; }
figure img { display: block; width: 100%; border-radius: .35rem; }
figcaption { font-size: .84rem; color: #62626a; line-height: 1.4; }
figcaption b { color: #1d1d1f; font-size: .92rem; }
.paper b { color: #40346e; }
.paper b::after { content: " (the paper’s)"; font-weight: 400; }
.heat { margin: .25rem 0; line-height: 1.95; max-width: none; overflow-wrap: anywhere; }
.lines .heat { font-size: .95rem; }
.lines .token { padding: .12em .22em; }
.pictures .heat { font-size: .84rem; line-height: 1.85; }
.token { padding: .12em .28em; border-radius: .2em; }
.marked { box-shadow: inset 0 -3px 0 #0a8f6c; }
.plain .token { background: none !important; color: inherit !important; }
@media (max-width: 46rem) {
  main { padding: 1.5rem .8rem 3rem; }
  section { padding: 1rem .9rem 1.2rem; }
  .pictures { grid-template-columns: repeat(2, 1fr); }
  .lines figure { grid-template-columns: 1fr; gap: 0; padding: .35rem 0; }
  .lines figcaption:last-child { text-align: left; }
}
""".strip()


def gallery_page(models: Sequence[Shown], pictures: Mapping[tuple[str, int, str], Image.Image]) -> str:
    """All models on one page.

    Args:
        models: in their order.
        pictures: (model, number of the answer, method) → its map on the picture, of the models that have pictures.
    """
    links = "".join(f'<a href="#{html_text(one.name)}">{html_text(one.name)}</a>' for one in models)
    sections = "\n".join(_section(one, pictures) for one in models)
    return document(f"<style>{STYLE}</style>\n<main>\n{_head()}\n<nav>{links}</nav>\n{sections}\n</main>\n", TITLE)


def _head() -> str:
    return (
        "<h1>What small trained models look at</h1>\n"
        "<p>Each model below ships with heedmap and was trained on data that a program made, so what an answer truly rests "
        "on is known. The samples are from the test split, and the models answer them rightly. Each answer is explained by "
        "the method of Chefer, Gur and Wolf (ICCV 2021) and, beside it, by three baselines and by chance.</p>\n"
        f'<div class="key fine"><span>Words: low{_scale(False)}high</span><span>Pictures: low{_scale(True)}high</span>'
        '<span><span class="token marked">word</span> or white outline: true evidence</span>'
        "<span>blue box: what a detector found</span></div>\n"
        '<p class="fine">Words and boxes are coloured from 0, patches min–max, each map over its own tokens, so colours '
        "compare within a map only; the scale is written under it. “On evidence” is the share of a map’s relevance that lies "
        "on what is true, not scaled; it compares between maps.</p>"
    )


def _scale(patches: bool) -> str:
    return f'<span class="scale" style="background: {ramp(scale_of([0, 1]), patches=patches)}"></span>'


def _section(model: Shown, pictures: Mapping[tuple[str, int, str], Image.Image]) -> str:
    answers = "\n".join(_answer(model, number, answer, pictures) for number, answer in enumerate(model.answers))
    name = html_text(model.name)
    return (
        f'<section id="{name}">\n<h2>zoo/{name}</h2>\n<small><code>{html_text(model.architecture)}</code></small>\n'
        f"<p>{html_text(model.about)}</p>\n{answers}\n</section>"
    )


def _answer(model: Shown, number: int, answer: Answer, pictures: Mapping[tuple[str, int, str], Image.Image]) -> str:
    figures = [_truth(model, answer)]
    for method in METHODS:
        picture = pictures.get((model.name, number, method))
        figures.append(_map(answer, method, picture))
    kind = "lines" if model.picture is None else "pictures"
    return f'<h3>{html_text(answer.asked.title)}</h3>\n<div class="{kind}">\n' + "\n".join(figures) + "\n</div>"


def _truth(model: Shown, answer: Answer) -> str:
    """What the model was given, with the true evidence marked."""
    picture = None if model.picture is None else true_picture(model.picture, answer, model.sample.places)
    heat = f'<div class="plain">{_words(answer, METHODS[0])}</div>'
    return _figure("", "true evidence", picture, heat, "")


def _map(answer: Answer, method: str, picture: Image.Image | None) -> str:
    segments = answer.maps[method].segments
    facts = [
        f"{WORDS[name]}: {answer.inside(method, name):.0%} on evidence"
        f"<br><small>{html_text(token_scale(segments[name], sample(segments[name])).about())}</small>"
        for name in answer.evidence
    ]
    kind = "paper" if method == PAPERS else ""
    return _figure(kind, method, picture, _words(answer, method), "<br>".join(facts))


def _figure(kind: str, title: str, picture: Image.Image | None, heat: str, facts: str) -> str:
    drawn = "" if picture is None else image_html(picture, f"map of {title}")
    head, foot = f"<figcaption><b>{html_text(title)}</b></figcaption>", f"<figcaption>{facts}</figcaption>"
    return f'<figure class="{kind}">{head}<div>{drawn}{heat}</div>{foot}</figure>'


def _words(answer: Answer, method: str) -> str:
    segments = answer.maps[method].segments
    if "text" not in segments:
        return ""
    marked = np.flatnonzero(answer.evidence.get("text", np.zeros(0)) > 0).tolist()
    return text_html(segments["text"], marked=marked)
