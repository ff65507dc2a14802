import random
import re
import time
from html.parser import HTMLParser

import pytest
from hand_made import segment

from heedmap.render.page import explanation_page
from heedmap.render.scale import joined, scale_of
from heedmap.render.views import view
from heedmap.render.words import FOLDED_FROM, passages, words

HOSTILE = (
    "<script>alert(1)</script>",
    "</style>",
    "</span><img src=x onerror=y>",
    '" onmouseover="x',
    "'",
    "&amp;",
    "a\u202eb",
    "nul\0",
    "👩\u200d👧",
    "x" * 5000,
    "\ud800",
    "",
)


def word_map(given, index=0, shared=None):
    """A text in a report, without its caption."""
    return view(given).body(given, index, shared or view(given).scale(given, index))


class _Seen(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.text, self.tags, self.titles = "", [], []
        self.feed(str(html))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.titles += [dict(attrs)["title"]] if "title" in dict(attrs) else []

    def handle_data(self, data):
        self.text += data


def _long(count: int, hot: int | None = None):
    labels = tuple("word" if i % 15 else "end." for i in range(count))
    values = [0.001 * (i % 7) for i in range(count)]
    if hot is not None:
        values[hot] = 5.0
    return segment(values, labels=(labels,), boundaries=("w" * count,))


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_tokens_are_text(label):
    page = _Seen(word_map(segment([0.1, 0.2, 0.3], labels=(("un", label, "able"),), boundaries=("w++",))))
    assert {tag for tag, _ in page.tags} <= {
        *("label", "input", "div", "span", "p", "details", "summary", "table", "thead", "tbody", "tr", "th", "td")
    }
    assert {name for _, attrs in page.tags for name in attrs} <= {
        *("class", "type", "dir", "title", "style", "scope", "aria-hidden")
    }
    assert not re.search(r"[\u0000-\u0008\u202a-\u202e\ud800-\udfff]", page.text)
    if label.isascii() and label.isprintable() and label:
        assert label in page.text


def test_a_word_shows_its_sum_and_on_hover_its_tokens():
    page = _Seen(word_map(segment([0.1, 0.25, 0.3], labels=(("un", "able", "cat"),), boundaries=("w+w",))))
    assert "unable cat" in page.text
    assert page.titles == ["0.35 = un 0.1 + able 0.25", "0.3"]
    assert "a word’s relevance is the sum of its tokens’" in page.text


def test_a_word_of_one_token_does_not_speak_of_sums():
    html = word_map(segment([0.1, 0.3], labels=(("a", "cat"),), boundaries=("ww",)))
    assert "sum of" not in html
    assert "each token" not in html


def test_special_tokens_are_dimmed_and_their_part_is_told():
    html = word_map(segment([3.0, 1.0], labels=(("[CLS]", "cat"),), boundaries=("sw",)))
    assert '<bdi class="special" title="3">[CLS]</bdi>' in html
    assert "hold 75.0 % of the relevance" in html
    assert "from 0: 0 … 1; values: 1" in html


def test_words_of_right_to_left_scripts_are_whole_and_set_the_direction():
    html = word_map(segment([0, 1.0, 2.0, 1.0], labels=(("[CLS]", "الس", "لام", "يا"),), boundaries=("sw+w",)))
    assert '<div class="heat" dir="auto"><bdi' in html
    assert _Seen(html).text.count("السلام") >= 1


def test_negative_relevance_has_its_own_colours():
    html = word_map(segment([-1.0, 1.0], labels=(("no", "yes"),), boundaries=("ww",)))
    assert 'class="n40" title="-1"' in html
    assert 'class="s40" title="1"' in html


def test_two_maps_on_one_scale():
    first, second = (segment([v], labels=(("a",),), boundaries=("w",)) for v in (1.0, 4.0))
    both = joined([scale_of([1.0]), scale_of([4.0])])
    assert 'class="s10"' in word_map(first, 0, both)
    assert 'class="s40"' in word_map(second, 0, both)
    assert "shared by the maps on this page; values: 1<" in word_map(first, 0, both)


def test_a_short_text_is_whole():
    assert [(p.start, p.end, p.shown) for p in passages(words(_long(FOLDED_FROM)))] == [(0, FOLDED_FROM, True)]


def test_a_long_text_folds_to_what_matters_and_loses_nothing():
    found = words(_long(2000, hot=1234))
    cut = passages(found)
    assert [p.start for p in cut] == [0, *(p.end for p in cut[:-1])]
    assert cut[-1].end == len(found)
    assert any(p.shown and p.start <= 1234 < p.end for p in cut)
    assert sum(p.end - p.start for p in cut if p.shown) < 400
    assert sum(p.share for p in cut) == pytest.approx(1)
    html = word_map(_long(2000, hot=1234))
    assert html.count("<details") == html.count('<details class="fold">') + 1
    assert len(re.findall("word|end", _Seen(html).text.split("colour:")[0])) >= 2000


def test_eight_thousand_tokens_are_quick_and_small(make_explanation):
    random.seed(0)
    pieces = ("the", "attention", "un", "able", ".", "relevance")
    labels = tuple(random.choice(pieces) for _ in range(8000))
    boundaries = "".join("+" if label in ("able", ".") else "w" for label in labels)
    explanation = make_explanation(
        segment([random.random() for _ in labels], labels=(labels,), boundaries=(boundaries,))
    )
    explanation_page(make_explanation(segment([1.0])))
    start = time.perf_counter()
    html = explanation_page(explanation)
    assert time.perf_counter() - start < 3  # 0.4 s alone on two cores; tests run beside each other
    assert len(html.encode()) < 1_000_000
