"""Relevance over time and frequency: the map of a spectrogram's patches, low frequencies at the bottom, up to the sound's end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from rich.text import Text

from heedmap.render.html import in_themes, macro
from heedmap.render.overlay import grid_values, squares
from heedmap.render.panels import WAVE, bare
from heedmap.render.sample import Drawn
from heedmap.render.scale import Scale, Theme
from heedmap.render.scale import theme as themed
from heedmap.render.sound import (
    COLUMNS,
    after_the_end,
    outline,
    page_ticks,
    shade,
    strongest,
    time_axis,
    time_ticks,
    wave,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from heedmap.data.explanation import Segment
    from heedmap.render.sound import Sound

SQUARE = 4
"""Pixels of a patch in a picture, which the page makes larger."""
WAVES = 0.4
"""Height of the wave below a map, as a share of the map's."""


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


def band_of(segment: Segment, drawn: Drawn, i: int) -> str:
    """What patch ``i`` is called: when it is, and how high."""
    bands, times = segment.grid or (1, 1)
    return f"{drawn.labels[i]}, band {i // times + 1} of {bands}"


def spectrum(
    segment: Segment, drawn: Drawn, used: Scale, values: Float[np.ndarray, " tokens"] | None = None
) -> Spectrum:
    """The map of a sample, up to the end of its sound.

    Args:
        segment: of a spectrogram's patches.
        drawn: the sample of it.
        used: the scale.
        values: (tokens,) what is drawn; None: the relevance.
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


def draw_spectrum(axes: Axes, shown: Spectrum, cmap: Colormap, theme: Theme, sound: Sound | None) -> None:
    """In a figure."""
    bare(axes)
    bands = len(shown.places)
    axes.imshow(
        np.ma.masked_invalid(shown.places),
        cmap=cmap.with_extremes(bad=theme.missing),
        vmin=0,
        vmax=1,
        aspect="auto",
        extent=(0.0, shown.seconds, 0.0, bands),
    )
    ticks = time_ticks(shown.seconds, shown.step)
    axes.set_xticks([place for place, _ in ticks], [words for _, words in ticks], fontsize=8)
    axes.set_ylabel("frequency →", fontsize=8, color=theme.faint)
    if sound is None:
        return
    parts = np.array(wave(sound)) * bands * WAVES / 2 - bands * WAVES / 2
    times = np.linspace(0, len(sound[0]) / sound[1], len(parts))
    axes.fill_between(times, parts[:, 0], parts[:, 1], color=theme.faint, alpha=WAVE, linewidth=0)
    axes.set_xlim(0, shown.seconds)
    axes.set_ylim(-bands * WAVES, bands)


def terminal_spectrum(shown: Spectrum, used: Scale, colours: bool) -> list[Text]:
    """In a terminal: a line a band, over a time axis."""
    times = shown.places.shape[1]
    wide = max(1, COLUMNS // times)
    steps = np.array_split(np.arange(times), min(times, COLUMNS))
    seen = np.nan_to_num(shown.places)
    zero = 0.5 if used.signed else 0.0
    small = zero + np.stack([[strongest(row[part] - zero, 1)[0] for row in seen] for part in steps], axis=1)
    lines = [Text.assemble(*(shade(share, used.signed, colours, wide) for share in row)) for row in small]
    after = after_the_end(shown.after)
    return [
        *lines,
        time_axis(shown.seconds, shown.step, small.shape[1] * wide),
        *([Text(after, "dim")] if after else []),
    ]
