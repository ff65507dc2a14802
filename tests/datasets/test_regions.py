"""Region features: only the box's pixels, always the same, and telling."""

from collections import Counter

import numpy as np
import pytest

from heedmap.errors import InputError
from heedmap.zoo.world import FEATURES, Shapes, region_features, regions
from heedmap.zoo.world.regions import GRID, overlap


def slow_overlap(a, b) -> float:
    """By counting pixels."""
    masks = []
    for x1, y1, x2, y2 in (a, b):
        mask = np.zeros((128, 128), bool)
        mask[int(y1) : int(y2), int(x1) : int(x2)] = True
        masks.append(mask)
    return (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()


def test_true_boxes_are_the_objects_and_false_ones_are_not(scenes):
    for scene in scenes[:200]:
        found = regions(scene)
        assert found.features.shape == (10, FEATURES)
        assert found.positions.shape == found.boxes.shape == (10, 4)
        assert {found.features.dtype, found.positions.dtype, found.boxes.dtype} == {np.dtype("float32")}
        assert sorted(found.objects[found.objects >= 0]) == list(range(len(scene.objects)))
        np.testing.assert_allclose(found.positions, found.boxes / scene.side)
        assert 0 <= found.positions.min() <= found.positions.max() <= 1
        for box, number in zip(found.boxes, found.objects, strict=True):
            if number >= 0:
                assert tuple(box) == scene.objects[number].box
            else:
                assert max(slow_overlap(box, o.box) for o in scene.objects) <= 0.3
                assert min(box[2] - box[0], box[3] - box[1]) >= 3


def test_regions_are_reproducible_and_shuffled(scenes):
    places = Counter()
    for scene in scenes[:300]:
        first, second = regions(scene), regions(scene)
        assert first.features.tobytes() == second.features.tobytes()
        assert np.array_equal(first.objects, second.objects)
        places[int(np.flatnonzero(first.objects == 0)[0])] += 1
    assert len(places) == 10
    assert max(places.values()) < 60


def test_features_know_only_the_pixels_of_the_box(scenes):
    scene = scenes[0]
    box = np.array([[20, 30, 50, 70]], dtype=np.float32)
    expected = region_features(scene.image, box)
    outside = np.zeros_like(scene.image)
    outside[30:70, 20:50] = scene.image[30:70, 20:50]
    np.testing.assert_array_equal(region_features(outside, box), expected)
    shifted = np.array([[0, 0, 30, 40]], dtype=np.float32)
    np.testing.assert_array_equal(region_features(scene.image[30:70, 20:50], shifted), expected)


def test_features_against_plain_averaging():
    """Of a box of whole cells of equal pixels, the scaled box is these cells but for the filter's reach into others."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 8 * GRID)
    image = np.rint(np.stack([ramp[:, None] + 0 * ramp, ramp + 0 * ramp[:, None], np.full((64, 64), 51.0)], -1))
    found = region_features(image.astype(np.uint8), np.array([[0, 0, 64, 64]]))[0]
    pixels = found[: 3 * GRID * GRID].reshape(GRID, GRID, 3)
    cells = image.reshape(GRID, 8, GRID, 8, 3).mean((1, 3)) / 127.5 - 1
    np.testing.assert_allclose(pixels[1:-1, 1:-1], cells[1:-1, 1:-1], atol=0.01)
    np.testing.assert_allclose(found[-6:-3], pixels.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(found[-3:], pixels.std((0, 1)), atol=1e-6)
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.abs(region_features(noise, np.array([[0, 0, 64, 64]]))).max() <= 1


def test_false_boxes_show_little_of_any_object(scenes):
    """None lies in an object, and half of them show background."""
    shares = []
    for scene in scenes[:300]:
        found = regions(scene)
        objects = np.any([o.mask for o in scene.objects], axis=0)
        for x1, y1, x2, y2 in found.boxes[found.objects < 0].astype(int):
            shares.append(objects[y1:y2, x1:x2].mean())
    assert np.mean(np.array(shares) < 0.15) > 0.5
    assert np.mean(np.array(shares) > 0.6) < 0.01


def test_overlap_against_counting():
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 100, (40, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 28, (40, 2))], 1).astype(np.float32)
    expected = [[slow_overlap(a, b) for b in boxes[20:]] for a in boxes[:20]]
    np.testing.assert_allclose(overlap(boxes[:20], boxes[20:]), expected, atol=1e-6)


def test_colour_and_shape_can_be_told_from_the_features():
    """Nearest neighbours among other scenes' boxes: far above chance, though they know nothing of rotation."""
    vectors, colours, shapes = [], [], []
    for scene in Shapes("train", length=700):
        found = regions(scene, 5)
        for vector, number in zip(found.features, found.objects, strict=True):
            if number >= 0:
                vectors.append(vector)
                colours.append(scene.objects[number].colour)
                shapes.append(scene.objects[number].shape)
    vectors, split = np.array(vectors), len(vectors) // 2
    colour_right, shape_right = [], []
    for vector, colour, shape in zip(vectors[split:], colours[split:], shapes[split:], strict=True):
        nearest = np.linalg.norm(vectors[:split] - vector, axis=1).argmin()
        colour_right.append(colours[nearest] == colour)
        shape_right.append(shapes[nearest] == shape)
    assert np.mean(colour_right) > 0.85
    assert np.mean(shape_right) > 0.4


def test_bad_input(scenes):
    full = next(scene for scene in scenes if len(scene.objects) == 5)
    with pytest.raises(InputError, match="5 objects; ask for more boxes"):
        regions(full, 4)
    assert (regions(full, 5).objects >= 0).all()
    with pytest.raises(InputError, match="amount is -1"):
        regions(full, -1)
    with pytest.raises(InputError, match=r"box 1 is .*inside 0, 0, 96, 96"):
        region_features(full.image, np.array([[0, 0, 5, 5], [5, 5, 97, 9]]))
    with pytest.raises(InputError, match="box 0"):
        region_features(full.image, np.array([[0, 0, np.nan, 5]]))
    with pytest.raises(InputError, match=r"expected \(boxes, 4\)"):
        region_features(full.image, np.zeros(4))
    with pytest.raises(InputError, match="expected uint8"):
        region_features(full.image / 255, np.array([[0, 0, 5, 5]]))
    assert region_features(full.image, np.zeros((0, 4))).shape == (0, FEATURES)
