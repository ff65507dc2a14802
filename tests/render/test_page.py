import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import torch
from hand_made import patches, pictures, segment
from matplotlib.collections import QuadMesh
from PIL import Image

import heedmap
from heedmap.data.segments import Top
from heedmap.errors import InputError
from heedmap.render.overlay import ALPHA, muted
from heedmap.render.page import comparison_page, explanation_fragment, explanation_page
from heedmap.render.scale import MUTE, THEMES, scale_of

VOID = {"meta", "img", "polygon", "input", "br"}


class _Page(HTMLParser):
    """Collects tags and text, and checks that every tag is closed in its turn."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_stands_alone_and_nothing_breaks_out(all_kinds, photo):
    html = explanation_page(all_kinds, 0, photo)
    page = _Page(html)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "b", "i", "note"}
    sources = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert not [name for _, a in page.tags for name in a if name.startswith("on")]
    assert "http" not in html.replace("http-equiv", "")
    html.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", html)


def test_the_page_says_what_was_explained(all_kinds):
    text = _Page(explanation_page(all_kinds)).text
    for words in (
        "cat $5 <i>\n",
        'What “"cat" <b>” rests on',
        "8.125",
        "generic",
        "normalize=True, cam='<lrp>'",
        "from 0: 0 … 0.4; values: 0.01 … 0.4",
        "special tokens (dashed) hold 0.0 % of the relevance",
        "image · min–max: 0 … 1",
        "the top 50 of 100",
        "text ← text",
        "row 0",
        "note: a <note>",
        "<script>alert('x')</script>",
    ):
        assert words in text


def _picture(html: str) -> Image.Image:
    return pictures(html)[0]


def test_the_picture_is_the_overlay_or_the_grid(make_explanation, photo):
    explanation = make_explanation(patches(2, 3, {(0, 0): 1.0}))
    assert _picture(explanation_page(explanation, 0, photo)).size == photo.size
    width, height = _picture(explanation_page(explanation)).size
    assert width / height == pytest.approx(3 / 2)


def test_bars_are_sorted_and_as_long_as_their_share(make_explanation):
    html = explanation_page(make_explanation(segment([1.0, 3.0, 2.0], name="boxes", kind="boxes")))
    assert re.findall(r"width:([\d.]+)%", html.split("<dl>")[1]) == ["100.0", "66.7", "33.3"]


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), -2.0])
def test_values_with_nothing_to_show(make_explanation, value):
    kinds = ("text", "boxes", "audio", "tokens")
    segments = [segment([value] * 3, name=kind, kind=kind) for kind in kinds]
    page = _Page(explanation_page(make_explanation(*segments, patches(2, 2, {}, rest=value))))
    assert all(kind in page.text for kind in kinds)


def test_no_classes(make_explanation):
    page = explanation_page(make_explanation(segment([1.0]), prediction=None, prediction_labels=None))
    assert "no classes" in page


@pytest.mark.parametrize("labels", [None, ("LABEL_3",)])
def test_classes_without_names(make_explanation, labels):
    page = explanation_page(make_explanation(segment([1.0]), prediction_labels=labels))
    assert '<dt>prediction</dt><dd dir="auto">class 3</dd>' in page


def test_fragment_is_one_element_that_a_notebook_shows(all_kinds):
    fragment = explanation_fragment(all_kinds, 0)
    assert fragment == all_kinds._repr_html_()
    assert fragment.startswith('<div class="heedmap">')
    assert explanation_fragment(all_kinds, 0, level=1) in all_kinds.to_html()
    _Page(fragment)


def test_comparison_shows_both(make_explanation):
    pair = [make_explanation(segment([1.0], labels=((word,),))) for word in ("first", "second")]
    text = _Page(comparison_page(*pair)).text
    assert text.index("first") < text.index("second")


def test_no_such_sample(all_kinds):
    with pytest.raises(InputError, match="sample -2"):
        explanation_page(all_kinds, -2)


def test_explanations_of_one_method_share_their_scale(make_explanation):
    first, second = (make_explanation(segment([v], labels=(("a",),))) for v in (1.0, 4.0))
    html = comparison_page(first, second)
    assert html.count("from 0: 0 … 4, shared by the maps on this page") == 2
    assert "values: 1<" in html
    assert "All maps of one part of the input share one scale" in html


def test_patches_share_their_scale_too(make_explanation, photo):
    low, high = (make_explanation(patches(1, 2, {(0, 1): top}, rest=0.5)) for top in (1.0, 4.5))
    html = comparison_page(low, high)
    assert html.count("min–max: 0.5 … 4.5, shared by the maps on this page") == 2
    first, second = (np.asarray(one).astype(int) for one in pictures(html))
    assert (first[0, 0] == second[0, 0]).all()
    assert first[0, -1].sum() > second[0, -1].sum()
    alone = np.asarray(_picture(explanation_page(low)))
    assert (alone[0, -1] == second[0, -1]).all()
    first, second = (np.asarray(one).astype(int) for one in pictures(html, "dark"))
    assert first[0, -1].sum() < second[0, -1].sum()
    ground = np.asarray(muted(photo, MUTE, THEMES["light"])).astype(int)
    laid = [np.asarray(one).astype(int) for one in pictures(comparison_page(low, high, image=photo))]
    assert np.abs(laid[0] - ground).max() < np.abs(laid[1] - ground).max()


def test_maps_of_two_methods_are_shares_on_one_scale(make_explanation):
    first = make_explanation(segment([1.0, 3.0], labels=(("a", "b"),)), patches(1, 2, {(0, 1): 2.0}))
    other = make_explanation(
        segment([200.0, 200.0], labels=(("a", "b"),)), patches(1, 2, {}, rest=7.0), method="rollout"
    )
    html = comparison_page(first, other)
    assert "each map is divided by the sum of its absolute values" in html
    assert html.count("from 0: 0 … 0.75, shared by the maps on this page") == 2
    assert "values: 0.25 … 0.75" in html
    assert "values: 0.5<" in html
    assert html.count("min–max: 0 … 1, shared by the maps on this page") == 2
    for was in ('<dt>text was</dt><dd dir="auto">1 … 3', '<dt>text was</dt><dd dir="auto">200<', "<dt>image was</dt>"):
        assert was in html


def test_a_map_with_negative_patches_has_the_colours_and_the_scale_of_one(make_explanation):
    html = explanation_page(make_explanation(patches(1, 2, {(0, 0): -1.0, (0, 1): 0.5})))
    assert "image · around 0: ±1; values: -1 … 0.5" in html
    assert '<span class="key" aria-hidden="true">-1 <' in html
    assert "∅" not in html
    red, _, blue = _picture(html).getpixel((0, 0))
    assert blue > red


def test_the_page_can_be_read_without_eyes(all_kinds, photo):
    page = _Page(explanation_page(all_kinds, 0, photo))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("main") == tags.count("h1") == 1
    levels = [int(tag[1]) for tag in tags if tag in ("h1", "h2", "h3")]
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    assert all("most relevant" in attributes["alt"] for tag, attributes in page.tags if tag == "img")
    assert all(attributes["aria-label"] for tag, attributes in page.tags if tag == "svg")


def test_the_page_has_the_card_and_where_it_comes_from(make_explanation):
    origin = {"model": "some/<model>", "class": "BertModel", "torch": "2.9"}
    top = Top((("cat", "dog"),), torch.tensor([[0.75, 0.25]]), torch.tensor([0.75]), "softmax")
    text = _Page(explanation_page(make_explanation(segment([1.0]), origin=origin, top=top))).text
    for words in (
        "some/<model> · BertModel",
        "torch 2.9",
        "(75.0 %)",
        "25.0 %",
        "Method card: generic",
        "2103.15679",
    ):
        assert words in text


def test_what_has_no_relevance_is_folded_away_and_bars_of_boxes_have_the_colours_of_words(make_explanation):
    decoder = segment([0.0, 0.0], name="decoder", labels=(("<s>", "a"),))
    boxes = segment([0.5, 1.0], name="boxes", kind="boxes", labels=(("cat", "dog"),))
    html = explanation_page(make_explanation(segment([0.1, 0.4]), decoder, boxes))
    assert '<details class="folded"><summary>decoder · no relevance</summary>' in html
    assert "<figcaption>decoder" not in html
    used = scale_of([0.5, 1.0])
    assert [f'class="bar {used.css_class(value)}"' in html for value in (0.5, 1.0)] == [True, True]


def test_a_colour_bar_shows_what_the_map_on_a_picture_shows(make_explanation, photo):
    used = scale_of([0.0, 1.0])
    for theme in THEMES.values():
        grey = Image.new("RGB", (20, 10), (128, 128, 128))
        shown = muted(grey, MUTE, theme).getpixel((0, 0))
        seen, opaque = used.seen(theme, alpha=ALPHA), used.colours(theme)[-1].astype(float)
        assert seen[0].tolist() == list(shown), "what does not matter is transparent"
        assert np.abs(seen[-1] - (shown[0] + ALPHA * (opaque - shown[0]))).max() <= 1
        assert (
            np.abs(used.seen(theme, alpha=0.5, even=True)[0] - (used.colours(theme)[0] / 2.0 + shown[0] / 2)).max() <= 2
        )
        assert np.abs(scale_of([-1.0, 1.0]).seen(theme, alpha=ALPHA)[127:129].astype(int) - shown[0]).max() <= 4
    made = make_explanation(patches(1, 2, {(0, 1): 1.0}))
    assert used.ramp(patches=True, alpha=ALPHA) in explanation_page(made, 0, photo)
    assert used.ramp(patches=True) in explanation_page(made)
    (bar,) = made.plot(image=photo).findobj(QuadMesh)
    assert np.round(255 * bar.cmap(0.0)[0]) == muted(grey, MUTE, THEMES["light"]).getpixel((0, 0))[0]


def test_whole_maps_lie_on_a_picture_of_the_original():
    subject, photo = heedmap.load("zoo/vit-shapes"), heedmap.zoo_sample("vit-shapes").picture
    whole = subject.explain(image=photo, full=True)
    on_original = explanation_page(whole, 0, subject.picture(photo))
    assert on_original == explanation_page(whole, 0, subject.shown_image(photo))  # of which the model saw all
    assert on_original.count("base64,iVBOR") > explanation_page(whole).count("base64,iVBOR")
