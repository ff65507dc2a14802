"""What the page does, without a server and without Gradio."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import heedmap
from heedmap.common.extras import library
from heedmap.errors import (
    FileFormatError,
    InputError,
    MissingLibraryError,
    ModelLoadError,
    TimeLimitError,
    UnknownNameError,
)
from heedmap.render.files import to_json
from heedmap.web.form_inputs import FormValues, offered, sample
from heedmap.web.handlers import UNEXPECTED, Exchange, Handlers, attempt
from heedmap.web.method_options import Way, way
from heedmap.web.models import Models
from heedmap.web.results import TYPES, Result, Results
from heedmap.web.server import Gate

TEXT = "dog red ; cat blue ; sun green ? cat"
GENERIC = Way("generic", {})


@pytest.fixture(scope="module")
def asked(handlers: Handlers, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exchange]:
    """A model's first sample, asked as the page asks it."""

    def ask(model: str) -> Exchange:
        number = next(iter(offered(model)))
        given = sample(model, number)
        path = None
        if given.picture is not None:
            path = str(tmp_path_factory.mktemp("upload") / "sample.png")
            given.picture.save(path)
        return handlers.predict(model, FormValues(text=given.text, image=path, number=number))

    return ask


ZOO = Models().names


def test_the_zoo_comes_first_then_what_was_named() -> None:
    names = Models(["some/model", "zoo/gpt-lists"]).names
    assert names[-1] == "some/model"
    assert all(name.startswith("zoo/") for name in names[:-1])
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("model", ZOO)
def test_each_answer_can_be_explained_and_is_as_probable_as_was_said(
    model: str, handlers: Handlers, asked: Callable[[str], Exchange]
) -> None:
    found = asked(model)
    assert found.predictions
    for number, choice in enumerate(found.predictions):
        (explanation,) = handlers.explain(found, number, [GENERIC]).explanations
        if choice.probability is None:
            assert explanation.top is None
        else:
            assert explanation.top is not None
            assert float(explanation.top.target[0]) == pytest.approx(choice.probability, abs=1e-5)


def test_predictions_are_sorted_and_of_the_models_own_words(asked: Callable[[str], Exchange]) -> None:
    choices = asked("zoo/vit-shapes").predictions
    probabilities = [choice.probability for choice in choices]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {choice.label for choice in choices} <= set(heedmap.load("zoo/vit-shapes").config.id2label.values())


def test_objects_lie_where_they_are(asked: Callable[[str], Exchange]) -> None:
    found = asked("zoo/detr-shapes")
    ring = next(choice for choice in found.predictions if "ring" in choice.label)
    assert ring.box is not None
    left, top, right, bottom = ring.box
    assert (left + right) / 2 < 0.3  # the sample's ring is at the upper left
    assert (top + bottom) / 2 < 0.5


def test_an_explanation_is_that_of_a_direct_call(handlers: Handlers) -> None:
    found = handlers.predict("zoo/gpt-lists", FormValues(TEXT))
    assert found.predictions[0].label == "blue"
    data = json.loads(handlers.explain(found, 0, [Way("rollout", {})]).file(".json"))
    assert data == json.loads(
        to_json(heedmap.load("zoo/gpt-lists").explain(text=TEXT, target="blue", method="rollout"))
    )


def test_boxes_have_their_names_and_the_picture_is_theirs(handlers: Handlers, asked: Callable[[str], Exchange]) -> None:
    result = handlers.explain(asked("zoo/lxmert-shapes"), 0, [GENERIC])
    labels = result.explanations[0].segments["boxes"].labels
    assert labels is not None
    assert any("background" in label for label in labels[0])
    assert result.picture is not None
    assert result.picture.boxes is not None
    assert "the picture of the boxes" in result.html()
    buttons = re.findall(r'<b class="box [sn]\d+"[^>]*data-start="boxes:\d+"[^>]*aria-label="([^"]+): ', result.html())
    assert len(set(buttons)) == len(buttons) == len(labels[0]), "each has a name of its own"


def test_the_text_of_a_sample_with_boxes_can_be_another(handlers: Handlers) -> None:
    number = next(iter(offered("zoo/lxmert-shapes")))
    found = handlers.predict("zoo/lxmert-shapes", FormValues("is there a ring?", number=number))
    (explanation,) = handlers.explain(found, 0, [GENERIC]).explanations
    assert explanation.segments["text"].labels is not None
    assert explanation.segments["text"].labels[0][1:-1] == ("is", "there", "a", "ring", "?")


@pytest.mark.parametrize("ending", TYPES)
def test_files_of_one_and_of_two(ending: str, handlers: Handlers, asked: Callable[[str], Exchange]) -> None:
    found = asked("zoo/detr-shapes")
    one = handlers.explain(found, 0, [GENERIC]).file(ending)
    two = handlers.explain(found, 0, [GENERIC, Way("raw_attention", {})]).file(ending)
    start = {".png": b"\x89PNG", ".html": b"<!DOCTYPE html>", ".json": b"{"}[ending]
    assert one.startswith(start)
    assert two.startswith(b"[" if ending == ".json" else start)
    if ending == ".json":
        assert [each["method"] for each in json.loads(two)] == ["generic", "raw_attention"]


def test_a_method_can_be_compared_with_itself(handlers: Handlers, asked: Callable[[str], Exchange]) -> None:
    assert (
        handlers.explain(asked("zoo/gpt-lists"), 0, [GENERIC, Way("generic", {})]).file(".png").startswith(b"\x89PNG")
    )


def test_there_is_no_other_file(handlers: Handlers, asked: Callable[[str], Exchange]) -> None:
    with pytest.raises(FileFormatError, match="there are"):
        handlers.explain(asked("zoo/gpt-lists"), 0, [GENERIC]).file(".exe")


def test_what_people_wrote_is_escaped(handlers: Handlers, asked: Callable[[str], Exchange]) -> None:
    (one,) = handlers.explain(asked("zoo/gpt-lists"), 0, [GENERIC]).explanations
    count = one["text"].shape[1]
    evil = one.with_labels({"text": (("<script>alert(1)</script>",) * count,)})
    evil = replace(evil, target=("<img src=x onerror=alert(1)>",))
    for html in (Result((evil,)).html(), Result((evil, evil)).html()):
        assert "<script" not in html
        assert "<img src=x" not in html


@pytest.mark.parametrize(
    ("model", "number", "text", "error", "words"),
    [
        ("zoo/none", None, "a", UnknownNameError, "the page has no model"),
        ("/etc/passwd", None, "a", UnknownNameError, "the page has no model"),
        ("zoo/gpt-lists", None, "", InputError, "no text was given"),
        ("zoo/gpt-lists", None, None, InputError, "no text was given"),
        ("zoo/gpt-lists", None, "a" * 10_001, InputError, "10,001 characters"),
        ("zoo/gpt-lists", None, "a" * 100_000, InputError, "100,000 characters"),
        ("zoo/gpt-lists", None, "dog " * 2_000, InputError, "tokens"),
        ("zoo/gpt-lists", None, "\ud800 dog", InputError, "half a character"),
        ("zoo/gpt-lists", -1, "dog", UnknownNameError, "has no sample"),
        ("zoo/vit-shapes", None, None, InputError, "no image was given"),
        ("zoo/lxmert-shapes", None, "is there a ring?", InputError, "pick one of its samples"),
    ],
)
def test_what_cannot_be_asked_is_told(
    model: str, number: int | None, text: str | None, error: type[Exception], words: str, handlers: Handlers
) -> None:
    began = time.monotonic()
    with pytest.raises(error, match=words):
        handlers.predict(model, FormValues(text, number=number))
    assert time.monotonic() - began < 10


def test_what_cannot_be_explained_is_told(handlers: Handlers, asked: Callable[[str], Exchange]) -> None:
    with pytest.raises(InputError, match="ask the model first"):
        handlers.explain(None, 0, [GENERIC])
    found = asked("zoo/gpt-lists")
    for number in (None, -1, 99):
        with pytest.raises(InputError, match="choose one"):
            handlers.explain(found, number, [GENERIC])
    with pytest.raises(UnknownNameError, match="known methods"):
        way("<b>", "", handlers.limits)


# -- models -----------------------------------------------------------------------------------------------------------


def test_a_model_is_used_by_one_request_at_a_time() -> None:
    models, inside, most = Models(), [0], [0]

    def work(_subject: object) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1

    threads = [threading.Thread(target=models.use, args=("zoo/gpt-lists", work)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_what_takes_too_long_is_broken_off_and_the_model_goes_on() -> None:
    models, ended = Models(seconds=60), threading.Event()
    models.use("zoo/gpt-lists", lambda subject: subject.explain(text=TEXT))
    models.seconds = 0.5

    def endless(subject: heedmap.Model) -> None:
        try:
            while True:
                subject.explain(text=TEXT)
        finally:
            ended.set()

    with pytest.raises(TimeLimitError, match=r"longer than 0\.5 s"):
        models.use("zoo/gpt-lists", endless)
    assert ended.wait(20)
    models.seconds = 60
    again = models.use("zoo/gpt-lists", lambda subject: subject.explain(text=TEXT))
    assert again == heedmap.load("zoo/gpt-lists").explain(text=TEXT)


def test_a_model_that_cannot_be_loaded_is_told_and_the_others_work(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    handlers = Handlers(Models([str(tmp_path)]))
    for _ in range(2):
        with pytest.raises(ModelLoadError, match="cannot be loaded"):
            handlers.predict(str(tmp_path), FormValues("a"))
    assert handlers.predict("zoo/gpt-lists", FormValues(TEXT)).predictions


def test_it_is_told_what_is_being_done(handlers: Handlers) -> None:
    told: list[tuple[str | int, ...]] = []

    def tell(*what: str | int) -> None:
        told.append(what)

    found = handlers.predict("zoo/gpt-lists", FormValues(TEXT), tell)
    handlers.explain(found, 0, [GENERIC, Way("rollout", {})], tell=tell)
    assert told[-2:] == [("explaining by generic",), ("explaining by rollout",)]
    handlers.explain(found, 0, [Way("smoothgrad", {"samples": 2})], tell=tell)
    assert told[-2:] == [("explaining by smoothgrad", done, 2) for done in (1, 2)]
    assert ("asking the model",) in told
    said = handlers.predict("zoo/bart-dates", FormValues("31.10.1924"), tell)
    handlers.answer(said, GENERIC, tell=tell)
    assert told[-1] == ("explaining every word by generic", 10, 10)


# -- results and errors -----------------------------------------------------------------------------------------------


def test_old_results_are_forgotten() -> None:
    results = Results(kept=2)
    names = [results.keep(Result(())) for _ in range(3)]
    assert results.get(names[0]) is None
    assert results.get(names[2]) is not None
    assert len(set(names)) == 3


def test_an_error_of_heedmap_is_shown_and_another_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("a secret")

    def refuse() -> None:
        raise InputError("what to do")

    assert attempt(lambda: 3) == (3, "")
    assert attempt(refuse) == (None, "what to do")
    with caplog.at_level(logging.ERROR):
        assert attempt(fail) == (None, UNEXPECTED)
    assert "a secret" in caplog.text


def test_without_gradio_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingLibraryError, match=r"pip install '\.\[app\]'"):
        library("gradio", "app", "the page needs")


@pytest.mark.parametrize(
    ("path", "answered"),
    [
        ("/", True),
        ("/gradio_api/queue/join", True),
        ("/gradio_api/file=/uploads/x/a.png", True),
        ("/gradio_api/file=/uploads/../etc/passwd", False),
        ("/gradio_api/file=/etc/passwd", False),
        ("/gradio_api/file=pyproject.toml", False),
        ("/gradio_api/file=%2Fetc%2Fpasswd", False),
        ("/gradio_api/file=https://example.org/a", False),
        ("/gradio_api/proxy=https://example.org/a", False),
        ("/static/../../secret", False),
        ("/monitoring", False),
        ("/docs", False),
    ],
)
def test_which_addresses_are_answered(path: str, answered: bool) -> None:
    async def nothing(*_: object) -> None:
        """What is behind the gate."""

    assert Gate(nothing, Path("/uploads"), 1).answers(path) is answered
