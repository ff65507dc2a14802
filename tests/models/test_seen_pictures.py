"""A model gets the picture that a person sees, the same from a file, an opened file or an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import heedmap
from heedmap.errors import InputError
from heedmap.models.media import rgb

GREY = Image.radial_gradient("L").resize((90, 60))
COLOURED = Image.merge(
    "RGB", [GREY, Image.linear_gradient("L").resize((90, 60)), GREY.transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
)


def saved(folder: Path, name: str) -> Path:
    path = folder / name
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = COLOURED.convert("RGBA")
    alpha.putalpha(GREY)
    palette = COLOURED.quantize(64)
    deep = (np.asarray(GREY).astype(np.uint16)) * 257
    made = {
        "turned.jpg": (COLOURED, {"exif": exif}),
        "alpha.png": (alpha, {}),
        "palette.png": (palette, {"transparency": 3}),
        "sixteen.png": (Image.fromarray(deep), {}),
        "float.tiff": (Image.fromarray(np.asarray(GREY).astype(np.float32) / 255), {}),
        "ink.jpg": (COLOURED.convert("CMYK"), {}),
        "moving.gif": (COLOURED, {"save_all": True, "append_images": [COLOURED.rotate(90)]}),
        "one bit.png": (GREY.convert("1"), {}),
    }
    image, options = made[name]
    image.save(path, **options)
    return path


FILES = ("turned.jpg", "alpha.png", "palette.png", "sixteen.png", "float.tiff", "ink.jpg", "moving.gif", "one bit.png")


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_one_map_however_it_is_given(name: str, tmp_path: Path) -> None:
    subject, path = heedmap.load("zoo/vit-shapes"), saved(tmp_path, name)
    upright = (60, 90) if name == "turned.jpg" else (90, 60)
    wanted = subject.explain(image=path)
    for given in (str(path), np.asarray(rgb(path))):
        assert torch.equal(subject.explain(image=given)["image"], wanted["image"])
    with Image.open(path) as opened:
        assert torch.equal(subject.explain(image=opened)["image"], wanted["image"])
        assert subject.picture(path).image.size == subject.picture(opened).image.size == upright
        assert wanted.overlay(opened).size == upright


def near(found: Image.Image, wanted: Image.Image, by: float) -> bool:
    return bool(np.abs(np.asarray(found).astype(int) - np.asarray(wanted).astype(int)).mean() <= by)


def premultiplied() -> Image.Image:
    grey = Image.merge("LA", [GREY, Image.new("L", GREY.size, 255)])
    return grey.convert("La")


ALIKE: dict[str, Any] = {
    "L": GREY,
    "LA": GREY.convert("LA"),
    "La": premultiplied(),
    "PA": Image.merge("LA", [GREY, Image.new("L", GREY.size, 255)]).convert("PA"),
    "RGBA": GREY.convert("RGBA"),
    "I": GREY.convert("I"),
    "I of 16 bits": Image.fromarray(np.asarray(GREY).astype(np.int32) * 257),
    "I;16": Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257),
    "F": GREY.convert("F"),
    "F from 0 to 1": Image.fromarray(np.asarray(GREY).astype(np.float32) / 255),
    "rows, columns": np.asarray(GREY),
    "rows, columns, 1": np.asarray(GREY)[..., None],
    "rows, columns, 4": np.asarray(GREY.convert("RGBA")),
    "channels first": np.asarray(GREY.convert("RGB")).transpose(2, 0, 1),
    "floats": np.asarray(GREY.convert("RGB")) / 255.0,
    "tensor": torch.tensor(np.asarray(GREY.convert("RGB"))).permute(2, 0, 1),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_every_mode_is_the_grey_picture(kind: str) -> None:
    assert near(rgb(ALIKE[kind]), GREY.convert("RGB"), 0.5)


def test_what_is_transparent_is_white() -> None:
    assert np.asarray(rgb(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))).min() == 255
    half = np.asarray(rgb(Image.new("RGBA", (4, 4), (0, 0, 0, 128))))
    assert abs(int(half[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize(
    "given", [np.zeros((1, 8, 8, 3), np.uint8), np.full((8, 8, 3), 7.0), np.zeros((8, 8, 7), np.uint8), b"x"]
)
def test_what_is_unclear_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="expected a PIL image, a path, or an array"):
        rgb(given)
