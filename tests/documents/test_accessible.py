"""axe-core finds nothing serious on the pages that heedmap writes, in a wide window and, in the dark, a narrow one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import heedmap
from browsing import IN_A_BROWSER, violations
from heedmap.cli.main import app
from heedmap.models.answers import alignment, detections
from heedmap.zoo.samples import MATERIALS

pytestmark = IN_A_BROWSER
LISTS = "dog red ; cat blue ; sun green ? cat"


def _text() -> str:
    return heedmap.load("zoo/gpt-lists").explain(text=LISTS).to_html()


def _image() -> str:
    subject, picture = heedmap.load("zoo/vit-shapes"), MATERIALS["vit-shapes"].make(0).inputs["image"]
    return subject.explain(image=picture).to_html(image=subject.shown_image(picture))


def _question() -> str:
    """With whole matrices: a word of the question can be chosen, and a box."""
    sample = MATERIALS["lxmert-shapes"].make(0)
    return heedmap.load("zoo/lxmert-shapes").explain(**sample.inputs, full=True).to_html()


def _signed() -> str:
    return heedmap.load("zoo/gpt-lists").explain(text=LISTS, method="input_x_gradient").to_html()


def _detection() -> str:
    subject, picture = heedmap.load("zoo/detr-shapes"), MATERIALS["detr-shapes"].make(0).inputs["image"]
    return detections(subject, image=picture, threshold=0.3).to_html(subject.shown_image(picture))


def _alignment() -> str:
    return alignment(heedmap.load("zoo/bart-dates"), text="the 3rd of may 1987").to_html()


def _answer() -> str:
    return heedmap.load("zoo/bart-dates").explain_answer(text="the 3rd of may 1987").to_html()


def _two() -> str:
    from heedmap.render.page import comparison_page

    return comparison_page(*heedmap.load("zoo/gpt-lists").explain(text=LISTS, target=["red", "blue"]))


MADE: dict[str, Callable[[], str]] = {
    "text": _text,
    "image": _image,
    "question": _question,
    "signed": _signed,
    "answer": _answer,
    "detection": _detection,
    "alignment": _alignment,
    "two": _two,
}
COMMANDS = {
    "compare": ("compare", "zoo/gpt-lists", "--text", LISTS, "--method", "rollout", "--out", "compare.html"),
    "run/report": (
        *("evaluate", "perturbation", "zoo/visualbert-shapes", "--out", "run"),
        *("--samples", "2", "--method", "rollout"),
    ),
    "gallery/index": ("demo", "--only", "gpt-lists", "--out", "gallery"),
}


@pytest.fixture(scope="module")
def folder(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of pages, each called as in MADE and COMMANDS."""
    with pytest.MonkeyPatch.context() as patch:
        found = tmp_path_factory.mktemp("pages")
        patch.chdir(found)
        for name, make in MADE.items():
            (found / f"{name}.html").write_text(make(), encoding="utf-8")
        for arguments in COMMANDS.values():
            result = CliRunner().invoke(app, list(arguments))
            assert result.exit_code == 0, result.output
        yield found


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 420)])
@pytest.mark.parametrize("name", [*MADE, *COMMANDS])
def test_nothing_serious(folder: Path, opened: Callable[..., Any], name: str, theme: str, width: int) -> None:
    page = opened(folder / f"{name}.html", theme, width)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    ground = page.evaluate(
        "getComputedStyle(document.querySelector('main > .heedmap') ?? document.body).backgroundColor"
    )
    assert (max(map(int, re.findall(r"\d+", ground)[:3])) < 60) == (theme == "dark")
    serious = [
        f"{one['id']}: {one['help']}: {node['html'][:120]}"
        for one in violations(page)
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert serious == []
    assert all(url.startswith(("file:", "data:")) for url in page.asked)
