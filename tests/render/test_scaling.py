import math

import numpy as np
import pytest
from hand_made import segment

from heedmap.render.panels import word_colour, word_map
from heedmap.render.plot import blank
from heedmap.render.sample import sample
from heedmap.render.scaling import scale_of, scale_words, taken_values
from heedmap.render.themes import THEMES
from heedmap.render.tokens import draw_words, placed_words


def test_without_negative_values_it_goes_from_least_to_greatest():
    scale = scale_of([np.array([1.0, 3.0, math.nan]), np.array([2.0, 5.0])])
    assert (scale.low, scale.high, scale.signed) == (1, 5, False)
    assert scale.places(np.array([1, 3, 5, math.nan, 9])).tolist() == [0, 0.5, 1, 0, 1]
    assert scale.strength(np.array([0, 0.5])).tolist() == [0, 0.5]


def test_with_negative_values_zero_is_the_middle():
    scale = scale_of([np.array([-1.0, 4.0])])
    assert (scale.low, scale.high, scale.signed) == (-4, 4, True)
    assert scale.places(np.array([-4, 0, 2, math.inf])).tolist() == [0, 0.5, 0.75, 0.5]
    assert scale.strength(np.array([0, 0.5, 0.75])).tolist() == [1, 0, 0.5]


def test_rounding_errors_do_not_make_a_map_signed():
    assert not scale_of([np.array([-1e-9, 1.0])]).signed
    assert scale_of([np.array([-1e-3, 1.0])]).signed


@pytest.mark.parametrize("values", [[], [math.nan], [2.0, 2.0], [0.0]])
def test_nothing_to_tell_apart(values):
    scale = scale_of([np.array(values)])
    assert scale.places(np.array([2.0, math.nan])).tolist() == [0, 0]


def test_the_words_say_what_was_done():
    def words(values, kind="text"):
        drawn = sample(segment(values))
        return scale_words(drawn, scale_of([taken_values(drawn)]), kind)

    assert words([0.5, 2.0]) == "min–max: 0.5 … 2"
    assert words([-0.5, 2.0]) == "range: -0.5 … 2; colours: ±2 around 0"
    assert words([0.5, 2.0], "audio") == "range: 0.5 … 2"
    assert words([2.0, 2.0], "audio") == "range: 2"
    assert words([math.nan], "audio") == "range: no finite value"


@pytest.mark.parametrize("theme", THEMES.values(), ids=list(THEMES))
@pytest.mark.parametrize("low", [0.0, -1.0])
def test_the_colour_bar_of_words_has_the_colours_of_the_words(theme, low):
    from matplotlib import colormaps

    scale = scale_of([np.array([low, 1.0])])
    found = word_map(scale, theme)
    cmap = colormaps[found] if isinstance(found, str) else found
    for value in (low, 0.3, 1.0):
        assert word_colour(scale, value, theme) == pytest.approx(
            cmap(float(scale.places(np.array(value))))[:3], abs=0.02
        )


def test_a_text_from_the_right_begins_there():
    def first(labels):
        axes = blank(3, 1, THEMES["light"]).add_axes((0, 0, 1, 1))
        draw_words(axes, placed_words(labels, [0, 1, 2], 3), [(1, 1, 1)] * 3, 3, 1, "grey")
        return axes.texts[0].get_position()[0]

    assert first(["one", "two", "three"]) < 1
    assert first(["السلام", "عليكم", "هنا"]) > 2
