"""The page as it is served: answered, refused, and by many at once."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from page_people import WITH_GRADIO, CallError, Person, downloaded, file_data, png
from PIL import Image

import heedmap
from heedmap.models.media import read_image
from heedmap.render.files import to_json
from heedmap.web.form_inputs import offered, sample
from heedmap.web.server import serving

pytest.importorskip("gradio_client", reason="the page needs gradio; pip install '.[app]'")
pytestmark = [
    WITH_GRADIO,
    pytest.mark.filterwarnings(  # within Gradio and its client: of pandas, and of files left to be closed
        "ignore::DeprecationWarning", "ignore::ResourceWarning"
    ),
]

from gradio_client import Client, handle_file  # noqa: E402 (after it is known to be there)
from gradio_client.exceptions import AppError  # noqa: E402

ROOT = Path(__file__).parents[2]
TEXT = "dog red ; cat blue ; sun green ? cat"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    broken = tmp_path_factory.mktemp("broken")
    (broken / "config.json").write_text("{}")
    with serving([str(broken)]) as found:
        yield found


def visiting(address: str) -> Client:
    """A person; the page is served without certificates, which would be read anew for each question."""
    return Client(address, verbose=False, ssl_verify=False)


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    """One person who asks one thing after the other, whatever became of the one before."""
    return visiting(address)


def status(address: str, path: str, data: bytes | None = None) -> int:
    try:
        with urlopen(Request(address + path, data=data), timeout=20) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def ask(
    client: Client, model: str, text: str | None = None, picture: Any = None, number: int | None = None, **more: Any
) -> Any:
    """``more``: ``second``, ``said``, ``audio``, ``boxes``. Gives the message, the answers, and what else is shown."""
    fields = [text, more.get("second"), more.get("said"), picture, more.get("audio"), more.get("boxes")]
    return client.predict(model, number, *fields, api_name="/ask")


def explain(client: Client, answer: int | None = 0, method: str = "generic", options: str = "") -> Any:
    return client.predict(answer, method, options, api_name="/explain")


def test_it_listens_on_this_machine_alone(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")


def test_explain_is_what_a_direct_call_gives(address: str, client: Client) -> None:
    message, answers, *_ = ask(client, "zoo/gpt-lists", TEXT)
    assert message == ""
    assert answers["choices"][0][0].startswith("blue — ")
    message, html, links = explain(client)
    assert message == ""
    direct = heedmap.load("zoo/gpt-lists").explain(text=TEXT, target="blue")
    assert json.loads(downloaded(address, links, "json")) == json.loads(to_json(direct))
    assert ", the next word” rests on" in html
    assert downloaded(address, links, "png").startswith(b"\x89PNG")
    assert downloaded(address, links, "html").startswith(b"<!DOCTYPE html>")


def test_compare_shows_both(address: str, client: Client) -> None:
    ask(client, "zoo/gpt-lists", TEXT)
    message, html, links = client.predict(0, "rollout", "", "raw_attention", "", api_name="/compare")
    assert message == ""
    assert html.count('<div class="heedmap">') == 2
    assert [one["method"] for one in json.loads(downloaded(address, links, "json"))] == ["rollout", "raw_attention"]


def test_a_sample_is_picked_and_its_picture_asked(client: Client) -> None:
    number = next(iter(offered("zoo/vit-shapes")))
    client.predict("zoo/vit-shapes", api_name="/choose")
    message, *_, picture, _ = client.predict("zoo/vit-shapes", number, api_name="/pick")
    assert message == ""
    message, answers, *_ = ask(
        client, "zoo/vit-shapes", None, handle_file(picture["path"] if isinstance(picture, dict) else picture), number
    )
    assert message == ""
    direct = heedmap.load("zoo/vit-shapes").explain(image=sample("zoo/vit-shapes", number).picture)
    assert direct.top is not None
    assert answers["choices"][0][0].startswith(direct.top.labels[0][0])


def test_a_picture_is_uploaded_and_left_as_it_is(address: str, client: Client, tmp_path: Path) -> None:
    """Turned by its EXIF data: once, and not encoded again."""
    path, turned = tmp_path / "mine.jpg", Image.Exif()
    turned[0x0112] = 6
    seen = sample("zoo/vit-shapes", next(iter(offered("zoo/vit-shapes")))).picture
    assert seen is not None
    seen.save(path, exif=turned, quality=90)
    client.predict("zoo/vit-shapes", api_name="/choose")
    message, answers, *_ = ask(client, "zoo/vit-shapes", None, handle_file(str(path)))
    assert message == ""
    assert len(answers["choices"]) == 5
    direct = heedmap.load("zoo/vit-shapes").explain(image=read_image(path))
    assert json.loads(downloaded(address, explain(client)[2], "json")) == json.loads(to_json(direct))


@pytest.mark.parametrize(
    ("model", "text", "words"),
    [
        ("zoo/gpt-lists", "", "no text was given"),
        ("zoo/gpt-lists", "a" * 10_001, "10,001 characters"),
        ("zoo/gpt-lists", "a" * 100_000, "100,000 characters"),
        ("zoo/gpt-lists", "<b> " * 2_000, "2000 tokens"),
        ("zoo/vit-shapes", None, "no image was given"),
        ("zoo/lxmert-shapes", "is there a ring?", "pick one of its samples"),
    ],
)
def test_bad_input_is_told_and_the_next_is_answered(model: str, text: str | None, words: str, client: Client) -> None:
    began = time.monotonic()
    message, answers, *_ = ask(client, model, text)
    assert re.search(words, message)
    assert 'role="alert"' in message
    assert answers["choices"] == []
    assert ask(client, "zoo/gpt-lists", TEXT)[0] == ""
    assert time.monotonic() - began < 30


def test_nothing_is_explained_before_it_was_asked(address: str) -> None:
    """Nor of a page that was left until the server forgot its question."""
    client = visiting(address)
    assert "ask the model first" in explain(client)[0]
    client.predict("zoo/gpt-lists", api_name="/choose")
    with pytest.raises(AppError):
        explain(client)
    message, html, _ = explain(client, None)
    assert "ask the model first" in message
    assert html == ""


def test_a_model_that_was_not_named_is_refused(client: Client) -> None:
    with pytest.raises(AppError):
        ask(client, "/etc", "a")
    assert ask(client, "zoo/gpt-lists", TEXT)[0] == ""


def test_a_model_that_cannot_be_loaded_is_told(address: str, client: Client) -> None:
    with urlopen(address + "config", timeout=20) as answer:
        (models,) = (
            c["props"]["choices"] for c in json.load(answer)["components"] if c["props"].get("elem_id") == "model"
        )
    assert models[-1][0].startswith("/")
    assert "cannot be loaded" in ask(client, models[-1][1], "a")[0]
    assert ask(client, "zoo/gpt-lists", TEXT)[0] == ""


def test_what_is_no_picture_is_told(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"no picture")
    client.predict("zoo/vit-shapes", api_name="/choose")
    message = ask(client, "zoo/vit-shapes", None, handle_file(str(path)))[0]
    assert "the picture cannot be read" in message
    assert "/" not in message.replace("</div>", "")


def test_too_large_an_upload_is_refused(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(bytes(10 * 2**20 + 1))
    with pytest.raises(Exception, match=r"413|size|large|much"):
        ask(client, "zoo/vit-shapes", None, handle_file(str(path)))
    assert ask(client, "zoo/gpt-lists", TEXT)[0] == ""


def test_too_much_for_a_request_is_refused_before_it_is_sent(address: str) -> None:
    connection = HTTPConnection(urlsplit(address).netloc, timeout=20)
    connection.putrequest("POST", "/gradio_api/call/ask")
    connection.putheader("Content-Length", str(12_000_001))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/passwd",
        f"gradio_api/file={ROOT / 'pyproject.toml'}",
        "gradio_api/file=pyproject.toml",
        "gradio_api/file=../../../etc/passwd",
        "gradio_api/file=%2Fetc%2Fpasswd",
        "gradio_api/file=/proc/self/environ",
        "gradio_api/file=http://127.0.0.1:1/",
        "gradio_api/file/etc/passwd",
        "file=/etc/passwd",
        "gradio_api/proxy=https://a.hf.space/",
        "static/../../../pyproject.toml",
        "static/%2e%2e/%2e%2e/routes.py",
        "assets/..%2f..%2f..%2froutes.py",
        "monitoring",
        "gradio_api/runs",
        "docs",
        "explained/nothing.json",
        "explained/..%2f..%2fetc%2fpasswd",
    ],
)
def test_no_file_of_the_machine_is_handed_out(path: str, address: str) -> None:
    assert status(address, path) in (403, 404)


FIELDS = {"picture": ("zoo/vit-shapes", 5), "sound": ("zoo/vit-shapes", 6), "boxes": ("zoo/lxmert-shapes", 7)}
"""A field of files → a model to ask and the field's place among the values."""


@pytest.mark.parametrize("path", ["/etc/passwd", str(ROOT / "pyproject.toml"), "https://example.org/a.png"])
@pytest.mark.parametrize("form", ["path", "url"])
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("chosen", [True, False])
def test_a_file_is_never_a_path_or_an_address(chosen: bool, field: str, path: str, form: str, address: str) -> None:
    """Asked without Gradio's client, which would send its own machine's file. Gradio makes the fields anew after a choice."""
    model, place = FIELDS[field]
    person = Person(address)
    if chosen:
        person.call("choose", model)
    values: list[Any] = [model, *[None] * 7]
    values[place] = file_data(path) | ({"url": path} if form == "url" else {})
    with pytest.raises(CallError) as told:
        person.call("ask", *values)
    assert path.startswith("/") or "not fetched from an address" in str(told.value)
    assert "root:" not in str(told.value)
    assert "[project]" not in str(told.value)


def test_uploads_cannot_be_found_by_others(address: str) -> None:
    where = Path(Person(address).upload("mine.png", png((9, 9))))
    assert where.name == "mine.png"
    assert len(where.parent.name) >= 32  # nobody guesses it
    assert status(address, f"gradio_api/file={where}") == 200  # the one who uploaded it sees it on the page
    for other in (where.parent, where.parent.parent, where.parent.parent / "mine.png", f"{where.parent}/../{where}"):
        assert status(address, f"gradio_api/file={other}") in (403, 404)
    link = where.parent / "link.png"
    link.symlink_to(ROOT / "pyproject.toml")
    assert status(address, f"gradio_api/file={link}") in (403, 404)


@pytest.mark.parametrize(
    "text",
    [
        "<script>document.title='run'</script>",
        "\"'`><img src=x onerror=alert(1)> {{value}} ${value}",
        "\u202ered\u2066 \u200f dog",
        "dog \U0001f468\u200d\U0001f469\u200d\U0001f467 ? cat",
        "dog \x00 red\x1b[31m ? dog",
    ],
)
def test_odd_texts_are_shown_as_text(text: str, client: Client) -> None:
    message, answers, *_ = ask(client, "zoo/gpt-lists", text)
    shown = message
    if answers["choices"]:
        message, shown, _ = explain(client)
        assert message == ""
    assert shown
    for mark in ("<script", "<img src=x", "\u202e", "\u2066", "\x00", "\x1b"):
        assert mark not in shown
    assert "Traceback" not in shown
