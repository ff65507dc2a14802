"""Colours of relevance on text and bars: from 0, so that twice the relevance is twice as far up the scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from heedmap.render.colours import PAPER, PICTURE, colour, ink
from heedmap.render.sample import number

AGAINST = "GnBu"
"""The colour map of what speaks against the target."""
STEPS = 40
FAINT = 0.15
"""Up to this share a colour is mixed with white, since the maps begin at a yellow and a green that can be seen."""
WHITE, BLACK = "#ffffff", "#000000"


@dataclass(frozen=True)
class Scale:
    """A scale from 0 to ``top``, and to ``-top`` where there are negative values.

    Attributes:
        top: the largest magnitude; 0 where there is nothing to show.
        low, high: the least and the greatest value.
        bad: how many values are not finite.
        shared: whether several maps are drawn on it.
    """

    top: float
    low: float
    high: float
    bad: int = 0
    shared: bool = False

    @property
    def signed(self) -> bool:
        """Whether there are negative values."""
        return self.low < 0

    def share(self, value: float) -> float:
        """``value`` as a part of the largest magnitude, -1 to 1; 0 for one that is not finite."""
        if not isfinite(value) or self.top == 0:
            return 0.0
        return max(-1.0, min(1.0, value / self.top))

    def step(self, value: float) -> int:
        """The colour of ``value``, of ``-STEPS`` … ``STEPS``; 0 is paper."""
        return round(self.share(value) * STEPS)

    def about(self, own: Scale | None = None) -> str:
        """The scale in words, to be written under what is drawn on it; with ``own``, what is drawn has these values."""
        here = own or self
        bad = f"; not finite, left white: {here.bad}" if here.bad else ""
        if self.top == 0:
            return f"nothing to show: every finite value is 0{bad}"
        ends = f"-{number(self.top)} … 0 … {number(self.top)}" if self.signed else f"0 … {number(self.top)}"
        both = ", shared by the maps on this page" if self.shared else ""
        return f"colour: {ends}{both}; values: {number(here.low)} … {number(here.high)}{bad}"


def scale(values: Iterable[float]) -> Scale:
    """The scale of these values."""
    given = list(values)
    finite = [value for value in given if isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    return Scale(max(abs(low), abs(high)), low, high, len(given) - len(finite))


def joined(scales: Iterable[Scale]) -> Scale:
    """One scale for several maps, so that their colours compare."""
    known = list(scales)
    top, low, high = max(s.top for s in known), min(s.low for s in known), max(s.high for s in known)
    return Scale(top, low, high, sum(s.bad for s in known), shared=len(known) > 1)


def tint(share: float) -> tuple[str, str]:
    """Ground and ink, ``#rrggbb``, of a share of -1 to 1; of 0 black on white, from which the colours set out."""
    if share == 0:
        return WHITE, BLACK
    cmap = PAPER if share > 0 else AGAINST
    ground, letters = colour(abs(share), cmap), ink(abs(share), cmap)
    part = min(1.0, abs(share) / FAINT)
    channels = (round(255 + part * (int(ground[i : i + 2], 16) - 255)) for i in (1, 3, 5))
    return "#" + "".join(f"{channel:02x}" for channel in channels), letters


def step_class(step: int) -> str:
    """The CSS class of a step: ``s12``, ``n12`` for -12, nothing for 0."""
    return "" if step == 0 else f"{'s' if step > 0 else 'n'}{abs(step)}"


def steps_style() -> str:
    """CSS: each step's ground and ink as the variables ``--c`` and ``--k``."""
    rules = []
    for step in (s for s in range(-STEPS, STEPS + 1) if s):
        ground, letters = tint(step / STEPS)
        rules.append(f".heedmap .{step_class(step)}{{--c:{ground};--k:{letters}}}")
    return "\n".join(rules)


def gradient(signed: bool) -> str:
    """CSS: the colours of the scale from left to right."""
    ends = range(-8 if signed else 0, 9)
    return f"linear-gradient(to right,{','.join(tint(step / 8)[0] for step in ends)})"


def picture_ramp() -> str:
    """CSS: the colours of maps of pictures."""
    return f"linear-gradient(to right,{','.join(colour(step / 8, PICTURE) for step in range(9))})"
