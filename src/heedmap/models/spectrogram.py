"""Where a sound's tokens lie in time and frequency, in models that cut a spectrogram as others cut pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from heedmap.models.audio import FRAME, longest

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from heedmap.explanation_data import Segment
    from heedmap.types import FeatureExtractor

TRANSFORMER = "audio-spectrogram-transformer"
FOLDED = ("clap", "clap_audio_model")
"""Model types whose spectrogram is folded to a square: equal parts of the time lie one above the other."""
CUTTING = (TRANSFORMER, *FOLDED)
"""Model types that cut a spectrogram to patches of time and frequency."""


@dataclass(frozen=True)
class Patches:
    """How a spectrogram is cut.

    Attributes:
        bands: patches along the frequency, from low to high.
        times: patches along the time.
        folds: how many parts of the time lie one above the other where the model cuts.
        step: seconds from the beginning of one patch to that of the next.
    """

    bands: int
    times: int
    folds: int
    step: float

    @property
    def tokens(self) -> int:
        """How many patches there are."""
        return self.bands * self.times


def patches(config: PretrainedConfig | None, extractor: FeatureExtractor) -> Patches | None:
    """How a model cuts its spectrogram, by its configuration; None where it does not.

    Args:
        config: of the model.
        extractor: its feature extractor.
    """
    if config is None:
        return None
    kind = getattr(config, "model_type", "")
    if kind == TRANSFORMER:
        bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        times = (config.max_length - config.patch_size) // config.time_stride + 1
        return Patches(bands, times, 1, config.time_stride * FRAME)
    if kind in FOLDED:
        config = getattr(config, "audio_config", config)
        folds = config.spec_size // config.num_mel_bins
        down, across = (config.spec_size // stride for stride in config.patch_stride)
        times = across * folds
        length = longest(extractor)
        return None if length is None else Patches(down // folds, times, folds, length / times)
    return None


def laid_out(
    segments: Mapping[str, Segment], config: PretrainedConfig | None, extractor: FeatureExtractor | None
) -> dict[str, Segment]:
    """The segments, of which those of a spectrogram's patches have their grid: a row a band of frequency, a column a time.

    Args:
        segments: of an explanation.
        config, extractor: as for :func:`patches`.
    """
    cut = None if extractor is None else patches(config, extractor)
    if cut is None:
        return dict(segments)
    return {
        name: _unfolded(segment, cut) if segment.kind == "audio" and segment.tokens == cut.tokens else segment
        for name, segment in segments.items()
    }


def _unfolded(segment: Segment, cut: Patches) -> Segment:
    """Its tokens in the order of bands, each over all of the time."""
    import torch

    places = torch.arange(cut.tokens).reshape(cut.folds, cut.bands, cut.times // cut.folds)
    order = places.transpose(0, 1).flatten()
    return replace(
        segment,
        relevance=segment.relevance[..., order],
        positions=segment.positions[:, order],
        grid=(cut.bands, cut.times),
    )
