"""How relevance becomes a colour, for everything that is drawn: where a scale starts and ends, the words for it, its colours.

A scale starts from 0 or, min–max, from the least value; where there are negative values it is centred at 0 instead, and
as wide on both sides. Which it is follows from what is drawn (:func:`start_of`), is a field of the scale, and is written on
every figure. From 0 go words, bars, boxes and curves: there are few of them and their numbers are read, so twice the
relevance has to be twice as far up. Min–max go the patches of a picture: there are hundreds, each holds a little, and only
the pattern is looked at; what all of them have in common would be a veil over the picture. Maps that are compared share one
scale (:func:`joined`).

What matters more stands out more from the ground, in words, bars, boxes and pictures alike: it is darker in a light theme, and
brighter in a dark one. A picture under a map goes towards the ground too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heedmap.common.printable import closest, number
from heedmap.data.explanation import ExplanationData
from heedmap.data.segments import Segment
from heedmap.errors import OptionError, UnknownNameError
from heedmap.render.sample import Drawn

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.colors import Colormap
    from torch import Tensor

FROM_ZERO, MIN_MAX, AROUND_ZERO = "from 0", "min–max", "around 0"
STEPS = 40
FAINT = 0.15
"""Up to this share a colour is mixed with the ground, since the maps begin at a yellow and a green that can be seen."""
WHITE, BLACK, NIGHT = "#ffffff", "#000000", "#17181d"
"""The last is the ground of a dark page."""
MUTE, VEIL = 0.8, 0.6
"""How far the colours of a picture under a map go to grey, and of that how far they go on towards the ground."""
CHIP_GREY, CHIP, CHIP_AGAINST = (112, 108, 118), (226, 76, 22), (22, 116, 232)
"""Red, green and blue of words in a terminal: where they matter a little, much, and much against the target."""
GREY = 128
"""Of the picture that a colour bar shows under its colours."""
LEAST_CHIP = 0.08
"""A smaller share of a scale has no colour in a terminal."""
ROUNDING = 1e-6
"""Negative values smaller than this part of the greatest are rounding errors."""


@dataclass(frozen=True)
class Scale:
    """From relevance to a place between two colours.

    Attributes:
        start: :data:`FROM_ZERO` or :data:`MIN_MAX`, as it was chosen; see :attr:`kind`.
        least, most: the least and the greatest finite value; both 0 where there is none.
        count, bad: how many values there are, and how many are not finite.
        shared: whether several maps are drawn on it.
    """

    start: str
    least: float
    most: float
    count: int
    bad: int = 0
    shared: bool = False

    @property
    def signed(self) -> bool:
        """Whether there are negative values, so that 0 is the middle."""
        return self.least < -ROUNDING * max(abs(self.least), abs(self.most))

    @property
    def kind(self) -> str:
        """What it is: :data:`FROM_ZERO`, :data:`MIN_MAX` or :data:`AROUND_ZERO`."""
        return AROUND_ZERO if self.signed else self.start

    @property
    def low(self) -> float:
        """What the first colour stands for."""
        if self.signed:
            return -self.high
        return self.least if self.start == MIN_MAX else 0.0

    @property
    def high(self) -> float:
        """What the last colour stands for; where it is ``low``, there is nothing to tell apart."""
        return max(abs(self.least), abs(self.most)) if self.signed else max(self.most, 0.0)

    @property
    def empty(self) -> bool:
        """Whether no finite value is other than 0."""
        return self.least == self.most == 0

    def places(self, values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """0 to 1 along a colour map; what does not matter is at 0, or in the middle, and so is what is not finite."""
        neutral = 0.5 if self.signed else 0.0
        if self.high <= self.low:
            return np.full(np.shape(values), neutral)
        share = (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)
        return np.where(np.isfinite(values), share, neutral)

    def strength(self, places: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """0 to 1: how far a place is from what does not matter."""
        return np.abs(places - 0.5) * 2 if self.signed else places

    def share(self, value: float) -> float:
        """-1 to 1: how far one value is up the scale, or down; 0 for one that is not finite."""
        place = float(self.places(np.asarray(value, dtype=float)))
        return place * 2 - 1 if self.signed else place

    def css_class(self, value: float) -> str:
        """The class of the colour of ``value``, of ``-STEPS`` … ``STEPS``, see :func:`step_class`."""
        return step_class(round(self.share(value) * STEPS))

    def ramp(self, patches: bool = False, alpha: float = 1.0) -> str:
        """CSS: the colours from left to right, of texts or of ``patches``, which lie on a picture where ``alpha`` is below 1."""
        if patches:
            seen = [self.colours(t) if alpha == 1 else self.seen(t, alpha=alpha) for t in THEMES.values()]
            light, dark = ([f"#{rgb.tobytes().hex()}" for rgb in colours[:: 255 // 15]] for colours in seen)
            stops = [f"light-dark({a},{b})" for a, b in zip(light, dark, strict=True)]
        else:
            stops = [either(step / 8)[0] for step in range(-8 if self.signed else 0, 9)]
        return f"linear-gradient(to right,{','.join(stops)})"

    def colours(self, theme: Theme, cmap: str | None = None, *, over: bool = False) -> NDArray[np.uint8]:
        """The 256 colours, (256, 3), from the low end to the high one.

        Args:
            theme: whose they are.
            cmap: name of a matplotlib colour map to be taken instead.
            over: whether they lie over a picture: there what matters little has the picture's own colour, and theirs begin
                where they would not lead away from it.
        """
        if cmap is not None:
            return table(cmap)
        places = np.linspace(0, 1, 256)
        if over:
            far = theme.first + (1 - theme.first) * self.strength(places)
            places = 0.5 + np.sign(places - 0.5) * far / 2 if self.signed else far
        return table(theme.signed if self.signed else theme.words)[
            np.round(places * (1 if self.signed else theme.deep) * 255).astype(int)
        ]

    def seen(
        self, theme: Theme, cmap: str | None = None, alpha: float = 1.0, even: bool = False, mute: float = MUTE
    ) -> NDArray[np.uint8]:
        """The 256 colours, (256, 3), as they are seen on a picture, here a middle grey.

        Args:
            theme: whose they are.
            cmap: name of a matplotlib colour map; None: the theme's own.
            alpha: opacity of the most relevant place.
            even: whether it is that of every place; else what matters less is more transparent.
            mute: of the picture, see :meth:`Theme.veiled`.
        """
        opacity = alpha * (np.ones(256) if even else self.strength(np.linspace(0, 1, 256)))[:, None]
        grey = theme.veiled(np.full((256, 3), float(GREY)), mute)
        return np.round(grey + opacity * (self.colours(theme, cmap, over=not even) - grey)).astype(np.uint8)

    def about(self, drawn: Scale | None = None) -> str:
        """The scale in words, to be written under what is drawn on it; with ``drawn``, what is drawn has these values."""
        values = drawn or self
        bad = f"; not finite, without a colour: {values.bad}" if values.bad else ""
        if not values.count:
            return "the model took in none of these tokens"
        if values.bad == values.count:
            return f"none of the {values.bad} values is finite"
        if self.empty:
            return f"nothing to show: every finite value is 0{bad}"
        if self.high <= self.low:
            return f"all equal: {number(self.most)}{bad}"
        ends = f"±{number(self.high)}" if self.signed else span(self.low, self.high)
        both = ", shared by the maps on this page" if self.shared else ""
        same = (values.least, values.most) == (self.low, self.high) and not self.shared
        return f"{self.kind}: {ends}{both}{'' if same else f'; values: {values.range}'}{bad}"

    @property
    def range(self) -> str:
        """``0.1 … 0.4``: the least and the greatest value, in words."""
        if self.bad == self.count:
            return "no finite value"
        return span(self.least, self.most) if self.most > self.least else number(self.most)


@dataclass(frozen=True)
class Theme:
    """Colours of a figure.

    Attributes:
        ground: behind everything.
        ink: of text.
        faint: of frames, ticks and notes.
        missing: of tokens that the model did not take in.
        words: the colour map of words, bars, boxes and pictures: its low end is close to the ground.
        signed: the same where some relevance is negative: its middle is close to the ground.
        against: the colour map of what speaks against the target, in words on a page.
        deep: how far up their map colours go, short of black and of white, which letters and pictures have.
        first: how far up it they begin over a picture, where they are transparent.
    """

    ground: str
    ink: str
    faint: str
    missing: str
    words: str
    signed: str
    against: str
    deep: float
    first: float

    def veiled(self, pixels: Float[np.ndarray, "*shape 3"], mute: float) -> Float[np.ndarray, "*shape 3"]:
        """Pixels, 0 to 255, of a picture that is muted so far, 0 to 1: they go towards the ground."""
        return pixels + mute * VEIL * (np.array(list(bytes.fromhex(self.ground[1:])), dtype=float) - pixels)


THEMES: Mapping[str, Theme] = {
    "light": Theme("#ffffff", "#1a1a1a", "#6b6b6b", "#9a9a9a", "magma_r", "RdBu_r", "GnBu", 0.78, 0.28),
    "dark": Theme("#14151a", "#ececec", "#a0a0a8", "#55565e", "inferno", "berlin", "GnBu_r", 0.9, 0.45),
}
"""Themes by name. Their colours are told apart by the colour-blind too; of signed maps blue is against, and red is for."""


def theme(name: str) -> Theme:
    """The theme called ``name``; UnknownNameError lists the known ones."""
    if name not in THEMES:
        raise UnknownNameError(f"no theme {name!r}{closest(str(name), THEMES)}; known themes: {', '.join(THEMES)}")
    return THEMES[name]


def start_of(segment: Segment) -> str:
    """Where the scale of a segment starts: patches of a picture are min–max scaled, everything else from 0."""
    return FROM_ZERO if segment.grid is None else MIN_MAX


def scale_of(values: Iterable[float], start: str = FROM_ZERO) -> Scale:
    """The scale of these values."""
    given = np.fromiter(values, dtype=np.float64)
    finite = given[np.isfinite(given)]
    least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return Scale(start, least, most, given.size, given.size - finite.size)


def token_scale(segment: Segment, drawn: Drawn) -> Scale:
    """The scale of the tokens of a segment that the model took in, each by itself."""
    return scale_of(drawn.values[drawn.taken], start_of(segment))


def joined(scales: Iterable[Scale]) -> Scale:
    """One scale for several maps, so that their colours compare."""
    known = list(scales)
    finite = [s for s in known if s.bad < s.count] or known
    least, most = min(s.least for s in finite), max(s.most for s in finite)
    count, bad = sum(s.count for s in known), sum(s.bad for s in known)
    return Scale(known[0].start, least, most, count, bad, shared=len(known) > 1)


def one_unit(explanations: Iterable[ExplanationData]) -> bool:
    """Whether the numbers of these maps are of one kind: of one method, with the same options."""
    return len({(e.method, str(sorted(e.options.items()))) for e in explanations}) < 2


def shares(explanation: ExplanationData) -> ExplanationData:
    """A copy in which each map is divided by the sum of its absolute values, so that maps of any methods compare."""
    segments = {name: replace(s, relevance=_of_the_whole(s)) for name, s in explanation.segments.items()}
    return replace(explanation, segments=segments)


def _of_the_whole(segment: Segment) -> Float[Tensor, "batch tokens"]:
    values = segment.relevance
    counted = values.isfinite() & (segment.positions >= 0)
    total = values.abs().where(counted, values.new_zeros(())).sum(1, keepdim=True)
    return values / total.where(total > 0, total.new_ones(()))


def span(low: float, high: float) -> str:
    """``0.1 … 0.4``, both in as many digits, from three, as it takes to tell them apart."""
    for digits in range(3, 17):
        ends = f"{low:.{digits}g}", f"{high:.{digits}g}"
        if ends[0] != ends[1]:
            break
    return " … ".join(ends)


def tint(share: float, *, dark: bool = False) -> tuple[str, str]:
    """Ground and ink, ``#rrggbb``, of a share of -1 to 1; of 0 black on white, or the reverse, from which the colours set out."""
    paper, letters = (NIGHT, WHITE) if dark else (WHITE, BLACK)
    if share == 0:
        return paper, letters
    look, far = THEMES["dark" if dark else "light"], min(1.0, abs(share) / FAINT)
    cmap, deep = (look.words, look.deep) if share > 0 else (look.against, 1.0)
    full = table(cmap)[round(abs(share) * deep * 255)].tolist()
    mixed = [round(a + far * (b - a)) for a, b in zip(bytes.fromhex(paper[1:]), full, strict=True)]
    red, green, blue = (channel / 255 for channel in mixed)
    return "#" + bytes(mixed).hex(), readable((red, green, blue))


def either(share: float) -> tuple[str, str]:
    """CSS: :func:`tint` of a page that is light or dark."""
    light, dark = tint(share), tint(share, dark=True)
    return f"light-dark({light[0]},{dark[0]})", f"light-dark({light[1]},{dark[1]})"


def chip_colours(share: float) -> tuple[str, str] | None:
    """Ground and ink of a share of -1 to 1 in a terminal, whose own ground nobody knows; None: the terminal's own colours.

    The grounds are of one brightness, so that they stand out from black and from white alike, and the more colourful the more
    the word matters; a word that hardly matters has none.
    """
    strength = abs(share)
    if strength < LEAST_CHIP:
        return None
    end = CHIP if share > 0 else CHIP_AGAINST
    part = (strength - LEAST_CHIP) / (1 - LEAST_CHIP)
    red, green, blue = (round(grey + part * (full - grey)) for grey, full in zip(CHIP_GREY, end, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}", readable((red / 255, green / 255, blue / 255))


def step_class(step: int) -> str:
    """The CSS class of a step: ``s12``, ``n12`` for -12, nothing for 0."""
    return "" if step == 0 else f"{'s' if step > 0 else 'n'}{abs(step)}"


def colour_map(cmap: str) -> Colormap:
    """The matplotlib colour map of this name; OptionError where there is none."""
    from matplotlib import colormaps

    if cmap not in colormaps:
        known = "inferno, magma, viridis, plasma or cividis"
        raise OptionError(f"matplotlib has no colour map {cmap!r}{closest(str(cmap), colormaps)}; try {known}")
    return colormaps[cmap]


@lru_cache(maxsize=16)
def table(cmap: str) -> NDArray[np.uint8]:
    """The 256 colours of a matplotlib colour map, (256, 3), uint8; OptionError where there is no such map."""
    rgb = colour_map(cmap)(np.linspace(0, 1, 256))[:, :3]
    colours = np.round(rgb * 255).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def readable(ground: tuple[float, float, float]) -> str:
    """Black or white as ``#rrggbb``, whichever stands out more on a ground of red, green and blue from 0 to 1."""
    rgb = np.array(ground)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return "#000000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"
