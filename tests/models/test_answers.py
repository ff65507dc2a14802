"""Several answers from one forward pass, of the small trained models."""

import pytest
import torch

import heedmap
from heedmap.errors import InputError, OptionError
from heedmap.models.answers import alignment, detections
from heedmap.zoo.samples import MATERIALS


@pytest.fixture(scope="module")
def dates():
    return heedmap.load("zoo/bart-dates")


@pytest.fixture(scope="module")
def aligned(dates):
    return alignment(dates, text="3rd of may 1987")


@pytest.fixture(scope="module")
def shapes():
    return heedmap.load("zoo/detr-shapes")


@pytest.fixture(scope="module")
def picture():
    return MATERIALS["detr-shapes"].make(MATERIALS["detr-shapes"].shown).inputs["image"]


def test_alignment_has_a_row_for_each_token_that_is_said(aligned):
    assert "".join(aligned.names) == "1987-05-03"
    assert len(aligned) == 10
    tokens = len(aligned.explanations[0].segments["text"].labels[0])
    assert aligned["text"].shape == (10, tokens)


def test_each_row_is_the_explanation_of_its_token(dates, aligned):
    said = dates.inputs(text="3rd of may 1987")["decoder_input_ids"]
    target = heedmap.targets.NextToken(int(said[0, 7]), 6)
    alone = dates.explain(text="3rd of may 1987", target=target)
    assert torch.allclose(aligned["text"][6], alone["text"][0], atol=1e-6)


def test_the_month_rests_on_the_month(aligned):
    labels = aligned.explanations[0].segments["text"].labels[0]
    month = "".join(labels).index("may")
    assert month <= int(aligned["text"][6].argmax()) < month + 3


def test_alignment_of_given_words(dates):
    said = dates.inputs(text="3rd of may 1987")["decoder_input_ids"][:, :4]
    assert "".join(alignment(dates, text="3rd of may 1987", decoder_input_ids=said).names) == "198"


def test_the_page_of_an_alignment_has_a_table_and_a_choice(aligned):
    html = aligned.to_html()
    assert html.count('<th scope="row" dir="auto">') == len(aligned)
    assert html.count('type="radio"') == len(aligned)
    assert "coloured from 0 to its own largest value" in html
    assert "<script" not in html


def test_only_what_says_a_text_is_aligned(shapes, picture):
    with pytest.raises(InputError, match="says no text"):
        alignment(shapes, image=picture)


def test_detections_are_the_probable_ones_with_their_boxes(shapes, picture):
    found = detections(shapes, image=picture)
    assert len(found) == len(found.boxes) == len(found["image"])
    assert all(0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1 for x1, y1, x2, y2 in found.boxes)
    probabilities = [float(one.top.target[0]) for one in found.explanations]
    assert probabilities == sorted(probabilities, reverse=True)
    assert min(probabilities) >= 0.5
    assert len(detections(shapes, image=picture, most=1)) == 1


def test_the_relevance_of_a_detection_lies_in_its_box(shapes, picture):
    found = detections(shapes, image=picture)
    rows, columns = found.explanations[0].segments["image"].grid
    for relevance, (x1, y1, x2, y2) in zip(found["image"], found.boxes, strict=True):
        row, column = divmod(int(relevance.argmax()), columns)
        assert x1 - 1 / columns < (column + 0.5) / columns < x2 + 1 / columns
        assert y1 - 1 / rows < (row + 0.5) / rows < y2 + 1 / rows


def test_the_page_of_detections_draws_each_box(shapes, picture):
    found = detections(shapes, image=picture)
    html = found.to_html(shapes.shown_image(picture))
    assert html.count('<i style="left:') == len(found)
    assert html.count("--seen:url(data:image/") == 1


@pytest.mark.parametrize(("settings", "error"), [({"threshold": 2}, OptionError), ({"most": 0}, OptionError)])
def test_settings_out_of_range(shapes, picture, settings, error):
    with pytest.raises(error):
        detections(shapes, image=picture, **settings)


def test_nothing_that_probable(shapes, picture):
    with pytest.raises(InputError, match="no object is as probable as 1"):
        detections(shapes, image=picture, threshold=1)


def test_only_detectors_detect(dates):
    with pytest.raises(InputError, match="finds no boxes"):
        detections(dates, text="3rd of may 1987")


def test_a_batch_is_refused(dates):
    with pytest.raises(InputError, match="give one sample"):
        alignment(dates, text=["3rd of may 1987", "4th of may 1987"])


def test_a_model_that_goes_on_with_a_text_is_aligned_too():
    said = alignment(heedmap.load("zoo/gpt-lists"), text="dog red ; cat blue ? cat", generate={"max_new_tokens": 2})
    assert said.names[0].strip() == "blue"
    assert said["text"].shape[0] == len(said) == 2
