"""The page used by many at once, and by some who ask too much."""

from __future__ import annotations

import gc
import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from page_people import WITH_GRADIO, CallError, Person, downloaded, file_data, png
from PIL import Image
from torch import Tensor

import heedmap
from heedmap.render.files import to_json
from heedmap.web.form_inputs import offered, sample
from heedmap.web.results import Results
from heedmap.web.server import serving
from heedmap.web.uploads import Limits

pytestmark = [
    WITH_GRADIO,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),  # within Gradio
]

TEXT = "dog red ; cat blue ; sun green ? cat"
WORDS = ("red", "blue", "green", "pink", "navy", "cream", "silver", "violet", "amber", "ivory")


def test_twenty_at_once_each_get_their_own_and_only_what_can_be_downloaded_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("heedmap.web.server.Results", lambda: Results(kept=20))
    with serving() as address:
        _check_twenty(address)


def _check_twenty(address: str) -> None:
    questions = _questions()
    subjects = {model: heedmap.load(model) for model in ("zoo/gpt-lists", "zoo/vit-shapes")}
    expected = [json.loads(to_json(subjects[model].explain(**given))) for model, given in questions]
    assert len({json.dumps(one) for one in expected}) == 20
    crowd = [Person(address) for _ in questions]

    def one(person: Person, question: tuple[str, dict[str, Any]]) -> Any:
        model, given = question
        picture = file_data(person.upload("a.png", png(given["image"]))) if "image" in given else None
        assert person.call("ask", model, None, given.get("text"), None, None, picture, None, None)[0] == ""
        message, _, links = person.call("explain", 0, "generic", "")
        assert message == ""
        return json.loads(downloaded(address, links, "json"))

    held = []
    with ThreadPoolExecutor(20) as people:
        for _ in range(3):
            assert list(people.map(one, crowd, questions)) == expected
            held.append(_held())
    assert held[2] <= held[0], held


def _questions() -> list[tuple[str, dict[str, Any]]]:
    """Twenty, no two alike: texts, and pictures of samples."""
    texts = [
        f"dog {WORDS[i % 10]} ; cat {WORDS[(i * 3 + 1) % 10]} ; sun red ? {('dog', 'cat')[i // 10]}" for i in range(14)
    ]
    pictures = [sample("zoo/vit-shapes", number).picture for number in list(offered("zoo/vit-shapes"))[:6]]
    return [
        *(("zoo/gpt-lists", {"text": text}) for text in texts),
        *(("zoo/vit-shapes", {"image": picture}) for picture in pictures),
    ]


def _held() -> Counter[str]:
    """How many of what an explanation is made of this process, the server's, holds: unlike its memory, exactly the same when nothing is kept."""
    gc.collect()
    kinds = (heedmap.Explanation, Tensor, Image.Image)
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds))


def test_what_takes_too_long_ends_and_a_full_queue_says_so() -> None:
    with serving(limits=Limits(seconds=1.5, at_once=2, waiting=1)) as address:
        crowd = [Person(address) for _ in range(6)]
        for person in crowd:
            assert person.call("ask", "zoo/gpt-lists", None, TEXT, *[None] * 5)[0] == ""

        def slow(person: Person) -> str:
            try:
                return str(person.call("explain", 0, "smoothgrad", "samples=1000")[0])
            except CallError as error:
                return str(error)

        began = time.monotonic()
        with ThreadPoolExecutor(len(crowd)) as people:
            working = [people.submit(slow, person) for person in crowd[:2]]
            time.sleep(0.5)  # of six that come at once the queue may refuse five, before any is at work
            told = [*people.map(slow, crowd[2:]), *(one.result() for one in working)]
        assert sum("longer than 1.5 s" in one for one in told) >= 2
        assert sum("Queue is full" in one for one in told) >= 1
        assert all("longer than 1.5 s" in one or "Queue is full" in one for one in told)
        assert time.monotonic() - began < 30
        assert _eventually(lambda: crowd[0].call("explain", 0, "generic", "")[0] == "")


def _eventually(holds: Callable[[], bool], seconds: float = 20) -> bool:
    """What was broken off ends when the model calls its next module; until then the model is in use."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.2)
    return False
