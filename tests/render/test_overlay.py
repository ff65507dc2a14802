import math
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hand_made import patches, segment
from PIL import Image

from heedmap.data.picture import Geometry, Picture
from heedmap.errors import InputError, MissingLibraryError, OptionError, UnknownNameError
from heedmap.render.overlay import MUTE, heat_grid
from heedmap.render.overlay import overlay as muted_overlay
from heedmap.render.scale import THEMES, scale_of, table

overlay = partial(muted_overlay, mute=0.0)
"""On the picture as it is."""
MOST = scale_of([0.0, 1.0]).colours(THEMES["light"])[255].tolist()


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
    assert (opaque[:, -1] == MOST).all()
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
    change = _difference(Image.new("RGB", (90, 60), (255, 255, 255)), overlay(photo, odd, alpha=1.0, opacity="even"))
    assert change[15, 15] > change[45, 75] > change[15, 75]  # -5 is deeper than -3, and what is not finite is pale


def test_negative_is_blue_and_positive_red_with_nothing_at_zero(photo):
    signed = segment([-1.0, 0.0, 4.0], name="image", kind="image", grid=(1, 3))
    result = np.asarray(overlay(photo, signed, alpha=1.0, opacity="even")).astype(int)
    assert result[30, 5, 2] > result[30, 5, 0]
    assert result[30, 88, 0] > result[30, 88, 2] + 60
    assert np.ptp(result[30, 45]) < 12  # nearly white
    assert _difference(photo, overlay(photo, signed))[30, 45] < 30


def test_even_opacity_covers_everything(photo):
    covered = overlay(photo, patches(2, 3, {(0, 0): 1.0}), alpha=1.0, opacity="even")
    assert np.asarray(covered)[-1, -1].tolist() == table("magma_r")[0].tolist()


def test_patches_are_shown_as_they_are_with_lines_between(photo):
    shown = np.asarray(overlay(photo, patches(2, 3, {(0, 0): 1.0}), alpha=1.0, patches=True))
    assert (shown[:29, :29] == MOST).all()
    assert (shown[31:, 31:59] == [0, 0, 200]).all()
    assert shown[45, 30, 2] < 180
    dark = np.asarray(overlay(photo, patches(2, 3, {(0, 0): 1.0}), alpha=1.0, patches=True, theme="dark"))
    assert dark[45, 30, 0] > 50


def test_contour_runs_around_what_is_above_otsus_threshold(photo):
    shown = np.asarray(overlay(photo, patches(2, 3, {(0, 0): 1.0}), patches=True, contour=True)).astype(int)
    white, black = (shown == 255).all(-1), (shown == 0).all(-1)
    assert white[:30, 29].all()
    assert white[29, :30].all()
    assert black[30, :29].all()
    assert not (white | black)[:, 40:].any()
    flat = overlay(photo, patches(2, 3, {}, rest=1.0), contour=True)
    assert _difference(photo, flat).max() == 0


def test_a_contour_without_scikit_image_says_what_to_install(photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.filters", None)
    with pytest.raises(MissingLibraryError, match=r"contour=True needs scikit-image; .*pip install '\.\[eval\]'"):
        overlay(photo, patches(2, 3, {(0, 0): 1.0}), contour=True)


def test_muted_colours_go_to_grey_and_to_the_ground(photo):
    grey = np.asarray(muted_overlay(photo, patches(2, 3, {}), mute=1.0))
    assert (np.ptp(grey, axis=-1) == 0).all()
    middle = Image.new("RGB", photo.size, (128, 128, 128))
    light, dark = (np.asarray(muted_overlay(middle, patches(2, 3, {}), theme=theme)).mean() for theme in THEMES)
    assert light > 128 + 0.5 * MUTE * 127
    assert dark < 128 - 0.5 * MUTE * 100


def test_an_unknown_theme(photo):
    with pytest.raises(UnknownNameError, match=r"no theme 'ligt' \(did you mean 'light'\?\)"):
        muted_overlay(photo, patches(2, 3, {}), theme="ligt")


def test_what_the_model_did_not_see_is_faded_and_the_map_lies_on_what_it_saw():
    """90 × 60, of which the middle 60 × 60 was seen as 30 × 30."""
    image = Image.new("RGB", (90, 60), (0, 0, 200))
    picture = Picture(image, Geometry((2.0, 2.0), (15.0, 0.0), (30, 30), (90, 60)))
    shown = np.asarray(overlay(picture, patches(2, 2, {(1, 1): 1.0}), alpha=1.0, patches=True)).astype(int)
    assert (shown[:, :15] == shown[0, 0]).all()
    assert shown[0, 0].min() > 150
    dark = np.asarray(overlay(picture, patches(2, 2, {(1, 1): 1.0}), theme="dark"))
    assert dark[0, 0].max() < 50
    assert (shown[2:28, 17:43] == [0, 0, 200]).all()
    assert (shown[31:, 46:75] == MOST).all()
    assert (shown[:, 75:] == shown[0, 0]).all()


def test_a_map_over_padding_falls_off_the_picture():
    """Seen as 20 × 10 with the right half padding: only the left two patches lie on the picture."""
    picture = Picture(Image.new("RGB", (40, 40)), Geometry((4.0, 4.0), (0.0, 0.0), (20, 10), (40, 40)))
    hot = patches(1, 4, {(0, 1): 1.0, (0, 3): 1.0})
    shown = np.asarray(overlay(picture, hot, alpha=1.0, patches=True, theme="dark")).max(-1)
    assert shown[:, 21:].min() > 200
    assert shown[:, :20].max() < 100


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_tiny_and_long_images(size):
    image = Image.new("RGB", size)
    for picture in (image, Picture(image, Geometry.whole(size)).fitted(50, 100)):
        result = overlay(picture, patches(4, 4, {(0, 0): 1.0}), contour=True, patches=True)
        assert result.size == (size if picture is image else picture.image.size)


def test_a_picture_of_another_size_keeps_its_geometry():
    picture = Picture(Image.new("RGB", (90, 60)), Geometry((2.0, 2.0), (15.0, 0.0), (30, 30), (90, 60)))
    large, small = picture.fitted(200, 400), picture.fitted(1, 45)
    assert large.image.size == (270, 180)
    assert large.geometry.view == (45, 0, 225, 180)
    assert small.image.size == (45, 30)
    assert small.geometry.view == (7.5, 0, 37.5, 30)
    assert picture.fitted(50, 100) is picture


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
    for options in ({"alpha": 2}, {"mute": -1}, {"opacity": "odd"}, {"cmap": "none such"}):
        with pytest.raises(OptionError, match=f"{next(iter(options))}=|no colour map"):
            overlay(photo, patches(1, 1, {}), **options)


def test_grid_picture_has_square_patches_and_grey_for_those_not_taken():
    given = patches(2, 3, {(1, 2): 1.0})
    positions = given.positions.clone()
    positions[0, 0] = -1
    picture = np.asarray(heat_grid(segment(given.relevance[0].tolist(), grid=(2, 3), positions=positions)))
    side = picture.shape[1] // 3
    assert picture.shape == (2 * side, 3 * side, 3)
    assert picture[0, 0].tolist() == [128] * 3
    assert picture[-1, -1].tolist() == MOST
    assert picture[0, -1].tolist() == table("magma_r")[0].tolist()


def test_what_the_model_saw_is_cut_out_of_the_original():
    image = Image.new("RGB", (90, 60), (0, 0, 200))
    image.paste((200, 0, 0), (45, 0, 90, 60))
    seen = np.asarray(Picture(image, Geometry((2.0, 2.0), (15.0, -10.0), (30, 40), (90, 60))).as_seen())
    assert seen.shape == (40, 30, 3)
    assert (seen[:5] == 0).all()
    assert (seen[35:] == 0).all()
    assert (seen[6:34, :14] == [0, 0, 200]).all()
    assert (seen[6:34, 16:] == [200, 0, 0]).all()
