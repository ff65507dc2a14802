import re
from html.parser import HTMLParser

import torch
from hand_made import HOSTILE, segment
from rich.console import Console

from heedmap.render.scale import tint
from heedmap.render.words import text_heat, text_html


class _Tokens(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(str(html))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][1].get("class") == "token" and data != " ":
            self.words.append(data)


def test_every_label_is_escaped_and_comes_back():
    html = text_html(segment([0.1 * i for i in range(9)], labels=(HOSTILE,)))
    assert "<script" not in html
    assert "\0" not in html
    assert "\x1b" not in html
    page = _Tokens(html)
    assert {tag for tag, _ in page.tags} == {"p", "span", "bdi"}
    assert page.words == ["[CLS]", HOSTILE[1], HOSTILE[2], "a␀b␛[31m", "السلام", "$x_2$", "∅", "␣", "\ufffd"]


def test_quotes_do_not_leave_the_tooltip():
    (_, (_, attributes)) = _Tokens(text_html(segment([0.5], labels=(('" onclick="x',),)))).tags
    assert set(attributes) == {"class", "style", "title"}
    assert attributes["title"] == '" onclick="x: 0.5'


def test_direction_comes_from_the_first_word_not_from_special_tokens():
    tags = _Tokens(text_html(segment([0.0, 1.0, 0.0], labels=(("[CLS]", "السلام", "</s>"),)))).tags
    assert tags[0] == ("p", {"class": "heat", "dir": "auto"})
    assert [tag for tag, _ in tags[1:]] == ["bdi", "span", "bdi"]


def test_the_hottest_token_has_the_darkest_ground():
    html = text_html(segment([0.0, 1.0], labels=(("cold", "hot"),)))
    grounds = re.findall(r"background:light-dark\((#\w+),", html)
    assert grounds == ["#ffffff", tint(1.0)[0]]


def test_padding_is_left_out_and_counted():
    padded = segment([1.0, 2.0, 0.0], labels=(("a", "b", "[PAD]"),), positions=torch.tensor([[0, 1, -1]]))
    assert "[PAD]" not in text_html(padded)
    assert "+ 1 that" in text_html(padded)
    assert " ".join(chip.plain for chip in text_heat(padded).chips) == " a   b  (+ 1 that the model did not take in)"


def test_terminal_text_carries_its_values_where_there_is_no_colour():
    heat = text_heat(segment([0.25, 0.5], labels=(("cat", "sat"),)), numbers=True)
    assert [chip.plain for chip in heat.chips] == ["cat(0.25)", "sat(0.5)"]


def test_user_text_cannot_steer_the_terminal():
    console = Console(force_terminal=True, color_system="truecolor", width=80)
    with console.capture() as capture:
        console.print(text_heat(segment([1.0], labels=(("\x1b]0;title\x07[red]",),))))
    assert "␛]0;title␇[red]" in capture.get()
    assert "\x07" not in capture.get()
