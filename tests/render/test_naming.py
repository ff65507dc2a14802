"""Titles as people say them, and what a reader is warned of."""

import io
from dataclasses import replace

import pytest
import torch
from hand_made import patches, segment
from rich.console import Console

from heedmap.explanation_data import Top
from heedmap.printable import visible, without_folders
from heedmap.render import files
from heedmap.render.cautions import cautions
from heedmap.render.naming import called, headline
from heedmap.render.page import explanation_page, prediction_words
from heedmap.render.scale import chip_colours
from heedmap.render.terminal import terminal
from heedmap.render.words import text_heat


def _top(probability: float) -> Top:
    return Top((("cat",),), torch.tensor([[0.9]]), torch.tensor([probability]), "softmax")


@pytest.mark.parametrize(
    ("target", "title"),
    [
        ("class 3 (tabby cat)", "tabby cat (99.0 %)"),
        ("class 3", "class 3"),
        ("query 8, class 5 (star)", "star (99.0 %), object query 8"),
        ("token 34 (' Paris') after position 2", "Paris (99.0 %), the next word"),
        ("token 34 ('\\n') after position 1", "⏎ (99.0 %), the word after position 1"),
        ("class 14 (pink) rather than class 7 (red)", "pink (99.0 %) rather than red"),
        ("class 14 (pink) rather than class 7", "pink (99.0 %) rather than class 7"),
        ("class 3 (cat (tabby))", "cat (tabby) (99.0 %)"),
        ("query 8, class 5 (heart) rather than class 6 (ring)", "heart (99.0 %) rather than ring, object query 8"),
        (
            "query 8, class 5 (heart) rather than query 3, class 6 (ring)",
            "heart (99.0 %), object query 8, rather than ring, object query 3",
        ),
        (
            "token 34 (' Paris') after position 2 rather than token 35 (' London')",
            "Paris (99.0 %) rather than London, the next word",
        ),
        ("class 19 (cross), by way of “yellow” of text", "cross (99.0 %), by way of “yellow” of text"),
        ("token 5 (')') after position 2", ") (99.0 %), the next word"),
        ("similarity of image 0 and text 0", "the similarity of picture and text"),
    ],
)
def test_a_title_is_what_people_say(make_explanation, target, title):
    made = make_explanation(segment([0.1, 0.2, 0.3]), target=(target,), top=_top(0.99))
    assert headline(made, 0) == title
    assert title in explanation_page(made)


def test_a_token_is_no_class(make_explanation):
    made = make_explanation(segment([0.1]), target=("token 5 (' dog') after position 0",), prediction_labels=(" dog",))
    assert prediction_words(made, 0) == "dog"


def test_a_page_tells_no_path_of_the_machine():
    assert without_folders("/home/me/.cache/models/rxnfp") == "rxnfp"
    assert without_folders("google/vit-base") == "google/vit-base"


def test_white_space_has_signs_that_fonts_have():
    assert visible("a\n\tb") == "a⏎⇥b"


@pytest.mark.parametrize(
    ("values", "probability", "told"),
    [
        ([9.0, 0.1, 0.2, 0.3], 0.9, "attention sink"),
        ([0.111, 0.112, 0.1115, 0.1111], 0.9, "nearly the same relevance, 0.111 … 0.112"),
        ([0.1, 0.5, 0.2, 0.3], 0.01, "a probability of 1.0 %"),
        ([0.1, 0.5, 0.2, 0.3], 0.9, ""),
    ],
)
def test_what_a_reader_is_warned_of(make_explanation, values, probability, told):
    text = segment(values, labels=(("a", "b", "c", "d"),))
    found = cautions(make_explanation(text, patches(1, 4, {}), top=_top(probability)))
    assert len(found) == bool(told)
    assert all(told in words for words in found)


def test_words_in_a_terminal_are_not_torn_from_their_grounds():
    console = Console(width=12, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(text_heat(segment([0.5, 1.0, 0.7], labels=(("cat", "sat", "here"),))))
    lines = capture.get().split("\n")
    assert [line.count("\x1b[0m") for line in lines if line] == [2, 1]


def test_what_matters_more_is_more_colourful_and_never_brighter_than_a_dark_terminal_bears():
    assert chip_colours(0.0) is None
    grounds = [chip_colours(share)[0] for share in (0.1, 0.4, 0.7, 1.0)]
    channels = [[int(ground[i : i + 2], 16) for i in (1, 3, 5)] for ground in grounds]
    colourful = [max(rgb) - min(rgb) for rgb in channels]
    assert colourful == sorted(colourful)
    assert all(60 < sum(rgb) / 3 < 140 for rgb in channels)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("image", "image"),
        ("image2", "image 2"),
        ("image_encoder", "image encoder"),
        ("image_encoder2", "image encoder 2"),
        ("pixel_values_2", "pixel_values_2"),
    ],
)
def test_a_segment_is_called_as_people_write_it(make_explanation, name, told):
    assert called(name) == told
    part = replace(patches(2, 2, {(0, 0): 1.0}), name=name)
    explanation = make_explanation(part)
    assert f"<figcaption>{told} ·" in files.page(explanation)
    assert any(axes.get_title().startswith(f"{told} ·") for axes in files.figure(explanation).axes)
    console = Console(file=io.StringIO(), width=200)
    console.print(terminal(explanation, colours=False))
    assert f"{told} ·" in console.file.getvalue()
