"""The pictures: what a seed gives, and that objects are where and what they are said to be."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from heedmap.errors import HeedmapError, InputError, UnknownNameError
from heedmap.zoo.world import COLOURS, SHAPES, SIZES, SPLITS, Scene, Shapes, caption, make_scene
from heedmap.zoo.world.making import (
    LEAST_VISIBLE,
    OUTLINES,
    REACH,
    ObjectLook,
    background,
    draw_stamp,
    extent,
    undrawn_scene,
)


def facts(scene: Scene) -> list[tuple]:
    return [(o.shape, o.colour, o.size, o.box, o.visible, o.mask.tobytes()) for o in scene.objects]


def test_a_scene_depends_on_its_own_seed_split_and_index_alone():
    forwards = [make_scene(3, "val", index) for index in range(6)]
    backwards = [make_scene(3, "val", index) for index in reversed(range(6))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert a.image.tobytes() == b.image.tobytes()
        assert facts(a) == facts(b)


@pytest.mark.parametrize("side", [64, 96])
def test_what_is_not_drawn_has_the_same_objects(side):
    for index in range(6):
        drawn, undrawn = make_scene(3, "val", index, side), undrawn_scene(3, "val", index, side)
        assert facts(undrawn) == facts(drawn)
        assert undrawn.image.shape == drawn.image.shape
        assert caption(undrawn) == caption(drawn)


def test_global_random_state_is_neither_read_nor_changed():
    np.random.seed(1)
    before = np.random.get_state()[1].tobytes()
    first = make_scene(0, "train", 0).image
    assert np.random.get_state()[1].tobytes() == before
    np.random.seed(2)
    assert np.array_equal(make_scene(0, "train", 0).image, first)


def test_no_two_scenes_are_equal_across_seeds_and_splits():
    pictures = [make_scene(seed, split, i).image.tobytes() for seed in (0, 1) for split in SPLITS for i in range(40)]
    assert len(set(pictures)) == len(pictures) == 240


def test_the_sequence_is_the_scenes_in_order():
    world = Shapes("val", seed=5, side=64, length=3)
    assert len(world) == 3
    assert len(Shapes("test")) == SPLITS["test"]
    for index, scene in enumerate(world):
        assert scene.index == index
        assert np.array_equal(scene.image, make_scene(5, "val", index, 64).image)


@pytest.mark.parametrize("side", [64, 79, 96, 128])
def test_any_side(side):
    for scene in Shapes("train", side=side, length=20):
        assert scene.image.shape == (side, side, 3)
        assert scene.image.dtype == np.uint8
        assert scene.side == side
        assert 1 <= len(scene.objects) <= 5
        assert all(o.mask.shape == (side, side) and o.mask.dtype == bool for o in scene.objects)


def test_masks_are_disjoint_and_boxes_tight(scenes):
    for scene in scenes:
        assert sum(o.mask.astype(int) for o in scene.objects).max() == 1
        for o in scene.objects:
            rows, columns = np.nonzero(o.mask)
            assert o.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert o.centre == ((o.box[0] + o.box[2]) / 2, (o.box[1] + o.box[3]) / 2)


def test_every_object_is_large_enough_and_visible_enough(scenes):
    for o in (o for scene in scenes for o in scene.objects):
        assert LEAST_VISIBLE <= o.visible <= 1
        assert o.mask.sum() >= 80


def test_objects_overlap_now_and_then(scenes):
    hidden = [o.visible < 1 for scene in scenes for o in scene.objects]
    assert 0.1 < np.mean(hidden) < 0.5


def test_the_pixels_of_a_mask_have_about_its_colour(scenes):
    palette = np.array(list(COLOURS.values()), dtype=float)
    for scene in scenes[:300]:
        for o in scene.objects:
            typical = np.median(scene.image[o.mask].astype(float), axis=0)
            assert np.abs(typical - COLOURS[o.colour]).max() < 50
            nearest = np.abs(typical - palette).sum(1).argmin()
            assert list(COLOURS)[nearest] == o.colour


def test_colours_are_far_apart_and_far_from_any_background():
    for a, b in combinations(COLOURS.values(), 2):
        assert np.linalg.norm(np.subtract(a, b)) > 90
    for seed in range(30):
        ground = background(np.random.default_rng(seed), 96)
        assert (ground.max(-1) - ground.min(-1)).max() < 30
    assert all(max(colour) - min(colour) > 90 for colour in COLOURS.values())


def test_masks_are_where_the_picture_differs_from_its_background(scenes):
    """Saturated pixels, which no background has, are in the masks or at their edges, and the masks are saturated."""
    for scene in scenes[:300]:
        pixels = scene.image.astype(int)
        saturated = pixels.max(-1) - pixels.min(-1) > 60
        union = np.any([o.mask for o in scene.objects], axis=0)
        padded = np.pad(union, 2)
        near = np.any([padded[r : r + scene.side, c : c + scene.side] for r in range(5) for c in range(5)], axis=0)
        assert not (saturated & ~near).any()
        assert (saturated & union).sum() > 0.85 * union.sum()


def test_every_look_appears_about_equally_often(scenes):
    objects = [o for scene in scenes for o in scene.objects]
    for values, names in (
        ([o.shape for o in objects], SHAPES),
        ([o.colour for o in objects], COLOURS),
        ([o.size for o in objects], SIZES),
    ):
        shares = [Counter(values)[name] / len(objects) for name in names]
        assert min(shares) > 0.75 / len(names)
        assert max(shares) < 1.25 / len(names)


def test_the_size_is_the_radius(scenes):
    for size, (least, greatest) in SIZES.items():
        circles = [o for s in scenes for o in s.objects if (o.shape, o.size) == ("circle", size) and o.visible == 1]
        sides = [o.box[2] - o.box[0] for o in circles]
        assert sides
        assert 2 * 0.98 * least * 96 - 1 <= min(sides) <= max(sides) <= 2 * 0.98 * greatest * 96 + 1


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_is_closed_within_reach_and_its_distance_is_no_overestimate(shape):
    x, y = np.meshgrid(np.linspace(-1.6, 1.6, 321), np.linspace(-1.6, 1.6, 321))
    distance = OUTLINES[shape](x, y)
    assert (distance[np.hypot(x, y) > REACH] > 0).all()
    assert (distance < 0).sum() > 5000
    for axis in (0, 1):
        assert np.abs(np.diff(distance, axis=axis)).max() <= 0.01 + 1e-9


def test_shapes_differ_at_every_rotation():
    """No shape at any angle covers the pixels of another: intersection over union stays clearly below 1."""
    x, y = np.meshgrid(np.linspace(-1.3, 1.3, 66), np.linspace(-1.3, 1.3, 66))
    masks = {}
    for shape in SHAPES:
        turns = [(np.cos(t), np.sin(t)) for t in np.linspace(0, 2 * np.pi, 36, endpoint=False)]
        masks[shape] = np.array([OUTLINES[shape](x * c + y * s, y * c - x * s) <= 0 for c, s in turns])
    for a, b in combinations(SHAPES, 2):
        common = (masks[a][:1] & masks[b]).sum((1, 2))
        assert (common / (masks[a][:1] | masks[b]).sum((1, 2))).max() < 0.9, (a, b)


def test_a_stamp_fits_its_window():
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        stamp = draw_stamp(rng, ObjectLook(shape, "red", "large"), 96)
        rows, columns = extent(stamp.distance <= 0.5)
        assert (rows, columns) == (slice(0, stamp.distance.shape[0]), slice(0, stamp.distance.shape[1]))
        assert max(stamp.distance.shape) <= 96 * 2 * REACH * SIZES["large"][1] + 3


BAD = {
    "split": (lambda: Shapes("testing"), UnknownNameError, "'testing'; known splits: train, val, test"),
    "split of a scene": (lambda: make_scene(0, "x", 0), UnknownNameError, "known splits"),
    "negative index": (lambda: make_scene(0, "train", -1), InputError, "index is -1"),
    "negative item": (lambda: Shapes("train")[-1], InputError, "index is -1"),
    "beyond the end": (lambda: Shapes("test")[5000], InputError, "test has 5000"),
    "index of text": (lambda: make_scene(0, "train", "1"), InputError, "whole number"),
    "index of True": (lambda: make_scene(0, "train", True), InputError, "whole number"),
    "fractional seed": (lambda: Shapes("train", seed=0.5), InputError, "seed is 0.5"),
    "too small": (lambda: Shapes("train", side=63), InputError, "64 to 128"),
    "too large": (lambda: make_scene(0, "train", 0, 129), InputError, "64 to 128"),
    "side of text": (lambda: make_scene(0, "train", 0, "96"), InputError, "side is '96'"),
    "length": (lambda: Shapes("train", length=-1), InputError, "length is -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    action, error, words = BAD[name]
    assert issubclass(error, HeedmapError)
    with pytest.raises(error, match=words):
        action()


def test_a_data_loader_takes_the_sequence():
    from torch.utils.data import DataLoader

    loader = DataLoader(Shapes("val", length=4), batch_size=2, collate_fn=list)
    assert [scene.index for batch in loader for scene in batch] == [0, 1, 2, 3]
