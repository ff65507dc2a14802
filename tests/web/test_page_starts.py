"""Explaining from a token, a patch or a box of the map; by which method, with which options; texts of their kinds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import heedmap
from heedmap.errors import InputError, OptionError, UnknownNameError
from heedmap.methods import METHODS
from heedmap.render.files import to_data
from heedmap.render.naming import headline
from heedmap.web import parts
from heedmap.web.form_inputs import FormValues, offered, sample
from heedmap.web.handlers import Exchange, Handlers
from heedmap.web.method_options import MOST_TOKENS, Start, Way, options_label, start, way
from heedmap.web.models import Models
from heedmap.web.uploads import Limits
from models import builders

TEXT = "dog red ; cat blue ; sun green ? cat"
GENERIC = Way("generic", {})


def asked(handlers: Handlers, model: str, folder: Path) -> Exchange:
    """A model's first sample."""
    number = next(iter(offered(model)))
    given, path = sample(model, number), None
    if given.picture is not None:
        path = str(folder / "sample.png")
        given.picture.save(path)
    return handlers.predict(model, FormValues(given.text, image=path, number=number))


# -- from a token -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["generic", "rollout"])
def test_from_a_token_is_its_row_of_the_whole_map(method: str, handlers: Handlers) -> None:
    found = handlers.predict("zoo/gpt-lists", FormValues(TEXT))
    (one,) = handlers.explain(found, 0, [Way(method, {})], Start("text", (4,))).explanations
    whole = heedmap.load("zoo/gpt-lists").explain(text=TEXT, target="blue", method=method, full=True)
    row = whole.maps["text", "text"][0, 4].clone()
    row[4] = 0.0  # a token's share of itself is left out
    assert torch.equal(one["text"][0], row)
    assert float(row.abs().sum()) > 0
    assert one.target[0].endswith("by way of “blue” of text")
    assert re.fullmatch(r".+ \([\d.<> ]+ %\).*, by way of “blue” of text", headline(one, 0))
    assert not one.maps


def test_from_a_word_is_the_sum_of_its_tokens(handlers: Handlers) -> None:
    found = handlers.predict("zoo/bart-dates", FormValues("31.10.1924"))
    several, *single = (
        handlers.explain(found, 0, [GENERIC], Start("text", tokens)).explanations[0]["text"][0]
        for tokens in ((3, 4), (3,), (4,))
    )
    others = [i for i in range(len(several)) if i not in (3, 4)]
    assert torch.allclose(several[others], (single[0] + single[1])[others])


@pytest.mark.parametrize(
    ("model", "begin", "segments"),
    [
        ("zoo/vit-shapes", "image:17", {"image"}),
        ("zoo/detr-shapes", "queries:3", {"image", "queries"}),
        ("zoo/detr-shapes", "image:3", {"image"}),
        ("zoo/lxmert-shapes", "boxes:0", {"text", "boxes"}),
        ("zoo/visualbert-shapes", "text:2", {"text", "boxes"}),
        ("zoo/clip-shapes", "text:2", {"text"}),
        ("zoo/bart-dates", "decoder:2,3", {"text", "decoder"}),
    ],
)
def test_each_kind_of_token_can_be_started_from(
    model: str, begin: str, segments: set[str], tmp_path: Path, handlers: Handlers
) -> None:
    found = asked(handlers, model, tmp_path)
    last = len(found.predictions) - 1 if model == "zoo/bart-dates" else 0  # which rests on what was said before
    result = handlers.explain(found, last, [GENERIC], start(begin))
    (one,) = result.explanations
    assert set(one.segments) == segments
    assert sum(float(s.relevance.abs().sum()) for s in one.segments.values()) > 0
    html = result.html()
    assert "by way of" in html
    assert 'data-start=""' in html  # the way back
    assert all(f'data-start="{name}:' in html for name in segments)
    assert json.loads(result.file(".json"))["target"] == [one.target[0]]
    assert result.file(".png").startswith(b"\x89PNG")


def test_two_methods_are_compared_from_a_token(handlers: Handlers) -> None:
    found = handlers.predict("zoo/gpt-lists", FormValues(TEXT))
    result = handlers.explain(found, 0, [GENERIC, Way("rollout", {})], Start("text", (4,)))
    assert [one.method for one in result.explanations] == ["generic", "rollout"]
    assert all("by way of" in one.target[0] for one in result.explanations)


@pytest.mark.parametrize(
    ("begin", "error", "words"),
    [
        ("text:99", InputError, "no token 99"),
        ("words:1", UnknownNameError, "no segment 'words'"),
        ("text", InputError, "no token of the map"),
        ("text:-1", InputError, "no token of the map"),
        ("text:1;2", InputError, "no token of the map"),
        ("text:" + "1," * 100 + "1", InputError, "no token of the map"),
        ("text:٣", InputError, "no token of the map"),
        ("<b>:1", InputError, "no token of the map"),
    ],
)
def test_what_is_no_token_is_told(begin: str, error: type[Exception], words: str, handlers: Handlers) -> None:
    found = handlers.predict("zoo/gpt-lists", FormValues(TEXT))
    with pytest.raises(error, match=words):
        handlers.explain(found, 0, [GENERIC], start(begin))


def test_methods_without_a_whole_map_say_which_have_one(handlers: Handlers) -> None:
    found = handlers.predict("zoo/gpt-lists", FormValues(TEXT))
    with pytest.raises(OptionError, match=r"input_x_gradient does not tell .* generic, raw_attention"):
        handlers.explain(found, 0, [Way("input_x_gradient", {})], Start("text", (1,)))
    assert "data-start" not in handlers.explain(found, 0, [Way("input_x_gradient", {})]).html()


def test_maps_that_would_be_too_large_are_not_made(handlers: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    found = handlers.predict("zoo/gpt-lists", FormValues(TEXT))
    assert MOST_TOKENS >= 1024
    monkeypatch.setattr("heedmap.web.method_options.MOST_TOKENS", 5)
    with pytest.raises(InputError, match="too long to explain from a token"):
        handlers.explain(found, 0, [GENERIC], Start("text", (1,)))
    assert "data-start" not in handlers.explain(found, 0, [GENERIC]).html()


# -- what can be clicked ----------------------------------------------------------------------------------------------


def test_each_word_and_patch_of_the_map_is_a_button(tmp_path: Path, handlers: Handlers) -> None:
    found = handlers.predict("zoo/gpt-lists", FormValues(TEXT))
    result = handlers.explain(found, 0, [GENERIC])
    starts = re.findall(r'data-start="text:(\d+)"', result.html())
    assert list(map(int, starts)) == list(range(result.explanations[0]["text"].shape[1]))
    assert (
        result.html().count('tabindex="0" data-start') == 1
    )  # the tab key goes to one of them, the arrow keys to the others
    picture = handlers.explain(asked(handlers, "zoo/vit-shapes", tmp_path), 0, [GENERIC]).html()
    assert re.findall(r'data-start="image:(\d+)"', picture) == [str(i) for i in range(144)]
    assert 'aria-label="row 12, column 12: ' in picture
    assert "data-start" not in handlers.explain(found, 0, [GENERIC, GENERIC]).html()


def test_found_objects_are_buttons_where_they_are(tmp_path: Path, handlers: Handlers) -> None:
    found = asked(handlers, "zoo/detr-shapes", tmp_path)
    html = str(parts.objects(found.picture, found.predictions.answers, 0))
    frames = re.findall(r'<i [^>]*style="([^"]*)"></i>', html)
    for number, (choice, place) in enumerate(zip(found.predictions, frames, strict=True)):
        (button,) = re.findall(rf'<b ([^>]*data-choice="{number}"[^>]*)>', html)
        places = dict(re.findall(r"(left|top|width|height):([\d.]+)%", place))
        assert choice.box is not None
        assert float(places["left"]) == pytest.approx(100 * choice.box[0], abs=0.1)
        assert float(places["width"]) == pytest.approx(100 * (choice.box[2] - choice.box[0]), abs=0.1)
        assert choice.label in button
        assert ('aria-pressed="true"' in button) == (number == 0)
    assert html in handlers.explain(found, 0, [GENERIC]).html()  # they lie on the map


def test_said_tokens_are_buttons_in_their_order(handlers: Handlers) -> None:
    asked = handlers.predict("zoo/bart-dates", FormValues("31.10.1924"))
    html = parts.answer(asked.predictions.answers)
    assert "".join(re.findall(r">([^<>]+)</span>", html)) == "1924-10-31"
    asked = handlers.predict("zoo/gpt-lists", FormValues(TEXT))
    html = parts.answer(asked.predictions.answers)
    assert re.findall(r'data-choice="(\d+)"', html)[0] == "0"
    assert "blue" in html


# -- options ----------------------------------------------------------------------------------------------------------


def test_options_are_those_of_the_command_line(handlers: Handlers) -> None:
    found = handlers.predict("zoo/gpt-lists", FormValues(TEXT))
    (one,) = handlers.explain(
        found, 0, [way("generic", "start_layer=1\n normalize=false", handlers.limits)]
    ).explanations
    direct = heedmap.load("zoo/gpt-lists").explain(text=TEXT, target="blue", start_layer=1, normalize=False)
    assert to_data(one) == to_data(direct)
    assert way("generic", "", Limits()) == way("generic", None, Limits()) == GENERIC


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("generic", "start_layer", "is not KEY=VALUE"),
        ("generic", "depth=3", "has no option 'depth'; it has normalize=True"),
        ("generic", "normalize=3", "expected True or False"),
        ("generic", "cam=none", "expected one of 'gradient', 'lrp'"),
        ("generic", "start_layer=1 start_layer=2", "given twice"),
        ("generic", "target=cat", "no option of a method"),
        ("generic", "probe=false", "has no option 'probe'"),
        ("generic", "memory_budget=1", "has no option 'memory_budget'"),
        ("generic", "full=true", "has no option 'full'"),
        ("smoothgrad", "samples=1001", "numbers go up to 1,000"),
        ("smoothgrad", "noise=1e999", "numbers go up to 1,000"),
        ("integrated_gradients", f"steps={'9' * 300}", "numbers go up to 1,000"),
        ("smoothgrad", "seed=" + "1" * 600, "the page takes up to 500"),
    ],
)
def test_options_that_cannot_be_are_told(method: str, options: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        way(method, options, Limits())


@pytest.mark.parametrize("options", ["noise=NaN", "samples=true", "samples=[1]", "samples=0", "noise=-1"])
def test_values_that_the_method_refuses_are_told(options: str, handlers: Handlers) -> None:
    found = handlers.predict("zoo/gpt-lists", FormValues(TEXT))
    with pytest.raises(OptionError, match="expected a"):
        handlers.explain(found, 0, [way("smoothgrad", options, handlers.limits)])


@pytest.mark.parametrize("method", METHODS)
def test_the_label_of_the_options_names_each_as_it_is_written(method: str) -> None:
    label = options_label(method)
    written = re.findall(r"(\w+=[^ ]+)", label)
    settings: dict[str, Any] = dict(way(method, " ".join(written), Limits()).options)
    assert settings == dict(METHODS[method].options)


# -- texts ------------------------------------------------------------------------------------------------------------


def test_a_pair_of_texts_is_asked(tmp_path: Path) -> None:
    builders.bert(tmp_path)
    handlers = Handlers(Models([str(tmp_path)]))
    takes = handlers.takes(str(tmp_path))
    assert (takes.roles, takes.pair, takes.said) == (("text",), True, False)
    found = handlers.predict(str(tmp_path), FormValues("the cat sat", second="the dog"))
    (explanation,) = handlers.explain(found, 0, [GENERIC]).explanations
    labels = explanation.segments["text"].labels
    assert labels is not None
    assert labels[0] == ("[CLS]", "the", "cat", "sat", "[SEP]", "the", "dog", "[SEP]")
    with pytest.raises(InputError, match="a second text and no first"):
        handlers.predict(str(tmp_path), FormValues(None, second="the dog"))


def test_what_a_model_should_have_said_is_explained(handlers: Handlers) -> None:
    own = handlers.predict("zoo/bart-dates", FormValues("31.10.1924"))
    other = handlers.predict("zoo/bart-dates", FormValues("31.10.1924", said="1925"))
    assert "".join(choice.token for choice in own.predictions) == "1924-10-31"
    choices = other.predictions
    assert [choice.token for choice in choices] == ["1", "9", "2", "5"]
    assert choices[3].probability is not None
    assert choices[3].probability < 0.1
    (explanation,) = handlers.explain(other, 3, [GENERIC]).explanations
    assert explanation.top is not None
    assert float(explanation.top.target[0]) == pytest.approx(choices[3].probability, abs=1e-5)
    with pytest.raises(InputError, match="its decoder takes"):
        handlers.predict("zoo/bart-dates", FormValues("31.10.1924", said="1" * 200))


def test_a_text_of_as_many_letters_as_are_allowed() -> None:
    assert Limits().text("a" * 10_000) == "a" * 10_000
    assert Limits().text("") is None
