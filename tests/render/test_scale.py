import math

import pytest

from heedmap.render.scale import STEPS, joined, scale, steps_style, tint


def _luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_twice_the_value_is_twice_as_far_up():
    used = scale([0.1, 0.2, 0.4])
    assert [used.step(v) for v in (0.0, 0.1, 0.2, 0.4)] == [0, STEPS // 4, STEPS // 2, STEPS]
    assert used.about() == "colour: 0 … 0.4; values: 0.1 … 0.4"


def test_negative_values_go_the_other_way():
    used = scale([-0.5, 0.25])
    assert (used.share(-0.5), used.share(0.25), used.signed) == (-1.0, 0.5, True)
    assert used.about().startswith("colour: -0.5 … 0 … 0.5")
    assert tint(-1)[0] != tint(1)[0]


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [math.nan]])
def test_nothing_to_show(values):
    used = scale(values)
    assert used.share(1.0) == 0.0
    assert "nothing to show" in used.about()


def test_values_that_are_not_finite_are_told_and_have_no_colour():
    used = scale([math.inf, 1.0, math.nan])
    assert used.step(math.inf) == used.step(math.nan) == 0
    assert "not finite, left white: 2" in used.about()


def test_a_shared_scale_is_that_of_the_largest_and_says_what_each_map_has():
    small, large = scale([0.5]), scale([2.0])
    both = joined([small, large])
    assert both.share(0.5) == 0.25
    assert both.about(small) == "colour: 0 … 2, shared by the maps on this page; values: 0.5 … 0.5"
    assert not joined([small]).shared


@pytest.mark.parametrize("step", range(-STEPS, STEPS + 1))
def test_ink_can_be_read_on_every_ground(step):
    dark, light = sorted(map(_luminance, tint(step / STEPS)))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_a_class_for_every_step():
    assert steps_style().count("--c:") == 2 * STEPS
