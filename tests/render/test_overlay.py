import math

import numpy as np
import pytest
import torch
from hand_made import patches, segment
from PIL import Image

from heedmap.errors import InputError, OptionError
from heedmap.render.colours import PICTURE, table
from heedmap.render.overlay import heat_grid, overlay


def _difference(image: Image.Image, result: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(result).astype(int) - np.asarray(image.convert("RGB")).astype(int)).sum(-1)


@pytest.mark.parametrize(("rows", "columns", "row", "column"), [(2, 3, 1, 2), (3, 2, 0, 1), (1, 5, 0, 3), (7, 4, 6, 0)])
def test_the_hot_patch_lands_on_its_pixels(rows, columns, row, column):
    image = Image.new("RGB", (columns * 20, rows * 20), (0, 0, 200))
    change = _difference(image, overlay(image, patches(rows, columns, {(row, column): 1.0})))
    hottest = np.argwhere(change == change.max())
    assert (hottest[:, 0] // 20 == row).all()
    assert (hottest[:, 1] // 20 == column).all()
    centre = change[row * 20 + 10, column * 20 + 10]
    assert centre > 0.9 * change.max()


def test_size_is_the_images_and_the_image_is_left_alone(photo):
    before = photo.tobytes()
    result = overlay(photo, patches(2, 3, {(0, 0): 1.0}))
    assert (result.size, result.mode) == (photo.size, "RGB")
    assert photo.tobytes() == before


def test_what_does_not_matter_is_not_covered(photo):
    change = _difference(photo, overlay(photo, patches(2, 3, {(0, 0): 1.0})))
    assert change[:, 70:].max() == 0


def test_alpha_is_the_opacity_of_the_hottest_place(photo):
    hot = patches(1, 1, {}, rest=1.0)
    assert _difference(photo, overlay(photo, hot)).max() == 0
    pair = patches(1, 2, {(0, 1): 1.0})
    opaque = np.asarray(overlay(photo, pair, alpha=1.0))
    assert (opaque[:, -1] == table(PICTURE)[255]).all()
    assert _difference(photo, overlay(photo, pair, alpha=0.0)).max() == 0


def test_upsampling_is_bilinear():
    black = Image.new("RGB", (40, 10))
    red = np.asarray(overlay(black, patches(1, 2, {(0, 1): 1.0}), alpha=1.0, cmap="gray"))[5, :, 0]
    share = np.sqrt(red / 255)  # gray level times opacity, both the share
    expected = ((np.arange(40) + 0.5) / 20 - 0.5).clip(0, 1)
    assert np.abs(share - expected).max() < 0.03


@pytest.mark.parametrize("values", [[0.0] * 6, [0.7] * 6, [math.nan] * 6, [math.inf] * 6])
def test_values_with_nothing_to_show_leave_the_image(photo, values):
    blank = segment(values, name="image", kind="image", grid=(2, 3))
    assert _difference(photo, overlay(photo, blank)).max() == 0


def test_negative_relevance_and_nan_are_safe(photo):
    odd = segment([-5.0, -4.0, math.nan, -4.5, -5.0, -3.0], name="image", kind="image", grid=(2, 3))
    change = _difference(photo, overlay(photo, odd))
    y, x = np.unravel_index(change.argmax(), change.shape)
    assert (y // 30, x // 30) == (1, 2)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_images_of_any_mode(photo, mode):
    assert overlay(photo.convert(mode), patches(2, 3, {(0, 0): 1.0})).mode == "RGB"


def test_image_smaller_than_the_grid():
    assert overlay(Image.new("RGB", (2, 1)), patches(8, 8, {(0, 0): 1.0})).size == (2, 1)


def test_second_sample():
    two = patches(1, 2, {})
    two = segment(
        [0.0],
        grid=(1, 2),
        relevance=torch.tensor([[0.0, 1.0], [1.0, 0.0]]),
        positions=two.positions.expand(2, 2),
    )
    change = _difference(Image.new("RGB", (40, 10)), overlay(Image.new("RGB", (40, 10)), two, 1))
    assert change[:, :5].min() > change[:, -5:].max()


def test_what_cannot_be_laid_over_says_why(photo):
    with pytest.raises(InputError, match=r"'text' .* has no grid"):
        overlay(photo, segment([1.0]))
    with pytest.raises(InputError, match=r"5 tokens.* 2 rows and 3 columns"):
        overlay(photo, segment([1.0] * 5, grid=(2, 3)))
    with pytest.raises(InputError, match="sample 3"):
        overlay(photo, patches(1, 1, {}), 3)
    with pytest.raises(InputError, match="ndarray"):
        overlay(np.zeros((4, 4, 3)), patches(1, 1, {}))
    with pytest.raises(OptionError, match="alpha=2"):
        overlay(photo, patches(1, 1, {}), alpha=2)


def test_grid_picture_has_square_patches_and_grey_for_those_not_taken():
    given = patches(2, 3, {(1, 2): 1.0})
    positions = given.positions.clone()
    positions[0, 0] = -1
    picture = np.asarray(heat_grid(segment(given.relevance[0].tolist(), grid=(2, 3), positions=positions)))
    side = picture.shape[1] // 3
    assert picture.shape == (2 * side, 3 * side, 3)
    assert picture[0, 0].tolist() == [128] * 3
    assert picture[-1, -1].tolist() == table(PICTURE)[255].tolist()
    assert picture[0, -1].tolist() == table(PICTURE)[0].tolist()
