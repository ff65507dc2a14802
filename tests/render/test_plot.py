import io
import pickle
import sys

import numpy as np
import pytest
import torch
from hand_made import patches, segment
from PIL import Image

from heedmap.data.picture import Geometry, Picture
from heedmap.errors import InputError, OptionError, UnknownNameError
from heedmap.render.figure import plot
from heedmap.render.panels import drawable
from heedmap.render.scale import THEMES


def _drawn(figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    return np.asarray(Image.open(buffer))


def test_every_kind_is_drawn_without_a_warning(all_kinds):
    figure = plot(all_kinds)
    assert len(figure.axes) == 5
    assert _drawn(figure).std() > 0


def test_the_scale_is_written_on_each_panel(all_kinds):
    titles = [axes.get_title() for axes in plot(all_kinds).axes]
    assert titles[0] == "text · from 0: 0 … 0.4"
    assert "around 0: ±7.9; values: -2 … 7.9" in titles[4].replace("\n", " ")
    assert plot(all_kinds).axes[4].get_xlabel() == "relevance: the strongest 40 of 100"


def test_bars_have_the_values_and_labels_in_reading_order(make_explanation):
    (axes,) = plot(make_explanation(segment([0.1, -0.4, 0.2], labels=(("a", "b$", "c$"),))), bars=True).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.1, -0.4, 0.2])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b$", "c$"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_of_many_signed_bars_the_strongest_are_drawn_whatever_their_sign(make_explanation):
    values = [-5.0, *(0.01 * i for i in range(60)), -4.0]
    (axes,) = plot(make_explanation(segment(values, name="queries", kind="tokens"))).axes
    widths = [bar.get_width() for bar in axes.patches]
    assert len(widths) == 40
    assert (widths[0], widths[-1]) == (-5, -4)
    assert min(widths[1:-1]) == pytest.approx(0.22)


def test_image_lies_under_the_map(make_explanation, photo):
    explanation = make_explanation(patches(2, 3, {(0, 0): 1.0}))
    (axes,) = plot(explanation, image=photo).axes
    assert axes.images[0].get_array().shape == (420, 630, 3)  # seven times as large
    (bar,) = axes.child_axes
    assert bar.get_ylim() == (0, 1)
    (axes,) = plot(explanation).axes
    assert axes.images[0].get_array().shape == (2, 3)


@pytest.mark.parametrize("value", [0.0, float("nan"), -1.0])
def test_constant_and_undefined_values(make_explanation, value):
    kinds = [segment([value] * 4), patches(2, 2, {}, rest=value), segment([value] * 4, name="audio", kind="audio")]
    assert len(plot(make_explanation(*kinds)).axes) == 3
    _drawn(plot(make_explanation(*kinds)))


def test_nothing_taken_in(make_explanation):
    assert _drawn(plot(make_explanation(segment([0.0], positions=torch.tensor([[-1]]))))).std() > 0


def test_long_and_undrawable_labels(make_explanation):
    long = segment([1.0, 2.0], labels=(("x" * 500, "\U0001f9ff\U000e0041"),))
    _drawn(plot(make_explanation(long, target=("y" * 900,))))
    assert drawable("a\U000e0041") == "a\ufffd"


def test_a_figure_can_be_pickled(all_kinds):
    again = pickle.loads(pickle.dumps(plot(all_kinds)))
    assert (_drawn(again) == _drawn(plot(all_kinds))).all()


def test_no_global_state(all_kinds):
    import matplotlib

    backend = matplotlib.rcParams["backend"]
    plot(all_kinds)
    assert matplotlib.rcParams["backend"] == backend
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


@pytest.mark.parametrize("name", THEMES)
def test_themes(all_kinds, photo, name):
    drawn = _drawn(plot(all_kinds, image=photo, theme=name))[..., :3]
    dark = drawn[0, 0].max() < 60
    assert dark == (name == "dark")
    assert (drawn.max() - drawn.min()) > 200
    with pytest.raises(UnknownNameError, match="no theme 'grey'; known themes: light, dark"):
        plot(all_kinds, theme="grey")


def test_boxes_lie_at_their_places_with_their_relevance(make_explanation, photo):
    places = np.array([[0, 0, 0.5, 0.5], [0.5, 0.25, 1, 0.75], [0.2, 0.2, 0.3, 0.3]])
    picture = Picture(photo, Geometry.whole(photo.size), places, {"cat 0.9": (0.1, 0.1, 0.2, 0.2)}, "a note")
    boxes = segment([0.05, 0.9, 0.01], name="boxes", kind="boxes", labels=(("dog", "ca$t", "x"),))
    (axes,) = plot(make_explanation(boxes), image=picture).axes
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    assert width / height == pytest.approx(1.5)
    filled = [(*patch.get_xy(), patch.get_width()) for patch in axes.patches if patch.get_facecolor()[3] > 0]
    assert filled[-1] == pytest.approx((0.5 * width, 0.25 * height, 0.5 * width))
    assert [text.get_text() for text in axes.texts] == ["ca$t 0.9"]
    assert axes.get_xlabel() == "the 1 strongest of 3 are named · a note"
    (axes,) = plot(make_explanation(patches(2, 3, {(0, 0): 1.0})), image=picture).axes
    assert [text.get_text() for text in axes.texts] == ["cat 0.9"]


def test_what_the_reader_has_to_know_is_written_under_the_picture(make_explanation, photo):
    cropped = Picture(photo, Geometry((2.0, 2.0), (15.0, 0.0), (30, 30), (90, 60)))
    (axes,) = plot(make_explanation(patches(2, 2, {(0, 0): 1.0})), image=cropped, contour=True).axes
    words = axes.get_xlabel().replace("\n", " ")
    for told in ("faded: not seen", "opacity follows relevance", "colours muted", "Otsu's threshold"):
        assert told in words


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (9, 4)])
def test_pictures_of_any_form(make_explanation, size):
    image = Image.new("RGB", size)
    assert _drawn(plot(make_explanation(patches(2, 3, {(0, 0): 1.0})), image=image)).std() > 0


def test_greyscale_pictures_and_what_is_no_picture(make_explanation):
    explanation = make_explanation(patches(2, 3, {(0, 0): 1.0}))
    assert _drawn(plot(explanation, image=Image.new("L", (9, 9)))).std() > 0
    with pytest.raises(InputError, match="the image is a ndarray"):
        plot(explanation, image=np.zeros((9, 9)))


def test_no_such_colour_map(make_explanation, photo):
    for image in (photo, None):
        with pytest.raises(OptionError, match=r"no colour map 'none such'; try inferno"):
            plot(make_explanation(patches(2, 3, {(0, 0): 1.0})), image=image, cmap="none such")


def test_no_such_sample(all_kinds):
    with pytest.raises(InputError, match="sample 1"):
        plot(all_kinds, 1)


def test_a_figure_is_as_wide_as_asked_in_proportion(all_kinds):
    own, asked = plot(all_kinds, title=False), plot(all_kinds, width=4.6, dpi=50, title=False)
    shrunk = 4.6 / own.get_figwidth()
    assert asked.get_size_inches() == pytest.approx(own.get_size_inches() * shrunk)
    assert asked.axes[0].title.get_fontsize() == pytest.approx(own.axes[0].title.get_fontsize() * shrunk)
    assert (asked.dpi, asked.get_suptitle(), bool(plot(all_kinds).get_suptitle())) == (50, "", True)
    assert _drawn(asked).std() > 0


@pytest.mark.parametrize(
    "option", [{"width": 0}, {"width": float("inf")}, {"dpi": -1}, {"dpi": "many"}, {"width": 900, "dpi": 900}]
)
def test_sizes_that_are_none(all_kinds, option):
    with pytest.raises(OptionError, match=next(iter(option))):
        all_kinds.plot(**option)


def test_an_option_that_no_figure_has(all_kinds, photo):
    with pytest.raises(OptionError, match=r"no option 'widht'.*did you mean 'width'"):
        all_kinds.plot(widht=3)
    with pytest.raises(OptionError, match=r"no option 'aplha'.*did you mean 'alpha'"):
        all_kinds.overlay(photo, aplha=1)
    with pytest.raises(UnknownNameError, match="known themes: light, dark"):
        all_kinds.plot(theme=None)


def test_a_text_is_drawn_by_its_words_as_everywhere(make_explanation):
    text = segment([0.1, 0.2, 0.4], labels=(("un", "do", "it"),), boundaries=("w+w",))
    assert [text.get_text() for text in plot(make_explanation(text)).axes[0].texts] == ["undo", "it"]
    (axes,) = plot(make_explanation(text), bars=True).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["undo", "it"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.3, 0.4])


def test_names_of_boxes_cover_none_of_each_other(make_explanation, photo):
    places = np.array([[0.30, 0.30, 0.60, 0.7], [0.32, 0.32, 0.6, 0.7], [0.34, 0.34, 0.6, 0.7], [0.31, 0.35, 0.6, 0.7]])
    names = ("a long name of a box", "another long name", "a third long name", "and one more")
    boxes = segment([0.9, 0.8, 0.7, 0.6], name="boxes", kind="boxes", labels=(names,))
    figure = plot(make_explanation(boxes), image=Picture(photo, Geometry.whole(photo.size), places))
    figure.draw_without_rendering()
    spans = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(spans) == 4
    assert not any(a.overlaps(b) for i, a in enumerate(spans) for b in spans[:i])
