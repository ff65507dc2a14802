"""One language of colour: what matters more stands out more from the ground, in words, bars, boxes and pictures."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hand_made import patches, segment
from matplotlib.colors import to_rgb
from PIL import Image

from heedmap.errors import OptionError
from heedmap.render.overlay import ALPHA, heat_grid, overlay
from heedmap.render.panels import BAR, word_colour, word_ground
from heedmap.render.scale import STEPS, THEMES, Scale, Theme, scale_of, table, tint

SHARES = np.linspace(0, 1, STEPS + 1)
ROUNDING = 0.006
"""Of luminance, where two colours are nearly one."""


def _luminance(colour: object) -> float:
    rgb = np.array(to_rgb(colour))  # type: ignore[arg-type]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _pixels(image: Image.Image, count: int) -> list[tuple[float, ...]]:
    """The middle of each of so many patches beside each other."""
    row = np.asarray(image)[image.height // 2] / 255
    return [tuple(row[int((place + 0.5) * image.width / count)]) for place in range(count)]


def _row(sign: float):
    return segment((SHARES * sign).tolist(), name="image", kind="image", grid=(1, len(SHARES)))


def _on_grey(name: str, sign: float) -> list[tuple[float, ...]]:
    grey = Image.new("RGB", (len(SHARES) * 6, 12), (128, 128, 128))
    return _pixels(overlay(grey, _row(sign), patches=True, theme=name), len(SHARES))


DRAWN: dict[str, Callable[[str, Theme, Scale, float], list[object]]] = {
    "words of a page": lambda name, _theme, _used, sign: [tint(s * sign, dark=name == "dark")[0] for s in SHARES],
    "words of a figure": lambda _name, theme, used, sign: [word_ground(used, s * sign, theme) for s in SHARES],
    "bars": lambda _name, theme, used, sign: [word_colour(used, s * sign, theme, BAR) for s in SHARES],
    "patches": lambda name, _theme, _used, sign: _pixels(heat_grid(_row(sign), theme=name), len(SHARES)),
    "patches on a picture": lambda name, _theme, _used, sign: _on_grey(name, sign),
    "boxes": lambda _name, theme, used, sign: [
        tuple(used.colours(theme, over=True)[round(float(used.places(np.array(s * sign))) * 255)] / 255) for s in SHARES
    ],
    "the colour bar beside a picture": lambda _name, theme, used, sign: [
        tuple(used.seen(theme, alpha=ALPHA)[round(float(used.places(np.array(s * sign))) * 255)] / 255) for s in SHARES
    ],
}


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["for", "against"])
@pytest.mark.parametrize("drawn", DRAWN.values(), ids=list(DRAWN))
@pytest.mark.parametrize(("name", "direction"), [("light", -1), ("dark", 1)])
def test_more_is_darker_on_light_and_brighter_on_dark(name, direction, drawn, sign):
    levels = [_luminance(c) * direction for c in drawn(name, THEMES[name], scale_of([min(sign, 0.0), 1.0]), sign)]
    assert all(after > before - ROUNDING for before, after in itertools.pairwise(levels))
    assert levels[-1] - levels[0] > 0.2


@pytest.mark.parametrize("name", THEMES)
def test_words_and_patches_have_one_family_of_colours(name):
    theme, used = THEMES[name], scale_of([0.0, 1.0])
    on_their_own, over = used.colours(theme), used.colours(theme, over=True)
    assert (on_their_own[255] == over[255]).all()
    assert all((on_their_own == colour).all(1).any() for colour in over)
    assert tint(1.0, dark=name == "dark")[0] == f"#{bytes(on_their_own[255]).hex()}"
    assert np.allclose(word_colour(used, 1.0, theme), on_their_own[255] / 255)


@pytest.mark.parametrize("name", THEMES)
def test_a_colour_map_that_is_given_is_taken_whole(name):
    assert (scale_of([0.0, 1.0]).colours(THEMES[name], "viridis", over=True) == table("viridis")).all()
    top = np.asarray(
        overlay(Image.new("RGB", (40, 10)), patches(1, 2, {(0, 1): 1.0}), alpha=1.0, cmap="viridis", theme=name)
    )
    assert (top[:, -1] == table("viridis")[255]).all()


def test_unknown_map():
    with pytest.raises(OptionError, match="viridis"):
        table("no-such-map")
