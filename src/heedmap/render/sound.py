"""Relevance over time, on a page and in a terminal: the curve of a sound's frames with its wave, and the map of a spectrogram's
patches, over frequency too, low frequencies at the bottom, up to the sound's end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from rich.style import Style
from rich.text import Text

from heedmap.common.printable import number, percent
from heedmap.data.segments import Segment
from heedmap.render.html import in_themes, macro
from heedmap.render.overlay import grid_values, squares
from heedmap.render.sample import Drawn
from heedmap.render.scale import Scale, chip_colours
from heedmap.render.scale import theme as themed

if TYPE_CHECKING:
    from jaxtyping import Float

    from heedmap.render.overlay import TokenValues

Sound = tuple[NDArray[np.floating], int]
"""What was heard: its samples, one channel, and how many there are in a second."""
BUCKETS = 800
"""Of a sound's wave, each drawn from its least to its greatest value."""
GAPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds, or numbers of frames, that may lie between two ticks."""
TICKS, COLUMNS, WRITTEN = 8, 64, 0.92
"""Ticks of an axis at most; columns of a terminal; up to which part of a page's axis there is room for words at a tick."""
SQUARE = 4
"""Pixels of a patch of a spectrogram in a picture, which the page makes larger."""
BLOCKS = " ▁▂▃▄▅▆▇█"
SHADES = " ·:-=+*#%@"
"""Ten levels of darkness, for terminals without colour."""


def wave(sound: Sound) -> list[list[float]]:
    """The least and the greatest of each part of a sound, as shares of its loudest."""
    samples = np.asarray(sound[0], dtype=np.float64)
    loudest = np.abs(samples).max(initial=0.0) or 1.0
    parts = np.array_split(samples / loudest, min(BUCKETS, max(1, len(samples))))
    return [[round(float(part.min()), 3), round(float(part.max()), 3)] for part in parts if len(part)]


def curve(drawn: Drawn, used: Scale, sound: Sound | None = None, most: int | None = None) -> Markup:
    """The curve on a page.

    Args:
        drawn: frames of sound.
        used: the scale of their relevance.
        sound: what was heard, to be drawn behind the curve, which then ends with it: models fill up what is short; the part
            of the relevance that lies after the end is told. None: all frames are drawn.
        most: in how many steps, each the strongest of its frames, where there are more frames; None: all.
    """
    taken, step = drawn.values[drawn.taken], frame_seconds(drawn)
    end = len(taken) * (step or 1.0)
    if sound is not None and step is not None:
        end = min(end, len(sound[0]) / sound[1])
        taken = taken[: math.ceil(end / step - 1e-9)]
    level = strongest(np.array([used.share(value) for value in taken]), most)
    zero = 50 if used.signed else 100
    wide = len(taken) * (step or 1.0) / end * 100 if end else 100.0
    places = np.linspace(0, wide, len(level) + 1).round(3).tolist()
    steps = " ".join(
        f"{a:g},{zero - zero * y:.1f} {b:g},{zero - zero * y:.1f}"
        for a, b, y in zip(places, places[1:], level, strict=False)
    )
    about = "relevance over time; most relevant: " + ", ".join(drawn.labels[i] for i in drawn.top(3))
    after = after_the_end(drawn.after) or _after(drawn, len(taken))
    ticks = page_ticks(end, step)
    return macro(
        "segments.curve",
        f"0,{zero} {steps} {wide:g},{zero}",
        outline(sound) if sound is not None else "",
        ticks,
        about,
        after,
    )


def terminal_curve(drawn: Drawn, used: Scale, colours: bool) -> Text:
    """The curve in a terminal: a block a step, as high as the strongest of its frames, over a time axis."""
    taken, step = drawn.values[drawn.taken], frame_seconds(drawn)
    level, end = strongest(np.array([used.share(value) for value in taken]), COLUMNS), len(taken) * (step or 1.0)
    level, line = np.repeat(level, max(1, COLUMNS // max(1, len(level)))), Text()
    for share, block in zip(level, blocks(level), strict=True):
        seen = chip_colours(float(share)) if colours else None
        line.append(block, seen[0] if seen else "")
    return Text("\n").join([line, time_axis(end, step, len(level))])


def shade(place: float, signed: bool, colours: bool, wide: int) -> tuple[str, Style]:
    """A place of a map in a terminal, ``wide`` letters: coloured as words are, or without ``colours`` a letter."""
    if not colours:
        return SHADES[round(float(place) * (len(SHADES) - 1))] * wide, Style()
    seen = chip_colours(float(place * 2 - 1 if signed else place))
    return " " * wide, Style(bgcolor=seen[0] if seen else None)


def time_axis(end: float, step: float | None, wide: int) -> Text:
    """The times under ``wide`` columns of a terminal, from 0 to ``end``."""
    axis, free = [" "] * (wide + 8), 0
    for place, words in time_ticks(end, step):
        left = round(place / end * wide)
        if left >= free:
            axis[left : left + len(words)] = words
            free = left + len(words) + 1
    return Text("".join(axis).rstrip(), "dim")


def blocks(level: Float[np.ndarray, " steps"]) -> str:
    """A letter a step, as high as its share from -1 to 1 is far from 0."""
    return "".join(BLOCKS[math.ceil(abs(share) * (len(BLOCKS) - 1) - 1e-9)] for share in level)


def after_the_end(share: float) -> str:
    """How much of the relevance no picture shows; empty where it is all there."""
    if not share:
        return ""
    return f"{percent(share)} of the relevance lies after the end of the sound, in what the model fills it up with"


def terminal_after(share: float) -> list[Text]:
    """:func:`after_the_end` as a line of a terminal, or none."""
    return [Text(after_the_end(share), "dim")] if share else []


def frame_seconds(drawn: Drawn) -> float | None:
    """How long a frame is, by the labels; None where they tell no time."""
    if len(drawn.labels) < 2 or not drawn.labels[-1].endswith(" s"):
        return None
    return float(drawn.labels[-1].removesuffix(" s")) / (len(drawn.labels) - 1)


def strongest(level: Float[np.ndarray, " frames"], most: int | None) -> Float[np.ndarray, " steps"]:
    """Of each of ``most`` steps the value that is farthest from 0; ``level`` itself where it has no more."""
    if most is None or len(level) <= most:
        return level
    return np.array([part[np.abs(part).argmax()] for part in np.array_split(level, most)])


def _after(drawn: Drawn, kept: int) -> str:
    """How much of the relevance lies after the end of the sound, where the explanation does not know the end."""
    sizes = np.abs(np.nan_to_num(drawn.values[drawn.taken], posinf=0.0, neginf=0.0))
    return after_the_end(float(sizes[kept:].sum() / sizes.sum()) if sizes.any() else 0.0)


def outline(sound: Sound) -> str:
    """The points of a polygon around the wave, from 0 to 100 both ways."""
    parts = wave(sound)
    tops = [f"{x / len(parts) * 100:.2f},{50 - 50 * high:.1f}" for x, (_, high) in enumerate(parts)]
    feet = [f"{x / len(parts) * 100:.2f},{50 - 50 * low:.1f}" for x, (low, _) in enumerate(parts)]
    return " ".join([*tops, *reversed(feet)])


def page_ticks(end: float, step: float | None) -> list[tuple[str, str]]:
    """:func:`time_ticks` as CSS has places; the last is left out where its words would not fit beside it."""
    return [(f"{place / end:.2%}", words) for place, words in time_ticks(end, step) if place <= WRITTEN * end]


def time_ticks(end: float, step: float | None) -> list[tuple[float, str]]:
    """Places on an axis from 0 to ``end``, and what is written there."""
    gap = next((gap for gap in GAPS if end / gap <= TICKS), end / TICKS or 1.0)
    places = [n * gap for n in range(math.ceil(end / gap - 1e-9))]
    return [(place, f"{number(place)} s" if step is not None else number(place)) for place in places]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A sample of a spectrogram's patches.

    Attributes:
        places: (bands, times) how far up the scale, high frequencies first; NaN for what the model did not take in.
        step: seconds from one time to the next.
        after: share of the relevance after the end of the sound.
    """

    places: NDArray[np.float64]
    step: float
    after: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.places.shape[1] * self.step


def is_spectrum(segment: Segment) -> bool:
    """Whether a segment is a spectrogram's patches, whose times are known."""
    return segment.kind == "audio" and segment.grid is not None and segment.labels is not None


def spectrum(segment: Segment, drawn: Drawn, used: Scale, values: TokenValues | None = None) -> Spectrum:
    """The map of a sample of a spectrogram's patches, up to the end of its sound; ``values``: (tokens,) what is drawn, None: the
    relevance.
    """
    times = (segment.grid or (1, 1))[1]
    known = drawn.known if values is None else values
    shown = grid_values(segment, np.where(np.isfinite(known), used.places(known), np.nan))
    heard = np.flatnonzero(grid_values(segment, drawn.taken).any(0))
    end = int(heard[-1]) + 1 if len(heard) else times
    step = float(drawn.labels[times - 1].removesuffix(" s")) / max(1, times - 1)
    return Spectrum(shown[::-1, :end], step, drawn.after)


def spectrum_page(shown: Spectrum, used: Scale, about: str, sound: Sound | None) -> Markup:
    """On a page, above the wave where the sound is known, over a time axis."""
    level = np.round(np.nan_to_num(shown.places) * 255).astype(np.uint8)
    taken = np.isfinite(shown.places)
    picture = in_themes(lambda theme: squares(level, taken, used.colours(themed(theme)), SQUARE), smooth=False)
    ticks = page_ticks(shown.seconds, shown.step)
    return macro("segments.spectrum", picture, _within(sound, shown), ticks, about, after_the_end(shown.after), used)


def _within(sound: Sound | None, shown: Spectrum) -> str:
    """The outline of the wave over the map's own time."""
    if sound is None:
        return ""
    samples, rate = sound
    whole = np.zeros(round(shown.seconds * rate))
    kept = np.asarray(samples)[: len(whole)]
    whole[: len(kept)] = kept
    return outline((whole, rate))


def terminal_spectrum(shown: Spectrum, used: Scale, colours: bool) -> list[Text]:
    """In a terminal: a line a band, over a time axis."""
    times = shown.places.shape[1]
    wide = max(1, COLUMNS // times)
    steps = np.array_split(np.arange(times), min(times, COLUMNS))
    seen = np.nan_to_num(shown.places)
    zero = 0.5 if used.signed else 0.0
    small = zero + np.stack([[strongest(row[part] - zero, 1)[0] for row in seen] for part in steps], axis=1)
    lines = [Text.assemble(*(shade(share, used.signed, colours, wide) for share in row)) for row in small]
    return [*lines, time_axis(shown.seconds, shown.step, small.shape[1] * wide)]
