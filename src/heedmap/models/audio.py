"""Sound as a model hears it: what its feature extractor makes of clips, and where each token lies in time and frequency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from math import ceil
from typing import TYPE_CHECKING

from heedmap.data.segments import ROLES
from heedmap.errors import InputError
from heedmap.models.media import duration

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PretrainedConfig

    from heedmap.data.segments import Labels, Segment
    from heedmap.types import FeatureExtractor


FRAME = 0.01
"""Seconds from one frame to the next in Kaldi's filter banks, which extractors with ``max_length`` frames make."""


def sound_inputs(extractor: FeatureExtractor, clips: Sequence[Float[Tensor, " samples"]]) -> dict[str, Tensor]:
    """What the feature extractor makes of clips at its own rate.

    Raises:
        InputError: a clip is longer than the extractor takes; it would cut it without a word.
    """
    most, rate = longest(extractor), extractor.sampling_rate
    for wave in clips:
        if most is not None and len(wave) > most * rate:
            raise InputError(
                f"the audio lasts {len(wave) / rate:.2f} s and the model takes up to {most:g} s; explain it in parts"
            )
    pads = signature(type(extractor).__call__).parameters.get("padding")  # some always fill up to one length
    settings = {"padding": True} if pads is not None and pads.default is False else {}
    return dict(extractor([wave.numpy() for wave in clips], sampling_rate=rate, return_tensors="pt", **settings))


def longest(extractor: FeatureExtractor) -> float | None:
    """How many seconds a feature extractor takes before it cuts a clip, or takes parts of it by chance; None: no such end."""
    for name in ("chunk_length", "max_length_s"):
        if getattr(extractor, name, None) is not None:
            return float(getattr(extractor, name))
    frames = _frames(extractor)
    if frames is not None:
        return float(frames * FRAME)
    called = signature(type(extractor).__call__).parameters
    cuts, samples = (called[name].default if name in called else None for name in ("truncation", "max_length"))
    return samples / extractor.sampling_rate if cuts is True and isinstance(samples, int) else None


def _frames(extractor: FeatureExtractor) -> int | None:
    """How many frames of Kaldi's filter banks it makes of every clip; None: it makes none, or of a clip's own length."""
    count = getattr(extractor, "max_length", None)
    return count if hasattr(extractor, "num_mel_bins") and isinstance(count, int) else None


def seconds(inputs: Mapping[str, object], extractor: FeatureExtractor) -> float | None:
    """How long the model's input lasts, padding included; None where its shape does not tell."""
    from heedmap.outputs import get

    values, features = get(inputs, "input_values"), get(inputs, "input_features")
    rate, hop = extractor.sampling_rate, getattr(extractor, "hop_length", None)
    size = getattr(extractor, "feature_size", None)
    if values is not None and values.dim() == 2:
        return values.shape[1] / rate
    if values is not None and values.dim() == 3 and _frames(extractor) is not None:
        return values.shape[1] * FRAME
    if features is None or hop is None or features.dim() not in (3, 4):
        return None
    bands = features.shape[1 if features.dim() == 3 else 3]
    return features.shape[2] * hop / rate if bands == size else None


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


def patches(config: PretrainedConfig | None, extractor: FeatureExtractor) -> Patches | None:
    """How a model cuts its spectrogram, by its configuration; None where it does not."""
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


@dataclass(frozen=True)
class Hearing:
    """A call of a model, of which is to be told when its tokens of sound are.

    Attributes:
        inputs: what the model was called with, under transformers' names.
        config: of the model.
        extractor: its feature extractor; None: it has none, and nothing is known.
    """

    inputs: Mapping[str, object]
    config: PretrainedConfig | None
    extractor: FeatureExtractor | None

    def laid_out(self, segments: Mapping[str, Segment]) -> dict[str, Segment]:
        """The segments, those of a spectrogram's patches with their grid: a row a band of frequency, a column a time."""
        cut = None if self.extractor is None else patches(self.config, self.extractor)
        return {
            name: _unfolded(segment, cut)
            if cut is not None and segment.kind == "audio" and segment.tokens == cut.bands * cut.times
            else segment
            for name, segment in segments.items()
        }

    def step(self, segment: Segment) -> float | None:
        """Seconds from one token of sound to the next in time; None where nothing tells, and of what is no sound.

        A segment of patches of a spectrogram has its grid already, see :meth:`laid_out`.
        """
        if segment.kind != "audio" or self.extractor is None:
            return None
        if segment.grid is not None:
            cut = patches(self.config, self.extractor)
            return cut.step if cut is not None and segment.grid == (cut.bands, cut.times) else None
        length, cuts = seconds(self.inputs, self.extractor), getattr(self.config, "model_type", "") in CUTTING
        if not length or (cuts and segment.tokens != times_of(self.inputs)):
            return None
        return length / segment.tokens

    def labels(self, segment: Segment) -> Labels | None:
        """The time at which each token of a segment begins; None where it is not known."""
        step = self.step(segment)
        if step is None:
            return None
        bands, times = segment.grid or (1, segment.tokens)
        return (second_labels(times, step * times) * bands,) * len(segment.relevance)

    def roles(self, segments: Mapping[str, Segment], clips: Sequence[object]) -> dict[str, tuple[str, ...]]:
        """For each segment of sound, for each sample one letter a token: what is after its clip's end is padding.

        ``clips``: for each sample what was heard, or one for all.
        """
        roles = {}
        for name, segment in segments.items():
            step = self.step(segment)
            if step is not None:
                batch, (bands, times) = len(segment.relevance), segment.grid or (1, segment.tokens)
                frames = [min(times, ceil(duration(clip) / step - 1e-9)) for clip in clips]
                rows = [(ROLES["person"] * n + ROLES["padding"] * (times - n)) * bands for n in frames]
                roles[name] = tuple(rows * batch if len(rows) == 1 else rows)
        return roles


def _unfolded(segment: Segment, cut: Patches) -> Segment:
    """Its tokens in the order of bands, each over all of the time."""
    import torch

    places = torch.arange(segment.tokens).reshape(cut.folds, cut.bands, cut.times // cut.folds)
    order = places.transpose(0, 1).flatten()
    relevance, positions = segment.relevance[..., order], segment.positions[:, order]
    return replace(segment, relevance=relevance, positions=positions, grid=(cut.bands, cut.times))


def second_labels(tokens: int, seconds: float) -> tuple[str, ...]:
    """The time at which each of ``tokens`` equal parts of ``seconds`` begins, such as ``"0.02 s"``."""
    digits = 2 if seconds / tokens >= 0.01 else 3
    return tuple(f"{seconds * i / tokens:.{digits}f} s" for i in range(tokens))


def times_of(inputs: Mapping[str, object]) -> int | None:
    """How many times there are where the features of a spectrogram are the tokens; None: there is no spectrogram."""
    from heedmap.attention.features import places
    from heedmap.outputs import get

    for name, axis in (("input_values", 1), ("input_features", 2)):
        features = get(inputs, name)
        if features is not None and features.dim() > 2:
            return places((features.shape[axis],))[0]
    return None
