"""Figures of maps by hand and by law, against models that are sums."""

import numpy as np
import pytest

from heedmap.common.ranks import spearman
from heedmap.evaluate.faithfulness import NEGATIVE, POSITIVE, area, change, coefficient, deletion, overlap, ranked, saco


def sums(weights):
    """A model whose probability is the sum of the kept tokens' weights, (batch, tokens)."""
    return lambda kept: (kept * weights).sum(-1)


@pytest.fixture
def weights():
    return np.random.default_rng(0).random((5, 30))


def everything(weights):
    return np.ones(weights.shape, dtype=bool)


# -- SaCo --------------------------------------------------------------------------------------------------------------


def test_saco_by_hand():
    # pairs (3, 2): falls 0.5 ≥ 0.1, +1; (3, 1): +2; (2, 1): 0.1 < 0.3, −1
    assert coefficient(np.array([3.0, 2.0, 1.0]), np.array([0.5, 0.1, 0.3])) == pytest.approx(2 / 4)
    assert coefficient(np.array([3.0, 1.0]), np.array([-0.2, -0.1])) == -1


def test_equal_falls_speak_for_the_map_and_equal_salience_for_nothing():
    assert coefficient(np.array([2.0, 1.0]), np.array([0.1, 0.1])) == 1
    assert coefficient(np.array([1.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.5])) == pytest.approx((-1 + 1) / 2)
    assert coefficient(np.full(10, 0.3), np.arange(10.0)) == 0
    assert coefficient(np.zeros(0), np.zeros(0)) == 0


def test_a_true_map_has_one_and_its_reverse_minus_one(weights):
    free = everything(weights)
    assert saco(weights, free, sums(weights)) == pytest.approx(np.ones(5))
    assert saco(-weights, free, sums(weights)) == pytest.approx(-np.ones(5))


def test_random_maps_have_nothing_on_average(weights):
    drawn = np.random.default_rng(1)
    figures = [saco(drawn.random(weights.shape), everything(weights), sums(weights)) for _ in range(100)]
    assert abs(np.mean(figures)) < 0.05
    assert np.std(figures) > 0.1


def test_tokens_that_do_not_divide_into_groups(weights):
    free = everything(weights)
    free[:, 23:] = False
    assert saco(weights, free, sums(weights)) == pytest.approx(np.ones(5))
    free[:, 3:] = False
    assert saco(weights, free, sums(weights)) == pytest.approx(np.ones(5))
    free[1] = False
    assert saco(weights, free, sums(weights))[1] == 0


def test_maps_of_equal_relevance_claim_nothing(weights):
    assert saco(np.full_like(weights, 0.2), everything(weights), sums(weights)).tolist() == [0] * 5


def test_only_one_group_is_masked_at_a_time(weights):
    seen = []

    def drop(kept):
        seen.append(kept)
        return sums(weights)(kept)

    free = everything(weights)
    free[:, :10] = False
    saco(weights, free, drop, groups=5)
    (kept,) = seen
    assert kept[0].all()
    assert ((~kept).sum(0)[:, 10:] == 1).all()
    assert kept[:, :, :10].all()
    assert ((~kept[1:]).sum(-1) == 4).all()


# -- deletion ----------------------------------------------------------------------------------------------------------


def test_a_true_map_falls_faster_than_its_reverse(weights):
    free = everything(weights)
    true, reverse = (area(deletion(sign * weights, free, sums(weights))) for sign in (1, -1))
    assert (true[POSITIVE] < reverse[POSITIVE]).all()
    assert (true[NEGATIVE] > reverse[NEGATIVE]).all()
    assert true[POSITIVE] == pytest.approx(reverse[NEGATIVE])


def test_curves_begin_with_all_and_end_with_what_may_not_go(weights):
    free = everything(weights)
    free[:, 20:] = False
    curves = deletion(weights, free, sums(weights), steps=7)
    assert curves.shape == (2, 5, 8)
    for sign in (POSITIVE, NEGATIVE):
        assert curves[sign, :, 0] == pytest.approx(weights.sum(1))
        assert curves[sign, :, -1] == pytest.approx(weights[:, 20:].sum(1))
        assert (np.diff(curves[sign]) <= 1e-12).all()


def test_a_batch_is_its_samples_one_by_one(weights):
    relevance, free = np.random.default_rng(2).random(weights.shape).round(1), everything(weights)
    free[1, 12:] = False
    curves, figures = deletion(relevance, free, sums(weights)), saco(relevance, free, sums(weights))
    for i in range(5):
        own = slice(i, i + 1), slice(0, int(free[i].sum()))
        alone = relevance[own], free[own], sums(weights[own])
        rest = weights[i][~free[i]].sum()
        assert deletion(*alone)[:, 0] + rest == pytest.approx(curves[:, i])
        assert saco(*alone) == pytest.approx(figures[[i]])


def test_areas_by_hand():
    assert area(np.array([1.0, 0.5, 0.0])) == 0.5
    assert area(np.array([[1.0, 1.0], [1.0, 0.0]])).tolist() == [1, 0.5]


# -- two maps ----------------------------------------------------------------------------------------------------------


def test_rank_correlations():
    from scipy.stats import spearmanr

    drawn = np.random.default_rng(3)
    a, b = drawn.random(40).round(1), drawn.random(40).round(1)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(a, np.exp(a)) == pytest.approx(1)
    assert spearman(a, -a) == pytest.approx(-1)


def test_constant_maps_are_like_each_other_and_like_no_other():
    assert spearman(np.zeros(4), np.ones(4)) == 1
    assert spearman(np.zeros(4), np.arange(4.0)) == spearman(np.arange(4.0), np.ones(4)) == 0


def test_overlap_of_the_most_relevant():
    a, b = np.arange(20.0), np.arange(20.0)
    b[[17, 19]] = 0
    assert overlap(a, a) == 1
    assert overlap(a, b) == 0.5  # 19 and 18 against 18 and 16
    assert overlap(a, -a) == 0
    assert overlap(np.array([1.0, 2.0]), np.array([0.0, 2.0])) == 1


def test_change_is_relative():
    assert change(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == pytest.approx(0.1)
    assert change(np.zeros(2), np.zeros(2)) == 0
    assert change(np.zeros(2), np.ones(2)) == 1


def test_ties_are_drawn_by_the_seed():
    values = np.array([1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    orders = {tuple(ranked(values, seed)) for seed in range(5)}
    assert len(orders) > 1
    assert all(order[0] == 1 and sorted(order) == list(range(7)) for order in orders)
    assert ranked(values).tolist() == [1, 0, 2, 3, 4, 5, 6]
