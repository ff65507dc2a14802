"""Pictures and masks of any kind, also those that are none."""

import io

import numpy as np
import pytest
from PIL import Image

from heedmap.datasets.files import mask, picture
from heedmap.errors import SampleError


def _png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_bytes_and_files_give_the_same(tmp_path):
    data = _png(Image.effect_noise((9, 5), 80))
    (tmp_path / "a.png").write_bytes(data)
    of_bytes, of_file = picture(data, "a"), picture(tmp_path / "a.png", "a")
    assert (of_bytes.mode, of_bytes.size) == ("RGB", (9, 5))
    np.testing.assert_array_equal(np.asarray(of_bytes), np.asarray(of_file))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_one_pixel_of_any_kind(mode):
    seen = (255, 255, 255) if mode.endswith("A") else (0, 0, 0)  # nothing of a colour that is transparent
    assert picture(_png(Image.new(mode, (1, 1), 0)), "a").getpixel((0, 0)) == seen


def test_cmyk_is_converted():
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(buffer, "JPEG", quality=100)
    red, green, blue = picture(buffer.getvalue(), "a").getpixel((4, 4))
    assert red > 240
    assert max(green, blue) < 15


def test_sixteen_bits_of_a_pgm_keep_their_greys():
    data = b"P5\n3 1\n65535\n" + np.array([0, 32768, 65535], ">u2").tobytes()
    assert np.asarray(picture(data, "a"))[0, :, 1].tolist() == [0, 128, 255]


def test_a_palette_with_transparency_warns_of_nothing():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    read = picture(_png(image, transparency=bytes([0, 128])), "a")
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (127, 255, 127)]


@pytest.mark.parametrize("side", [20_000])
def test_a_bomb_is_a_sample_that_cannot_be_used(side):
    data = _png(Image.new("1", (side, side)))
    assert len(data) < 100_000
    with pytest.raises(SampleError, match="the photo is too large an image"):
        picture(data, "the photo")


@pytest.mark.parametrize("cut", [0, 8, 40, 300])
def test_cut_off(cut):
    data = _png(Image.effect_noise((64, 64), 50))[:cut]
    with pytest.raises(SampleError, match="the photo cannot be read as an image"):
        picture(data, "the photo")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_noise_in_a_file_is_an_image_or_a_sample_error(kind):
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 50).convert("RGB").save(buffer, kind)
    whole = np.frombuffer(buffer.getvalue(), np.uint8)
    draw = np.random.default_rng(0)
    outcomes = set()
    for _ in range(60):
        damaged = whole.copy()
        damaged[draw.integers(0, len(whole), 4)] = draw.integers(0, 256, 4)
        try:
            outcomes.add(picture(damaged.tobytes(), "a").mode)
        except SampleError:
            outcomes.add("refused")
    assert outcomes <= {"RGB", "refused"}
    assert ("refused" in outcomes) or kind != "PNG"  # whose checksums tell


def test_no_file(tmp_path):
    with pytest.raises(SampleError, match=r"no\.png cannot be read"):
        picture(tmp_path / "no.png", "no.png")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "LA"])
def test_a_mask_is_where_there_is_something(mode):
    pattern = np.array([[0, 255, 0], [255, 0, 0]], dtype=np.uint8)
    image = Image.fromarray(pattern)
    if mode in ("RGBA", "LA"):  # opaque everywhere; transparency is no mask
        image = image.convert(mode)
    elif mode == "I;16":
        image = Image.fromarray(pattern.astype(np.uint16))
    elif mode == "P":
        image = Image.fromarray(pattern // 255)
        image.putpalette([0, 0, 0, 255, 0, 0])
    else:
        image = image.convert(mode)
    read = mask(_png(image), "a")
    assert read.dtype == bool
    np.testing.assert_array_equal(read, pattern > 0)


def test_a_damaged_mask():
    with pytest.raises(SampleError, match="the mask cannot be read as an image"):
        mask(b"\x89PNG", "the mask")
