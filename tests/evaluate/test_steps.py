import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedmap.errors import OptionError
from heedmap.evaluate.experiments.perturbation import PRESETS, preset_of
from heedmap.evaluate.faithfulness import area, kept, removed


@pytest.mark.parametrize(
    ("percent", "tokens", "expected"),
    [(90, 10, 9), (25, 36, 9), (80, 5, 4), (99, 100, 99), (50, 7, 3), (0, 9, 0), (100, 9, 9), (95, 36, 34)],
)
def test_counts_are_exact(percent: int, tokens: int, expected: int) -> None:
    assert removed(percent, tokens) == expected


@given(st.integers(0, 100), st.integers(0, 500))
def test_counts_are_the_share_rounded_down(percent: int, tokens: int) -> None:
    assert removed(percent, tokens) == percent * tokens // 100


def first_gone(relevance: np.ndarray, key: str, seed: int = 0) -> int:
    """The token that goes first."""
    free = np.ones(len(relevance), dtype=bool)
    return int(kept(relevance, free, (100 // len(relevance) + 1,), key, seed)[0, 0].argmin())


def test_the_order_is_that_of_relevance() -> None:
    assert first_gone(np.array([0.1, 0.9, 0.5]), "a") == 1


def test_equal_relevance_has_no_favourite_place() -> None:
    assert {first_gone(np.zeros(4), str(key)) for key in range(60)} == {0, 1, 2, 3}
    free = np.ones(9, dtype=bool)
    np.testing.assert_array_equal(*(kept(np.zeros(9), free, range(0, 100, 10), "key", 3) for _ in range(2)))


def test_only_free_tokens_go_and_the_most_relevant_first() -> None:
    free = np.array([False, True, True, True, True])
    there = kept(np.array([9.0, 1, 4, 3, 2]), free, (0, 50, 100), "a", 0)
    assert there[0].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 1], [1, 0, 0, 0, 0]]
    assert there[1].tolist() == [[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [1, 0, 0, 0, 0]]


@given(st.permutations(range(8)))
def test_a_reversed_ranking_swaps_positive_and_negative(ranks: list[int]) -> None:
    relevance, free = np.array(ranks, dtype=float), np.ones(8, dtype=bool)
    steps = PRESETS["lxmert"].steps["text"]
    np.testing.assert_array_equal(kept(relevance, free, steps, "a", 0)[::-1], kept(-relevance, free, steps, "a", 0))


def test_the_area_is_the_trapezoid_rule() -> None:
    assert area(np.array([1.0, 0.5, 0.0]), [0, 0.5, 1]) == pytest.approx(0.5)
    assert area(np.array([1.0, 1.0, 0.0]), [0, 0.8, 1]) == pytest.approx(0.9)
    assert area(np.ones((3, 2)), [0, 0.9]).tolist() == pytest.approx([0.9] * 3)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match="lxmert, visualbert, vit, tenths"):
        preset_of("vgg", None)
