"""Titles as people say them, and what a reader is warned of."""

import io
from dataclasses import replace
from html import unescape

import pytest
import torch
from hand_made import patches, segment
from rich.console import Console

from heedmap.common.printable import counted, visible, without_folders
from heedmap.data.explanation import UNKNOWN_WORD
from heedmap.data.flow import Flow
from heedmap.data.segments import Top
from heedmap.render import files
from heedmap.render.cautions import cautions
from heedmap.render.figure import side_by_side
from heedmap.render.naming import called, headline
from heedmap.render.page import explanation_fragment, explanation_page, prediction_words
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
        ("'A', token 0 of the answer", "A (99.0 %), token 1 of the answer"),
        ("' b' rather than ' c', token 4 of the answer", "b rather than c (99.0 %), token 5 of the answer"),
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


def test_one_thing_is_no_plural():
    assert [counted(n, "model") for n in (0, 1, 2, 1500)] == ["0 models", "1 model", "2 models", "1,500 models"]


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


UNKNOWN = f"1 token of the text is <unk>: {UNKNOWN_WORD}, and cannot tell it from other unknown words"


@pytest.mark.parametrize(
    ("values", "changes", "told"),
    [
        ([9.0, 0.1, 0.2, 0.3], {}, "attention sink"),
        ([0.111, 0.112, 0.1115, 0.1111], {}, "nearly the same relevance, 0.111 … 0.112"),
        ([0.1, 0.5, 0.2, 0.3], {"top": _top(0.01)}, "a probability of 1.0"),
        ([0.1, 0.5, 0.2, 0.3], {"flow": Flow((), (), (UNKNOWN,))}, UNKNOWN),
    ],
    ids=["sink", "flat", "improbable", "unknown"],
)
def test_each_warning_reaches_terminal_figure_pages_and_side_by_side(make_explanation, values, changes, told):
    made = make_explanation(segment(values, labels=(("a", "b", "c", "d"),)), **changes)
    console = Console(file=io.StringIO(), width=1000)
    console.print(terminal(made, colours=False))
    folded = explanation_fragment(made, folded=True)
    pages = [explanation_page(made), folded[: folded.index("<summary>Prediction")]]
    shown = [" ".join(figure.get_supxlabel().split()) for figure in (made.plot(),)]
    both = side_by_side({"one": made, "two": made})
    shown.append(" ".join(" ".join(text.get_text() for text in both.texts).split()))
    for text in (console.file.getvalue(), *(unescape(page) for page in pages), *shown):
        assert "mind" in text
        assert told in text
    assert made.plot(title=False).get_supxlabel() == ""


@pytest.mark.parametrize(("kind", "called_"), [("image", "patches of image"), ("boxes", "boxes of boxes")])
def test_flat_maps_of_pictures_are_told_too(make_explanation, kind, called_):
    flat = (
        patches(2, 2, {(0, 0): 1.01}, rest=1.0) if kind == "image" else segment([1.0, 1.01, 1, 1], name=kind, kind=kind)
    )
    assert [words.partition(" have")[0] for words in cautions(make_explanation(flat))] == [f"all {called_}"]


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
