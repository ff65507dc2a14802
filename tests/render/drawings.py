"""Drawings that are kept in ``golden``; ``python tests/render/drawings.py`` writes them anew. Look at them then."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from hand_made import patches, segment
from PIL import Image

from heedmap.data.flow import Flow
from heedmap.data.picture import Geometry, Picture
from heedmap.explanation import Explanation
from heedmap.render.figure import plot, side_by_side
from heedmap.render.overlay import heat_grid, overlay

GOLDEN = Path(__file__).parent / "golden"
WIDTH = 160
"""Of a kept figure: so small that letters are a grey haze, alike with any version of a font."""


def scene() -> Image.Image:
    """Sky, grass and a red square."""
    pixels = np.zeros((60, 96, 3), np.uint8)
    pixels[:36] = (120, 170, 220)
    pixels[36:] = (60, 120, 50)
    pixels[22:44, 40:62] = (200, 60, 40)
    return Image.fromarray(pixels)


def cropped() -> Picture:
    """The middle 60 × 60 of the scene, seen as 30 × 30."""
    places = np.array([[0.4, 0.35, 0.66, 0.75], [0, 0.6, 1, 1], [0.05, 0.1, 0.3, 0.4]])
    return Picture(
        scene(), Geometry((2.0, 2.0), (18.0, 0.0), (30, 30), (96, 60)), places, {"square": (0.4, 0.35, 0.66, 0.75)}
    )


def explained(signed: bool, method: str = "generic") -> Explanation:
    """A picture, words, boxes and sound."""
    low = -0.6 if signed else 0.0
    parts = (
        patches(4, 4, {(2, 1): 1.0, (2, 2): 0.7, (0, 3): low}, rest=0.05),
        segment([0.1, 0.9, low, 0.4, 0.2], labels=(("a", "red", "square", "stands", "here"),)),
        segment([0.9, low, 0.2], name="boxes", kind="boxes", labels=(("square", "grass", "sky"),)),
        segment([abs(np.sin(i / 4)) + low for i in range(40)], name="audio", kind="audio"),
    )
    segments = {one.name: one for one in parts}
    return Explanation(segments, ("class 1 (square)",), torch.tensor([2.5]), None, None, method, {}, Flow((), ()))


def small(figure) -> Image.Image:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    image = Image.open(buffer).convert("RGB")
    return image.resize((WIDTH, round(WIDTH * image.height / image.width)), Image.Resampling.BOX)


def _compared(**options) -> Image.Image:
    columns = {"generic": explained(False), "attn_lrp": explained(True, "attn_lrp")}
    return small(side_by_side(columns, image=cropped(), notes={"generic": "0.8"}, **options))


DRAWINGS: dict[str, Callable[[], Image.Image]] = {
    "overlay": lambda: overlay(cropped(), explained(False).segments["image"]),
    "overlay-signed-even": lambda: overlay(cropped(), explained(True).segments["image"], opacity="even", mute=0.6),
    "overlay-patches-contour": lambda: overlay(
        cropped().fitted(200, 400), explained(False).segments["image"], patches=True, contour=True
    ),
    "grid-signed": lambda: heat_grid(explained(True).segments["image"]).resize((84, 84)),
    "figure-light": lambda: small(plot(explained(False), image=cropped())),
    "figure-dark-signed": lambda: small(plot(explained(True), image=cropped(), theme="dark")),
    "side-by-side": _compared,
    "side-by-side-dark-own": lambda: _compared(theme="dark", shared=False),
}

if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        draw().save(GOLDEN / f"{name}.png", optimize=True)
