"""An edited input beside the original: the edit itself, the difference of two maps, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import heedmap
from heedmap.errors import InputError
from heedmap.models.edits import effect, painted, reworded

ASKED = "dog red ; cat {} ; sun green ? cat".format


@pytest.fixture(scope="module")
def lists() -> heedmap.Model:
    return heedmap.load("zoo/gpt-lists")


def test_a_word_is_changed_everywhere_as_a_whole_word() -> None:
    assert reworded("red reddish red", "red", "blue") == "blue reddish blue"
    assert reworded("a (b) c", "b", r"\1") == r"a (\1) c"
    assert reworded("one two three", "two", "") == "one three"


@pytest.mark.parametrize(("text", "old", "new"), [("a b", "c", "d"), ("a b", " ", "d"), ("abc", "b", "d")])
def test_a_word_that_is_not_there_is_told(text: str, old: str, new: str) -> None:
    with pytest.raises(InputError, match="has no word"):
        reworded(text, old, new)


def test_an_edit_that_leaves_no_text_is_told() -> None:
    with pytest.raises(InputError, match="leaves no text"):
        reworded("alone", "alone", "")


@pytest.mark.parametrize("region", [(2, 1, 6, 3), (0.25, 0.25, 0.75, 0.75)])
def test_a_region_is_painted_in_the_mean_colour_and_nothing_else(region: tuple[float, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    after = np.asarray(painted(Image.fromarray(pixels), region))
    inside = np.zeros((4, 8), dtype=bool)
    inside[1:3, 2:6] = True
    assert (after[inside] == np.round(pixels.reshape(-1, 3).mean(0))).all()
    assert (after[~inside] == pixels[~inside]).all()


@pytest.mark.parametrize(
    "region",
    [(0, 0, 9, 4), (2, 0, 2, 4), (-1, 0, 2, 2), (0.5, 0.0, 1.5, 1.0), (0.1, 0.2, 0.3), (0.0, float("nan"), 1, 1)],
)
def test_a_region_outside_the_picture_is_told(region: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="the region"):
        painted(Image.new("RGB", (8, 4)), region)


def test_the_difference_is_the_second_map_less_the_first(lists: heedmap.Model) -> None:
    before, after = (lists.explain(text=ASKED(word), target="blue") for word in ("blue", "green"))
    change = before.difference(after)
    assert torch.equal(change["text"], after["text"] - before["text"])
    assert torch.equal(change.scores, after.scores - before.scores)
    assert float(change["text"].min()) < 0 < float(change["text"].max())
    assert torch.equal(after.difference(before)["text"], -change["text"])
    assert not before.difference(before)["text"].any()
    assert change.target[0].startswith("change of ")
    assert "What changes for “blue, the next word”" in change.to_html()


def test_words_that_only_one_text_has_are_told(lists: heedmap.Model) -> None:
    before = lists.explain(text="dog red ; cat blue ; sun green ? cat", target="blue")
    after = lists.explain(text="dog red ; cat blue ? cat", target="blue")
    change = before.difference(after)
    labels, old = change.segments["text"].labels, before.segments["text"].labels
    assert labels is not None
    assert old is not None
    kept = [0, 1, 2, 3, 4, 8, 9]
    assert [old[0][i] for i in kept] == list(labels[0])
    assert torch.equal(change["text"][0], after["text"][0] - before["text"][0, kept])
    assert any("was left out" in note and "sun" in note for note in change.flow.notes)
    back = after.difference(before)
    assert torch.equal(back["text"][0, 5:8], before["text"][0, 5:8])
    assert any("is new" in note for note in back.flow.notes)


def test_a_difference_goes_to_a_file_and_a_figure(lists: heedmap.Model, tmp_path: object) -> None:
    before, after = (lists.explain(text=ASKED(word), target="blue") for word in ("blue", "green"))
    change = before.difference(after)
    change.save(f"{tmp_path}/change.safetensors")
    assert heedmap.Explanation.load(f"{tmp_path}/change.safetensors") == change
    figure = change.plot()
    assert any("around 0" in axes.get_title() for axes in figure.axes)
    both = heedmap.side_by_side({"before": before, "after": after, "change": change}, own=("change",))
    told = " ".join(text.get_text() for text in both.findobj(lambda artist: hasattr(artist, "get_text")))
    assert "change has its own" in told
    assert "around 0" in told


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"method": "rollout"}, "not of one kind"),
        ({"drop_self": False}, "not of one kind"),
        ({"text": ["dog red ? dog", "sun red ? sun"]}, "batches"),
    ],
)
def test_maps_that_do_not_compare_have_no_difference(
    lists: heedmap.Model, second: dict[str, object], words: str
) -> None:
    before = lists.explain(text="dog red ? dog")
    other = {"text": "dog red ? dog", **second}
    with pytest.raises(InputError, match=words):
        before.difference(lists.explain(**other))  # type: ignore[arg-type]


def test_inputs_of_two_kinds_have_no_difference(lists: heedmap.Model) -> None:
    picture = heedmap.zoo_sample("vit-shapes").picture
    image = heedmap.load("zoo/vit-shapes").explain(image=picture)
    with pytest.raises(InputError, match="parts"):
        lists.explain(text="dog red ? dog").difference(image)


def test_the_effect_of_an_edit_is_that_of_direct_calls(lists: heedmap.Model) -> None:
    found = effect(lists, {"text": ASKED("blue")}, {"text": ASKED("green")})
    assert found.before == lists.explain(text=ASKED("blue"), target="blue")
    assert found.after == lists.explain(text=ASKED("green"), target="blue")
    (name, (before, after)), *others = found.answers.items()
    assert name == "blue"
    assert before is not None
    assert after is not None
    assert before > 0.9 > 0.1 > after
    assert others[0][0] == "green"
    assert others[0][1][1] == pytest.approx(1, abs=0.1)


def test_a_decoder_is_held_to_what_it_said() -> None:
    dates = heedmap.load("zoo/bart-dates")
    found = effect(dates, {"text": "the 3rd of may 1987"}, {"text": "the 3rd of june 1987"}, answer=2)
    labels = [e.segments["decoder"].labels for e in (found.before, found.after)]
    assert labels[0] == labels[1]


def test_a_region_without_the_object_loses_its_relevance() -> None:
    detector, picture = heedmap.load("zoo/detr-shapes"), heedmap.zoo_sample("detr-shapes").picture
    assert picture is not None
    first = detector.predict(image=picture)[0]
    assert first.box is not None
    painted_over = painted(Image.fromarray(np.asarray(picture)), first.box)
    found = effect(detector, {"image": picture}, {"image": painted_over})
    before, after = next(iter(found.answers.values()))
    assert before is not None
    assert after is not None
    assert before > 0.5 > after
    assert float(found.change.scores[0]) < 0


def test_an_edit_of_nothing_is_told(lists: heedmap.Model) -> None:
    with pytest.raises(InputError, match="changes nothing"):
        effect(lists, {"text": "dog"}, {"text": "dog"})
