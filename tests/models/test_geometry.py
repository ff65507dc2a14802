"""Where on the original a processor looks: checked by a mark on the original, found again in what the processor made."""

import dataclasses

import numpy as np
import pytest
import torch
import transformers as tr
from PIL import Image

from heedmap.data.picture import Geometry, Picture
from heedmap.data.segments import Segment
from heedmap.errors import InputError
from heedmap.models import load
from heedmap.models.image import geometries, trimmed
from heedmap.render.overlay import overlay

PROCESSORS = {
    "vit": tr.ViTImageProcessor(size={"height": 48, "width": 64}),
    "clip": tr.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}),
    "resize and crop": tr.CLIPImageProcessor(size={"shortest_edge": 73}, crop_size={"height": 64, "width": 64}),
    "deit": tr.DeiTImageProcessor(size={"height": 73, "width": 73}, crop_size={"height": 64, "width": 64}),
    "siglip": tr.SiglipImageProcessor(size={"height": 64, "width": 64}),
    "detr": tr.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 160}),
    "yolos": tr.YolosImageProcessor(size={"shortest_edge": 64, "longest_edge": 160}),
    "vilt": tr.ViltImageProcessor(size={"shortest_edge": 64}, size_divisor=8),
    "owl-vit": tr.OwlViTImageProcessor(size={"height": 64, "width": 64}),
    "owl-v2, letterbox": tr.Owlv2ImageProcessor(size={"height": 64, "width": 64}),
    "sam, padded": tr.SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}),
    "donut, padded around": tr.DonutImageProcessor(size={"height": 64, "width": 80}),
    "mobilevit, crop and pad": tr.MobileViTImageProcessor(
        size={"shortest_edge": 56}, crop_size={"height": 64, "width": 64}
    ),
}
SIZES = {"wide": (150, 100), "tall": (90, 130), "square": (80, 80), "large": (500, 333)}
PATCH = 8


def marked(size: tuple[int, int], centre: tuple[float, float]) -> Image.Image:
    """Grey, with a white square around the middle of which we ask, small beside a patch."""
    pixels = np.full((size[1], size[0], 3), 90, np.uint8)
    x, y = centre
    side = max(size) // 30
    pixels[round(y) - side : round(y) + side, round(x) - side : round(x) + side] = 255
    return Image.fromarray(pixels)


def hot_patch(seen: torch.Tensor) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Where the mark is among the pixels of the model: grid, its patch, and the size that the grid covers."""
    bright = seen.mean(0)
    y, x = np.argwhere((bright > 0.9 * bright.max()).numpy()).mean(0) + 0.5
    rows, columns = bright.shape[0] // PATCH, bright.shape[1] // PATCH
    return (rows, columns), (int(y // PATCH), int(x // PATCH)), (columns * PATCH, rows * PATCH)


def hottest(geometry: Geometry, grid: tuple[int, int], patch: tuple[int, int]) -> np.ndarray:
    """(rows, columns): whether a pixel of the original has the colour of the hot patch."""
    values = torch.zeros(1, *grid)
    values[0, patch[0], patch[1]] = 1
    flat = values.reshape(1, -1)
    segment = Segment("image", "image", "image", flat, torch.arange(flat.shape[1])[None], grid)
    black = Picture(Image.new("RGB", geometry.size), geometry)
    return np.asarray(overlay(black, segment, alpha=1.0, patches=True, theme="dark")).max(-1) > 200


def near(hot: np.ndarray, centre: tuple[float, float], geometry: Geometry) -> bool:
    """Whether a hot pixel is no farther than half a pixel of the model."""
    y, x = (np.argwhere(hot) + 0.5).T
    reach = max(0.71, 0.5 * max(geometry.scale))
    return bool((np.maximum(abs(x - centre[0]), abs(y - centre[1])) <= reach).any())


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", PROCESSORS)
def test_the_patch_of_a_mark_lies_on_the_mark_of_the_original(name: str, shape: str) -> None:
    processor, size = PROCESSORS[name], SIZES[shape]
    centre = 0.42 * size[0], 0.55 * size[1]
    seen = processor(images=[marked(size, centre)], return_tensors="pt")["pixel_values"][0]
    grid, patch, covered = hot_patch(seen)
    (geometry,) = geometries(processor, [size])
    hot = hottest(trimmed(geometry, PATCH), grid, patch)
    assert trimmed(geometry, PATCH).seen == covered
    assert near(hot, centre, geometry)
    left, top, right, bottom = geometry.to_original(
        (patch[1] * PATCH, patch[0] * PATCH, (patch[1] + 1) * PATCH, (patch[0] + 1) * PATCH)
    )
    assert hot.sum() == pytest.approx((right - left) * (bottom - top), rel=0.3)


@pytest.mark.parametrize("name", ["detr", "yolos", "vilt"])
def test_in_a_batch_that_is_padded(name: str) -> None:
    processor, sizes = PROCESSORS[name], [(150, 100), (60, 140), (90, 90)]
    centres = [(0.42 * width, 0.55 * height) for width, height in sizes]
    images = [marked(*pair) for pair in zip(sizes, centres, strict=True)]
    batch = processor(images=images, return_tensors="pt")["pixel_values"]
    for seen, geometry, centre in zip(batch, geometries(processor, sizes), centres, strict=True):
        grid, patch, _ = hot_patch(seen)
        assert geometry.seen == (batch.shape[3], batch.shape[2])
        assert geometry.view == pytest.approx((0, 0, *geometry.size), abs=0.5)
        assert near(hottest(trimmed(geometry, PATCH), grid, patch), centre, geometry)


def test_the_numbers_of_a_centre_crop() -> None:
    """The shortest edge becomes 64, so that 1.5 pixels become one; the middle 96 columns of 150 are left."""
    (geometry,) = geometries(PROCESSORS["clip"], [(150, 96)])
    assert geometry.scale == pytest.approx((1.5, 1.5), rel=0.01)
    assert geometry.view == pytest.approx((27, 0, 123, 96), abs=0.5)
    assert geometry.cropped
    assert geometry.to_original((1, 2, 3, 4)) == pytest.approx((28.5, 3, 31.5, 6), abs=0.5)


def test_a_picture_that_is_only_resized_is_seen_to_its_edges() -> None:
    (geometry,) = geometries(PROCESSORS["vit"], [(4000, 31)])
    assert geometry == Geometry((62.5, 31 / 48), (0.0, 0.0), (64, 48), (4000, 31))
    assert not geometry.cropped


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 200), (7, 5), (3, 300)])
@pytest.mark.parametrize("name", ["vit", "clip", "deit", "siglip", "owl-v2, letterbox"])
def test_tiny_and_long_pictures_are_off_by_a_pixel_at_most(name: str, size: tuple[int, int]) -> None:
    (geometry,) = geometries(PROCESSORS[name], [size])
    left, top, right, bottom = geometry.view
    middle = (left + right) / 2, (top + bottom) / 2
    assert middle == pytest.approx((size[0] / 2, size[1] / 2), abs=max(1, *geometry.scale))
    assert min(geometry.scale) > 0


def test_where_nothing_can_be_told_nothing_is_said() -> None:
    """Of a line of 400 pixels CLIP sees one."""
    assert geometries(PROCESSORS["clip"], [(400, 1)]) == [None]


def turned(images, return_tensors):
    return {"pixel_values": torch.stack([torch.tensor(np.asarray(i)).permute(2, 1, 0).float() for i in images])}


def mirrored(images, return_tensors):
    return {"pixel_values": torch.stack([torch.tensor(np.asarray(i)).permute(2, 0, 1).flip(2).float() for i in images])}


def bent(images, return_tensors):
    """The right half three times as wide as the left."""
    columns = torch.cat([torch.arange(20), torch.arange(20, 40).repeat_interleave(3)])
    return {
        "pixel_values": torch.stack(
            [torch.tensor(np.asarray(i)).permute(2, 0, 1)[:, :, columns].float() for i in images]
        )
    }


def blind(images, return_tensors):
    return {"pixel_values": torch.zeros(len(images), 3, 8, 8)}


def pieces(images, return_tensors):
    return {"pixel_values": torch.zeros(12, 48)}


@pytest.mark.parametrize("processor", [turned, mirrored, bent, blind, pieces])
def test_what_is_no_box_along_the_axes_is_not_taken_for_one(processor) -> None:
    assert geometries(processor, [(40, 40)]) == [None]


def test_a_subject_knows_its_patches_and_falls_back_on_what_it_saw(folder) -> None:
    subject = load(folder("clip"))
    image = marked((150, 96), (70, 50))
    picture = subject.picture(image)
    assert picture.image.tobytes() == image.tobytes()
    assert picture.geometry == subject.geometry(image)
    assert picture.geometry.view == pytest.approx((27, 0, 123, 96), abs=4)  # a pixel of the model
    bending = dataclasses.replace(subject, processors=dataclasses.replace(subject.processors, image=bent))
    square = marked((40, 40), (20, 20))
    with pytest.raises(InputError, match="does more than resize, crop and pad"):
        bending.geometry(square)
    seen = bending.picture(square)
    assert seen.image.size == (80, 40)
    assert seen.geometry == Geometry.whole((80, 40))
    assert "as the model saw it" in seen.note


def test_lists_are_padded_as_one_batch(folder) -> None:
    subject = load(folder("detr"))
    images = [marked((96, 64), (40, 30)), marked((64, 64), (30, 30))]
    first, second = subject.geometry(images)
    assert first.view == (0, 0, 96, 64)
    assert second.seen == (96, 64)
    assert second.to_original((0, 0, 64, 64)) == pytest.approx((0, 0, 64, 64), abs=0.01)
    assert [one.geometry for one in subject.picture(images)] == [first, second]


def test_pictures_of_a_model_of_boxes(folder) -> None:
    subject = load(folder("lxmert"))
    boxes = {"features": np.zeros((2, 6)), "boxes": torch.tensor([[0, 0, 0.5, 0.5], [0.1, 0.2, 1, 1]])}
    picture = subject.picture(marked((50, 40), (20, 20)), boxes)
    assert (picture.geometry, picture.note) == (Geometry.whole((50, 40)), "")
    assert picture.boxes.shape == (2, 4)
    assert "no picture was given" in subject.picture(boxes=boxes).note
    assert [one.boxes is None for one in subject.picture([marked((9, 9), (4, 4))] * 2, [boxes, {"features": 0}])] == [
        False,
        True,
    ]
    with pytest.raises(InputError, match="neither an image nor places"):
        subject.picture(boxes={"features": np.zeros((2, 6))})
    with pytest.raises(InputError, match=r"shape \(2, 3\); expected \(N, 4\)"):
        subject.picture(boxes={"boxes": np.zeros((2, 3))})
    with pytest.raises(InputError, match="2 images and 3 sets of boxes"):
        subject.picture([marked((9, 9), (4, 4))] * 2, [boxes] * 3)


def test_geometry_of_a_model_without_pictures(folder) -> None:
    with pytest.raises(InputError, match="takes no image"):
        load(folder("bert")).geometry(Image.new("RGB", (4, 4)))
