"""Maps that are cut to masks, and their figures: by hand, by law, and against torch and scikit-learn."""

import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score

from heedmap.errors import MissingLibraryError, SampleError
from heedmap.evaluate.evidence import (
    AREAS,
    CUTS,
    areas,
    average_precision,
    checked,
    cut,
    listed,
    meant,
    overlap,
    patch_evidence,
    plain,
    pointing,
    share,
    upsampled,
)

EVERYWHERE = np.ones((96, 96), dtype=bool)
CORNER = np.zeros((96, 96), dtype=bool)
CORNER[:48, 32:64] = True


def _rng(seed):
    return np.random.default_rng(seed)


# -- scaling up and cutting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "size"), [((12, 12), (96, 96)), ((14, 14), (224, 224)), ((5, 7), (33, 50)), ((1, 3), (4, 9))]
)
def test_scaling_up_is_bilinear_as_torch_has_it(grid, size):
    values = _rng(0).random(grid)
    own = torch.nn.functional.interpolate(torch.tensor(values)[None, None], size, mode="bilinear")[0, 0]
    assert np.allclose(upsampled(values, size), own, atol=1e-5)
    assert np.array_equal(cut(values, size, "mean"), upsampled(values, size) > upsampled(values, size).mean())


@pytest.mark.parametrize("seed", range(5))
def test_otsu_parts_the_levels_with_the_greatest_variance_between(seed):
    grid = _rng(seed).gamma(0.4, size=(9, 11)) - 0.3
    levels = np.round((grid - grid.min()) / np.ptp(grid) * 255)

    def between(level):
        over = levels > level
        return over.mean() * (1 - over.mean()) * (levels[over].mean() - levels[~over].mean()) ** 2

    best = max(range(int(levels.min()), int(levels.max())), key=between)
    assert np.array_equal(cut(grid, grid.shape, "otsu"), levels > best)


@pytest.mark.parametrize("at", CUTS)
def test_a_map_of_equal_values_is_kept_whole(at):
    assert cut(np.full((7, 7), 0.1), (96, 50), at).all()
    assert cut(np.zeros((1, 1)), (3, 3), at).all()


@pytest.mark.parametrize("at", CUTS)
def test_the_scale_of_a_map_does_not_matter(at):
    grid = _rng(1).random((12, 12))
    assert np.array_equal(cut(grid, (96, 96), at), cut(grid * 64 + 2, (96, 96), at))


@pytest.mark.parametrize("at", CUTS)
def test_a_picture_of_one_pixel(at):
    grid = _rng(2).random((12, 12))
    assert cut(grid, (1, 1), at).shape == (1, 1)
    assert grid.min() < upsampled(grid, (1, 1)).item() < grid.max()


# -- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", CUTS)
def test_a_perfect_map(at):
    grid = CORNER.astype(float)
    found = cut(grid, CORNER.shape, at)
    assert overlap(found, CORNER) == 1
    counts = dict(zip(AREAS, areas(found, CORNER, EVERYWHERE), strict=True))
    assert counts["right"] == counts["pixels"] == CORNER.size
    assert counts["object_shared"] == counts["object_union"] == CORNER.sum()
    assert counts["ground_shared"] == counts["ground_union"] == (~CORNER).sum()
    assert average_precision(grid, CORNER, EVERYWHERE) == 1
    assert pointing(grid.ravel(), CORNER.ravel()) == share(grid.ravel(), CORNER.ravel()) == 1


def test_a_map_that_is_the_mask_by_patches_covers_it():
    grid = patch_evidence(CORNER, (12, 12)).reshape(12, 12)
    assert overlap(cut(grid, CORNER.shape, "otsu"), CORNER) > 0.95
    assert average_precision(upsampled(grid, CORNER.shape), CORNER, EVERYWHERE) > 0.99


@pytest.mark.parametrize("at", CUTS)
def test_a_map_of_all_but_the_object(at):
    grid = 1 - CORNER.astype(float)
    assert overlap(cut(grid, CORNER.shape, at), CORNER) == 0
    assert average_precision(grid, CORNER, EVERYWHERE) == pytest.approx(CORNER.mean())  # all of it in the last rank
    assert pointing(grid.ravel(), CORNER.ravel()) == share(grid.ravel(), CORNER.ravel()) == 0


def test_random_maps_are_as_good_as_chance():
    values = [average_precision(_rng(seed).random((96, 96)), CORNER, EVERYWHERE) for seed in range(10)]
    assert np.mean(values) == pytest.approx(CORNER.mean(), abs=0.01)
    assert average_precision(np.full((96, 96), 0.3), CORNER, EVERYWHERE) == pytest.approx(CORNER.mean())


def test_average_precision_by_hand():
    relevance, mask = np.array([[4.0, 3.0], [2.0, 1.0]]), np.array([[True, False], [True, False]])
    assert average_precision(relevance, mask, np.ones((2, 2), dtype=bool)) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(relevance, mask, np.array([[True, False], [True, True]])) == 1


@pytest.mark.parametrize("seed", range(5))
def test_areas_are_those_of_scikit_learn(seed):
    found, mask, counted = _rng(seed).random((3, 20, 30)) > [[[0.4]], [[0.6]], [[0.2]]]
    right, pixels, *shared = areas(found, mask, counted)
    truth, said = mask[counted], found[counted]
    assert right / pixels == pytest.approx(accuracy_score(truth, said))
    assert shared[0] / shared[1] == pytest.approx(jaccard_score(truth, said))
    assert shared[2] / shared[3] == pytest.approx(jaccard_score(~truth, ~said))
    assert overlap(found, mask) == pytest.approx(jaccard_score(mask.ravel(), found.ravel()))


def test_nothing_overlaps_nothing():
    assert overlap(~EVERYWHERE, ~EVERYWHERE) == 0


# -- what cannot be measured -----------------------------------------------------------------------------------------


def test_a_mask_of_another_size_is_told():
    assert checked(CORNER, (96, 96)) is CORNER
    with pytest.raises(SampleError, match=r"its mask has 96 × 96 pixels, its picture 96 × 97"):
        checked(CORNER, (96, 97))


def test_a_mask_without_pixels_is_told():
    with pytest.raises(SampleError, match="no pixels that count"):
        average_precision(np.ones((96, 96)), CORNER, ~CORNER)


@pytest.mark.parametrize(
    ("library", "use"),
    [
        ("sklearn.metrics", lambda: average_precision(CORNER * 1.0, CORNER, EVERYWHERE)),
        ("skimage.filters", lambda: cut(np.eye(3), (6, 6), "otsu")),
    ],
)
def test_a_missing_library_is_named(monkeypatch, library, use):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match=r"pip install '\.\[eval\]'"):
        use()


# -- labels ----------------------------------------------------------------------------------------------------------


def test_labels_are_the_same_in_other_spellings():
    names = {0: "tench, Tinca tinca", 1: "Dining Table", 2: "red_star", 3: "N/A"}
    there = [plain(one) for one in ("dining-table", "Tinca  tinca", "red star", "cat")]
    assert meant(names, there) == {0: "tinca tinca", 1: "dining table", 2: "red star"}


def test_long_lists_of_labels_are_cut():
    assert listed(["a", "b", "a"]) == "a, b"
    assert listed(map(str, range(30))).endswith("19, … (30 in all)")
    assert listed([]) == "none"
