import io
import sys

import numpy as np
import pytest
import torch
from hand_made import patches, segment
from PIL import Image

from heedmap.errors import InputError
from heedmap.render.fonts import drawable
from heedmap.render.plot import plot


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
    assert titles[0] == "text · min–max: 0 … 0.4"
    assert titles[4].endswith("the top 40 of 100")


def test_bars_have_the_values_and_labels_in_reading_order(make_explanation):
    (axes,) = plot(make_explanation(segment([0.1, -0.4, 0.2], labels=(("a", "b$", "c$"),)))).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.1, -0.4, 0.2])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b$", "c$"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_image_lies_under_the_map(make_explanation, photo):
    explanation = make_explanation(patches(2, 3, {(0, 0): 1.0}))
    (axes,) = plot(explanation, image=photo).axes
    assert axes.images[0].get_array().shape == (60, 90, 3)
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


def test_no_global_state(all_kinds):
    import matplotlib

    backend = matplotlib.rcParams["backend"]
    plot(all_kinds)
    assert matplotlib.rcParams["backend"] == backend
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_no_such_sample(all_kinds):
    with pytest.raises(InputError, match="sample 1"):
        plot(all_kinds, 1)
