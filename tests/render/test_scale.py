import itertools
import math
import re

import numpy as np
import pytest
import torch
from hand_made import patches, segment

from heedmap.render.figure_layout import blank
from heedmap.render.html import style
from heedmap.render.panels import draw_words, placed_words, word_colour, word_map
from heedmap.render.sample import sample
from heedmap.render.scale import (
    AROUND_ZERO,
    FROM_ZERO,
    MIN_MAX,
    STEPS,
    THEMES,
    joined,
    one_unit,
    scale_of,
    shares,
    start_of,
    step_class,
    tint,
    token_scale,
)


def _luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# -- where a scale starts ----------------------------------------------------------------------------------------------


def test_from_0_twice_the_value_is_twice_as_far_up():
    used = scale_of([0.1, 0.2, 0.4])
    assert [used.css_class(v) for v in (0.0, 0.1, 0.2, 0.4)] == [
        step_class(n) for n in (0, STEPS // 4, STEPS // 2, STEPS)
    ]
    assert used.about() == "from 0: 0 … 0.4; values: 0.1 … 0.4"


def test_min_max_goes_from_least_to_greatest():
    used = scale_of([1.0, 3.0, math.nan, 2.0, 5.0], MIN_MAX)
    assert (used.low, used.high, used.signed, used.kind) == (1, 5, False, MIN_MAX)
    assert used.places(np.array([1, 3, 5, math.nan, 9])).tolist() == [0, 0.5, 1, 0, 1]
    assert used.strength(np.array([0, 0.5])).tolist() == [0, 0.5]
    assert used.about() == "min–max: 1 … 5; not finite, without a colour: 1"


@pytest.mark.parametrize("start", [FROM_ZERO, MIN_MAX])
def test_with_negative_values_0_is_the_middle(start):
    used = scale_of([-1.0, 4.0], start)
    assert (used.low, used.high, used.signed, used.kind) == (-4, 4, True, AROUND_ZERO)
    assert used.places(np.array([-4, 0, 2, math.inf])).tolist() == [0, 0.5, 0.75, 0.5]
    assert used.strength(np.array([0, 0.5, 0.75])).tolist() == [1, 0, 0.5]
    assert (used.share(-4), used.share(2), used.share(math.nan)) == (-1, 0.5, 0)
    assert used.about() == "around 0: ±4; values: -1 … 4"
    assert tint(-1)[0] != tint(1)[0]


def test_patches_are_min_max_scaled_and_all_else_goes_from_0():
    assert start_of(patches(1, 2, {})) == MIN_MAX
    for kind in ("text", "boxes", "audio", "tokens"):
        assert start_of(segment([1.0, 2.0], kind=kind)) == FROM_ZERO


def test_rounding_errors_do_not_make_a_map_signed():
    assert not scale_of([-1e-9, 1.0]).signed
    assert scale_of([-1e-9, 1.0]).places(np.array([-1e-9])).tolist() == [0]
    assert scale_of([-1e-3, 1.0]).signed


@pytest.mark.parametrize("start", [FROM_ZERO, MIN_MAX])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "took in none"),
        ([0.0, 0.0], "nothing to show: every finite value is 0"),
        ([math.nan, math.inf], "none of the 2 values is finite"),
    ],
)
def test_nothing_to_show(start, values, words):
    used = scale_of(values, start)
    assert used.places(np.array([2.0, math.nan])).tolist() == [0, 0]
    assert (used.share(1.0), used.empty) == (0, True)
    assert words in used.about()


def test_equal_values_are_told_apart_from_0_only():
    assert scale_of([2.0, 2.0], MIN_MAX).about() == "all equal: 2"
    assert scale_of([2.0, 2.0], MIN_MAX).share(2.0) == 0
    assert scale_of([2.0, 2.0]).share(2.0) == 1


def test_values_that_are_not_finite_are_told_and_have_no_colour():
    used = scale_of([math.inf, 1.0, math.nan])
    assert used.css_class(math.inf) == used.css_class(math.nan) == ""
    assert "not finite, without a colour: 2" in used.about()


def test_great_values_do_not_overflow():
    assert scale_of([-3e38, 3e38]).places(np.array([-3e38, 3e38])).tolist() == [0, 1]


def test_ends_that_lie_close_are_written_so_that_they_differ():
    assert scale_of([0.5, 0.500001], MIN_MAX).about() == "min–max: 0.5 … 0.500001"


def test_what_the_model_did_not_take_in_sets_no_scale():
    given = segment([0.5, 1.0, 9.0], positions=torch.tensor([[0, 1, -1]]))
    assert token_scale(given, sample(given)).high == 1


# -- several maps on one scale -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "share"), [(FROM_ZERO, 0.25), (MIN_MAX, 0.0)])
def test_a_shared_scale_spans_all_maps_and_says_what_each_has(start, share):
    small, large = scale_of([0.5], start), scale_of([2.0], start)
    both = joined([small, large])
    assert (both.share(0.5), both.share(2.0)) == (share, 1)
    assert both.about(small).endswith(" … 2, shared by the maps on this page; values: 0.5")
    assert not joined([small]).shared


def test_one_map_with_negative_values_makes_a_shared_scale_signed():
    both = joined([scale_of([0.0, 1.0]), scale_of([-3.0, 1.0]), scale_of([math.nan])])
    assert (both.low, both.high, both.bad, both.count) == (-3, 3, 1, 5)


def test_shares_sum_to_one_and_leave_the_rest(make_explanation):
    given = segment([1.0, -3.0, math.nan, 9.0], positions=torch.tensor([[0, 1, 2, -1]]))
    found = shares(make_explanation(given, patches(1, 2, {}, rest=0.0)))
    assert found["text"][0, :2].tolist() == [0.25, -0.75]
    assert found["image"].tolist() == [[0, 0]]
    assert given.relevance[0, 1] == -3


def test_one_unit_is_one_method_with_the_same_options(make_explanation):
    first = make_explanation(segment([1.0]))
    assert one_unit([first, first])
    assert not one_unit([first, make_explanation(segment([1.0]), method="rollout")])
    assert not one_unit([first, make_explanation(segment([1.0]), options={"normalize": False})])


# -- colours -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("night", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("step", range(-STEPS, STEPS + 1))
def test_ink_can_be_read_on_every_ground(step, night):
    dark, light = sorted(map(_luminance, tint(step / STEPS, dark=night)))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_on_a_dark_page_more_relevance_is_brighter():
    levels = [_luminance(tint(step / STEPS, dark=True)[0]) for step in range(STEPS + 1)]
    assert levels[-1] > 10 * levels[0]
    assert all(after > before - 0.005 for before, after in itertools.pairwise(levels))


def test_a_class_for_every_step():
    rules = re.findall(
        r"\.heedmap \.([sn]\d+)\{--c:light-dark\(#\w{6},#\w{6}\);--k:light-dark\(#\w{6},#\w{6}\)\}", style()
    )
    assert len(set(rules)) == len(rules) == 2 * STEPS
    assert {scale_of([-1.0, 1.0]).css_class(value) for value in (-1.0, 0.5)} <= set(rules)


@pytest.mark.parametrize("theme", THEMES.values(), ids=list(THEMES))
@pytest.mark.parametrize("low", [0.0, -1.0])
def test_the_colour_bar_of_words_has_the_colours_of_the_words(theme, low):
    from matplotlib import colormaps

    used = scale_of([low, 1.0])
    found = word_map(used, theme)
    cmap = colormaps[found] if isinstance(found, str) else found
    for value in (low, 0.3, 1.0):
        assert word_colour(used, value, theme) == pytest.approx(cmap(float(used.places(np.array(value))))[:3], abs=0.02)


def test_a_text_from_the_right_begins_there():
    def first(labels):
        axes = blank(3, 1, THEMES["light"]).add_axes((0, 0, 1, 1))
        draw_words(axes, placed_words(labels, [0, 1, 2], 3), [(1, 1, 1)] * 3, 3, 1, "grey")
        return axes.texts[0].get_position()[0]

    assert first(["one", "two", "three"]) < 1
    assert first(["السلام", "عليكم", "هنا"]) > 2
