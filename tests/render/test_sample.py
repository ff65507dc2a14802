import math

import numpy as np
import pytest
import torch
from hand_made import segment

from heedmap.common.printable import visible
from heedmap.errors import HeedmapError
from heedmap.render.sample import sample


def test_what_is_not_finite_or_not_taken_in_is_not_known():
    drawn = sample(segment([math.nan, 1.0, math.inf, 2.0, 5.0], positions=torch.tensor([[0, 1, 2, 3, -1]])))
    assert np.isnan(drawn.known).tolist() == [True, False, True, False, True]
    assert drawn.top(9) == [3, 1]
    assert drawn.shown == [0, 1, 2, 3]


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
