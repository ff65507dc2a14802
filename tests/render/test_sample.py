import math

import numpy as np
import pytest
import torch
from hand_made import segment

from heedmap.errors import HeedmapError
from heedmap.render.sample import sample, visible


def test_shares_are_min_max_scaled_and_the_scale_is_told():
    drawn = sample(segment([-1.0, 0.0, 3.0]))
    assert drawn.share.tolist() == [0.0, 0.25, 1.0]
    assert drawn.caption == "min–max: -1 … 3"


def test_a_narrow_scale_shows_its_two_ends():
    assert sample(segment([0.5, 0.500001])).caption == "min–max: 0.5 … 0.500001"


@pytest.mark.parametrize("value", [0.0, 2.5, -3.0])
def test_equal_values_stand_out_nowhere(value):
    drawn = sample(segment([value] * 4))
    assert drawn.share.tolist() == [0.0] * 4
    assert drawn.caption == f"all equal: {value:.3g}"


def test_values_that_are_not_finite_are_counted_and_scale_nothing():
    drawn = sample(segment([math.nan, 1.0, math.inf, 2.0]))
    assert drawn.share.tolist() == [0.0, 0.0, 0.0, 1.0]
    assert drawn.caption.endswith("not finite: 2")
    assert drawn.top(9) == [3, 1]


def test_extreme_values_do_not_overflow():
    share = sample(segment([-3e38, 3e38])).share
    assert share.tolist() == [0.0, 1.0]


def test_tokens_not_taken_in_do_not_set_the_scale():
    drawn = sample(segment([5.0, 6.0, 0.0], positions=torch.tensor([[0, 1, -1]])))
    assert drawn.shown == [0, 1]
    assert drawn.share.tolist() == [0.0, 1.0, 0.0]


def test_nothing_taken_in():
    drawn = sample(segment([0.0], positions=torch.tensor([[-1]])))
    assert drawn.shown == []
    assert "none" in drawn.caption


def test_labels_fall_back_to_positions():
    assert sample(segment([1.0, 2.0])).labels == ("0", "1")
    assert sample(segment([1.0, 2.0], labels=(("cat",),))).labels == ("cat", "1")


def test_sample_counts_from_either_end_and_names_the_range():
    two = segment([1.0], relevance=torch.tensor([[1.0], [2.0]]), positions=torch.zeros(2, 1, dtype=torch.long))
    assert sample(two, 1).values.tolist() == sample(two, -1).values.tolist() == [2.0]
    with pytest.raises(HeedmapError, match=r"sample 2 .* batch has 2"):
        sample(two, 2)


def test_half_precision_is_drawn_too():
    half = segment([1.0, 2.0], relevance=torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16))
    assert sample(half).values.dtype == np.float64


def test_everything_unprintable_becomes_visible():
    assert visible("a\0b") == "a␀b"
    assert visible("\x1b[31m") == "␛[31m"
    assert visible("\x7f\u202e\ud800\x9b") == "␡���"
    assert visible("") == "∅"
    assert visible("  ") == "␣␣"
    assert visible("👩‍👧 naïve 中文 السلام") == "👩‍👧 naïve 中文 السلام"
