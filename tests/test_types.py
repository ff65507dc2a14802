"""The types of the public calls: mypy reads this file with the package, and pytest sees that what is said is so.

A ``type: ignore`` here is a check, too: mypy warns of one that is not needed, so a call that a type checker should refuse is
refused.
"""

from typing import assert_type

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import heedmap
from heedmap.targets import ClassLogit, TopClasses
from heedmap.types import Boxes, Given


def _photo() -> Image.Image:
    return Image.fromarray(np.asarray(heedmap.zoo_sample("vit-shapes").picture))


def test_one_target_gives_an_explanation_and_a_list_of_targets_a_list() -> None:
    subject = heedmap.load("zoo/vit-shapes")
    photo = _photo()
    one = assert_type(subject.explain(image=photo), heedmap.Explanation)
    named = assert_type(subject.explain(image=[photo, photo], target="pink"), heedmap.Explanation)
    each = assert_type(subject.explain(image=photo, target=["pink", 3]), list[heedmap.Explanation])
    several = assert_type(subject.explain(image=photo, target=TopClasses(2)), list[heedmap.Explanation])
    inputs = subject.inputs(image=photo)
    of_tensors = assert_type(heedmap.explain(subject, inputs), heedmap.Explanation)
    of_model = assert_type(
        heedmap.explain(subject.model, inputs["pixel_values"], target=[0, 1]), list[heedmap.Explanation]
    )
    assert all(isinstance(found, heedmap.Explanation) for found in (one, named, of_tensors))
    assert all(isinstance(found, list) for found in (each, several, of_model))
    assert_type(one["image"], Tensor)


def test_one_picture_gives_one_and_a_list_a_list() -> None:
    subject = heedmap.load("zoo/vit-shapes")
    photo = _photo()
    shown = assert_type(subject.shown_image(photo), Image.Image)
    assert isinstance(shown, Image.Image)
    assert isinstance(subject.shown_image([photo])[0], Image.Image)
    assert subject.geometry(photo).size == subject.geometry([photo])[0].size == photo.size
    assert len(subject.picture([photo, photo])) == 2
    assert isinstance(subject.explain(image=photo).overlay(subject.picture(photo)), Image.Image)


def test_a_list_of_any_one_type_is_a_list() -> None:
    subject = heedmap.load("zoo/vit-shapes")
    photos, names, logits = [_photo()], ["pink", "red"], [ClassLogit("pink"), ClassLogit("red")]
    of_names = assert_type(subject.explain(image=photos, target=names), list[heedmap.Explanation])
    of_logits = assert_type(subject.explain(image=photos, target=logits), list[heedmap.Explanation])
    assert [found.target for found in of_names] == [found.target for found in of_logits]
    assert_type(subject.shown_image(photos), list[Image.Image])
    assert_type(subject.inputs(image=photos), dict[str, Tensor])


@pytest.mark.parametrize("form", ["array", "tensor", "list"])
def test_what_people_have_is_taken(form: str) -> None:
    subject = heedmap.load("zoo/vit-shapes")
    array = np.asarray(_photo())
    found = {
        "array": lambda: subject.explain(image=array),
        "tensor": lambda: subject.explain(image=torch.from_numpy(array.copy())),
        "list": lambda: subject.explain(image=[array, array]),
    }[form]()
    assert found["image"].shape[1] == 144


def test_inputs_by_role_are_handed_on() -> None:
    sample = heedmap.zoo_sample("lxmert-shapes")
    boxes: Boxes = {"features": sample.inputs["boxes"]["features"], "boxes": sample.inputs["boxes"]["boxes"]}
    given: Given = {"text": sample.inputs["text"], "boxes": boxes}
    subject = heedmap.load("zoo/lxmert-shapes")
    assert_type(subject.explain(**given), heedmap.Explanation)
    answers = assert_type(subject.predict(text=sample.inputs["text"], boxes=boxes), heedmap.Predictions)
    assert answers[0].label == sample.answer


def test_what_a_type_checker_refuses_is_refused_in_words() -> None:
    subject = heedmap.load("zoo/gpt-lists")
    with pytest.raises(heedmap.errors.InputError, match="the text is 3"):
        subject.explain(text=3)  # type: ignore[call-overload]
    with pytest.raises(heedmap.errors.InputError, match="model is a str"):
        heedmap.explain("zoo/gpt-lists", {})  # type: ignore[call-overload]
    with pytest.raises(heedmap.errors.ModelLoadError, match="the model's name is a int"):
        heedmap.load(3)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="no attribute 'explane'"):
        heedmap.explane  # type: ignore[attr-defined]  # noqa: B018
