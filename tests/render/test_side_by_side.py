import io

import numpy as np
import pytest
import torch
from hand_made import HOSTILE, patches, segment
from PIL import Image

from heedmap.data.picture import Geometry, Picture
from heedmap.errors import InputError, UnknownNameError
from heedmap.render.cautions import disagreements
from heedmap.render.figure import side_by_side
from heedmap.render.page import comparison_page
from heedmap.render.panels import placed_words
from heedmap.render.views import row


def _drawn(figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    return np.asarray(Image.open(buffer))


def _words(figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def test_every_kind_by_three_methods_with_notes(all_kinds, make_explanation, photo):
    columns = {name: make_explanation(*all_kinds.segments.values(), method=name) for name in ("a", "b", "c")}
    figure = side_by_side(columns, image=photo, notes={"b": "AUC 0.7"})
    assert _drawn(figure).std() > 0
    words = _words(figure)
    for told in ('"cat" <b>', "AUC 0.7", "divided by the sum of its absolute values", "range: 0 … 0.4"):
        assert told in words
    assert words.count("score 8.125") == 3
    for name in all_kinds.segments:
        assert name in words


def test_maps_of_one_method_share_the_scale_of_their_values(make_explanation):
    columns = {name: make_explanation(patches(1, 2, {(0, 1): top})) for name, top in (("one", 1.0), ("two", 4.0))}
    shared = row("image", columns, 0, True)
    assert {(scale.low, scale.high) for scale in shared.scales.values()} == {(0.0, 4.0)}
    assert shared.scales["one"].places(shared.values["one"]).tolist() == [0, 0.25]
    own = row("image", columns, 0, False)
    assert own.scales["one"].places(own.values["one"]).tolist() == [0, 1]
    assert "share one scale" in _words(side_by_side(columns))
    assert "a scale of its own" in _words(side_by_side(columns, shared=False))


def test_maps_of_several_methods_are_shares_of_their_totals(make_explanation):
    columns = {
        "one": make_explanation(segment([1.0, 3.0]), method="one"),
        "two": make_explanation(segment([-100.0, 300.0]), method="two"),
        "none": make_explanation(segment([0.0, 0.0]), method="none"),
    }
    shared = row("text", columns, 0, True)
    assert shared.values["one"].tolist() == [0.25, 0.75]
    assert shared.values["two"].tolist() == [-0.25, 0.75]
    assert shared.values["none"].tolist() == [0, 0]
    assert {(scale.low, scale.high, scale.signed) for scale in shared.scales.values()} == {(-0.75, 0.75, True)}
    assert shared.scales["one"].places(np.array([0.0])).tolist() == [0.5]
    assert "range: -100 … 300" in _words(side_by_side(columns))


def test_bars_that_share_a_scale_are_drawn_to_one_length(make_explanation):
    columns = {
        n: make_explanation(segment([0.0, v], name="queries", kind="tokens")) for n, v in (("a", 1.0), ("b", 4.0))
    }
    limits = [axes.get_xlim() for axes in side_by_side(columns).axes]
    assert limits[0] == limits[1]
    assert limits[0][1] > 4


def test_many_are_wrapped_and_a_part_that_one_lacks_is_told(make_explanation):
    columns = {f"number {n}": make_explanation(segment([1.0, 2.0]), patches(1, 1, {(0, 0): 1.0})) for n in range(6)}
    columns["number 1"] = make_explanation(segment([1.0, 2.0]), method="lrp")
    figure = side_by_side(columns)
    assert "lrp has no map of image" in _words(figure)
    assert figure.get_figwidth() < 14
    assert figure.get_figheight() > side_by_side({"one": columns["number 0"]}).get_figheight() * 1.5


def test_long_texts_show_the_same_strongest_words_in_all_columns(make_explanation):
    rng = np.random.default_rng(0)
    values = [rng.random(300).tolist() for _ in range(2)]
    columns = {str(n): make_explanation(segment(v)) for n, v in enumerate(values)}
    columns["0"] = make_explanation(segment([*values[0][:-1], 5.0]))
    part = row("text", columns, 0, True)
    assert part.chosen("0", 20) == part.chosen("1", 20)
    assert 299 in part.chosen("1", 20)
    assert "the strongest 100 of 300" in _words(side_by_side(columns))


def test_words_are_broken_into_lines_and_gaps_are_shown():
    labels = [f"word{i}" for i in range(30)]
    words = placed_words(labels, [0, 1, 2, 7, 8, 29], 1.5)
    assert [word.token for word in words] == [0, 1, 2, -1, 7, 8, -1, 29]
    assert all(word.left + word.width <= 1.5 + 1e-9 for word in words)
    assert [word.line for word in words] == sorted(word.line for word in words)
    assert words[-1].line >= 2
    assert placed_words(["x" * 500], [0], 1.0)[0].width == 1.0


def test_other_targets_are_told_in_their_columns(make_explanation):
    columns = {name: make_explanation(segment([1.0]), target=(f"class {name}",)) for name in ("yes", "no")}
    words = _words(side_by_side(columns))
    assert "class yes" in words
    assert "class no" in words


def test_hostile_names_and_values(make_explanation):
    odd = segment([0.1] * len(HOSTILE), labels=(HOSTILE,))
    bad = segment([float("nan")] * 4, name="image", kind="image", grid=(2, 2))
    nothing = segment([0.0], name="none", positions=torch.tensor([[-1]]))
    columns = {
        "$x_2$ " * 20: make_explanation(odd, bad, nothing),
        "\0": make_explanation(odd, bad, nothing, method="b"),
    }
    assert _drawn(side_by_side(columns, notes={"\0": "$1 " * 50})).std() > 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (40, 30)])
def test_pictures_of_any_form(make_explanation, size, theme):
    boxes = segment([0.1, 0.9], name="boxes", kind="boxes")
    picture = Picture(Image.new("RGB", size), Geometry.whole(size), np.array([[0, 0, 1, 1], [0.2, 0.2, 0.4, 0.4]]))
    figure = side_by_side({"a": make_explanation(patches(2, 2, {(0, 0): 1.0}), boxes)}, 0, picture, theme=theme)
    assert _drawn(figure).std() > 0
    assert ("stretched: in truth 1 × 500" in _words(figure)) == (size == (1, 500))


def test_what_cannot_be_compared(make_explanation):
    columns = {"a": make_explanation(segment([1.0]))}
    with pytest.raises(InputError, match="no explanations to compare"):
        side_by_side({})
    with pytest.raises(InputError, match="notes on b; expected notes on a"):
        side_by_side(columns, notes={"b": "x"})
    with pytest.raises(InputError, match="sample 1 is out of range"):
        side_by_side(columns, 1)
    with pytest.raises(UnknownNameError, match="no theme"):
        side_by_side(columns, theme="grey")


def test_notes_keep_their_lines_and_stay_in_their_columns(make_explanation):
    note = "text: agreement 0.73, deletion ↓ 0.54, insertion ↑ 0.57, saco ↑ 0.68\nboxes: agreement 0.72"
    columns = {name: make_explanation(segment([0.1, 0.4])) for name in ("one", "two", "three")}
    figure = side_by_side(columns, notes=dict.fromkeys(columns, note))
    figure.draw_without_rendering()
    noted = [text for text in figure.texts if "agreement" in text.get_text() or "saco" in text.get_text()]
    assert sum(text.get_text().startswith("boxes: ") for text in noted) == 3
    spans = [text.get_window_extent() for text in noted]
    assert not any(a.overlaps(b) for i, a in enumerate(spans) for b in spans[:i])


def test_methods_that_disagree_are_told_under_the_figure(make_explanation):
    def maps(method: str, *values: float):
        return make_explanation(segment(list(values)), patches(2, 2, {(0, 0): 1.0, (0, 1): 0.5}), method=method)

    columns = {
        "a": maps("a", 0.1, 0.2, 0.3, 0.4),
        "b": maps("b", 0.4, 0.3, 0.2, 0.1),
        "c": maps("c", 0.1, 0.2, 0.4, 0.3),
    }
    (told,) = disagreements(columns)
    assert told == "a and b disagree on text: the rank correlation of their maps is -1.00 (1: the same order)"
    assert f"mind: {told}" in _words(side_by_side(columns)).replace("\n", " ")
    assert f"Mind: {told}." in comparison_page(*columns.values())
    assert disagreements({"a": columns["a"], "c": columns["c"]}) == []
    assert disagreements({"a": columns["a"], "again": maps("a", 0.4, 0.3, 0.2, 0.1)}) == [], "of one method"
