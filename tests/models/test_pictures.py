import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from heedmap.errors import InputError
from heedmap.models import load
from heedmap.models.media import rgb
from heedmap.render.overlay import as_picture


def noise(rows, columns, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8))


def test_an_array_a_path_and_an_image_are_the_same(tmp_path):
    image = noise(9, 12)
    image.save(tmp_path / "noise.png")
    forms = [
        image,
        np.asarray(image),
        torch.tensor(np.asarray(image)),
        tmp_path / "noise.png",
        str(tmp_path / "noise.png"),
    ]
    for form in forms:
        assert rgb(form).tobytes() == image.tobytes()
    assert rgb(Image.new("L", (3, 2))).mode == "RGB"


@pytest.mark.parametrize(
    "image", [7, np.full((4, 4), 3.0), np.full((4, 4, 3), -1.0), np.zeros((5, 4, 7), np.uint8), b"png"]
)
def test_what_is_no_image(image):
    with pytest.raises(InputError, match="expected a PIL image, a path, or an array"):
        rgb(image)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError):
        rgb(tmp_path / "none.png")


def test_the_shown_image_is_the_processors_crop_pixel_by_pixel(folder):
    """CLIP: the shortest edge becomes 24, then the middle 24 × 24."""
    subject = load(folder("clip"))
    wide = noise(24, 40)  # the resize changes nothing, the crop takes columns 8 to 32
    assert subject.shown_image(wide).tobytes() == wide.crop((8, 0, 32, 24)).tobytes()


def test_the_shown_image_is_what_the_processor_makes_without_standardising(folder):
    subject = load(folder("vit"))
    image = noise(50, 70)
    plain = subject.processors.image(images=[image], return_tensors="np", do_normalize=False, do_rescale=False)
    shown = np.asarray(subject.shown_image(image)).transpose(2, 0, 1)
    assert shown.shape == (3, 16, 24)
    assert np.array_equal(shown, plain["pixel_values"][0])


def test_a_half_precision_model_shows_all_bits(folder):
    image = noise(16, 24)
    shown = load(folder("vit"), dtype="bfloat16").shown_image(image)
    assert np.array_equal(np.asarray(shown), np.asarray(image))


def test_the_grid_covers_the_shown_image(folder):
    subject = load(folder("detr"))
    image = noise(64, 96)
    shown = subject.shown_image(image)
    assert shown.size == (96, 64)
    assert np.array_equal(np.asarray(shown), np.asarray(image))
    assert subject.explain(image=image).segments["image"].grid == (2, 3)


def test_a_batch_is_shown_as_it_was_padded(folder):
    subject = load(folder("detr"))
    images = [noise(64, 96), noise(64, 64, seed=1)]
    shown = subject.shown_image(images)
    assert [one.size for one in shown] == [(96, 64), (96, 64)]
    assert np.array_equal(np.asarray(shown[1])[:, :64], np.asarray(images[1]))
    assert subject.inputs(image=images)["pixel_values"].shape[-2:] == (64, 96)


def test_models_without_image_and_images_in_pieces(folder):
    with pytest.raises(InputError, match=r"takes no image; it takes text"):
        load(folder("bert")).shown_image(noise(8, 8))
    subject = load(folder("vit"))

    def pieces(images, return_tensors):
        return {"pixel_values": torch.zeros(12, 48)}

    cut = dataclasses.replace(subject, processors=dataclasses.replace(subject.processors, image=pieces))
    with pytest.raises(InputError, match=r"cuts an image to pieces, pixel_values \(12, 48\)"):
        cut.shown_image(noise(8, 8))


def test_a_processor_that_refuses_tells_the_sizes(folder):
    subject = load(folder("vit"))

    def refuse(images, return_tensors):
        raise ValueError("not these")

    other = dataclasses.replace(subject, processors=dataclasses.replace(subject.processors, image=refuse))
    with pytest.raises(InputError, match="8×9 pixels together: not these"):
        other.inputs(image=noise(9, 8))


def test_levels_of_a_pyramid_lie_on_the_one_picture_and_one_of_several_does_not(folder):
    image = Image.new("RGB", (16, 16))
    whole = load(folder("vit")).picture(image)
    assert whole.of("image2") is whole.of("image") is whole
    assert whole.fitted(32, 64).of("image3").image.size == (32, 32)
    assert as_picture(image).of("image2") is None  # nobody told whether the sample has others
