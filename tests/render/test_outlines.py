"""The box of an explained object, in every output of a detector."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import heedmap
from heedmap.data.picture import Picture
from heedmap.explanation import Explanation
from heedmap.render import files


@pytest.fixture(scope="module")
def found() -> tuple[Explanation, Picture]:
    subject, asked = heedmap.load("zoo/detr-shapes"), heedmap.zoo_sample("detr-shapes")
    return subject.explain(image=asked.picture), subject.picture(asked.picture)


def test_it_is_that_of_the_query_in_a_batch_and_alone(found: tuple[Explanation, Picture]) -> None:
    subject = heedmap.load("zoo/detr-shapes")
    pictures = [heedmap.zoo_sample("detr-shapes", number).picture for number in (0, 1)]
    both = subject.explain(image=pictures)
    for number, picture in enumerate(pictures):
        first = subject.predict(image=picture)[0]
        assert both.box[number].tolist() == pytest.approx(first.box, abs=1e-5)
        assert both.sample(number).box.tolist() == [both.box[number].tolist()]
        assert subject.explain(image=picture).box[0].tolist() == pytest.approx(first.box, abs=1e-5)
    classes = heedmap.load("zoo/vit-shapes").explain(image=heedmap.zoo_sample("vit-shapes").picture)
    assert classes.box is None


def test_it_comes_back_from_a_file_and_is_in_the_data(found: tuple[Explanation, Picture], tmp_path: Path) -> None:
    explanation, _ = found
    explanation.save(tmp_path / "one.safetensors")
    again = Explanation.load(tmp_path / "one.safetensors")
    assert again == explanation
    assert torch.equal(again.box, explanation.box)
    assert json.loads(files.to_json(explanation))["box"][0] == pytest.approx(explanation.box[0].tolist())


def test_a_figure_and_a_page_have_it_and_no_queries_unless_asked(
    found: tuple[Explanation, Picture], tmp_path: Path
) -> None:
    explanation, picture = found
    figure = explanation.plot(image=picture)
    axes = figure.axes[0]
    left, top, right, bottom = picture.share(tuple(explanation.box[0].tolist()))
    wide, tall = axes.get_xlim()[1], axes.get_ylim()[0]
    frames = {tuple(round(edge, 3) for edge in frame.get_bbox().extents) for frame in axes.patches}
    assert {tuple(round(edge, 3) for edge in (left * wide, top * tall, right * wide, bottom * tall))} == frames
    assert "ring, object query 1" in [text.get_text() for text in axes.texts]
    titles = [axes.get_title() for axes in figure.axes]
    assert not any("queries" in title for title in titles)
    asked = explanation.plot(image=picture, bars=True)
    (bars,) = [axes for axes in asked.axes if "queries" in axes.get_title()]
    assert [label.get_text() for label in bars.get_yticklabels()][:2] == ["query 0", "query 1"]
    files.write(tmp_path / "page.html", explanation, picture)
    html = (tmp_path / "page.html").read_text()
    assert 'aria-label="ring, object query 1"' in html
    assert '<details class="folded"><summary>queries' in html
