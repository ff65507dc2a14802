"""Sound clips at the rate that the model was trained on, and where the tokens of a spectrogram lie in time and frequency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import TYPE_CHECKING

import numpy as np

from heedmap.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PretrainedConfig

    from heedmap.data.explanation import Segment
    from heedmap.types import Array, FeatureExtractor

ZERO_CROSSINGS = 16
ROLL_OFF = 0.97
LARGEST_STEP = 1000
FRAME = 0.01
"""Seconds from one frame to the next in Kaldi's filter banks, which extractors with ``max_length`` frames make."""
LOUDEST = 16.0
"""Samples above are no sound from -1 to 1 that is a little too loud: they are of another scale."""


def clip(audio: object, rate: int) -> Float[Tensor, " samples"]:
    """A clip, resampled to ``rate`` where its own differs.

    Args:
        audio: ``(samples, sampling_rate)``, ``(sampling_rate, samples)`` or a dict with ``sampling_rate`` and ``array`` or
            ``raw``; the samples are one-dimensional: floats from -1 to 1, or integers of 8, 16 or 32 bits at full scale.
        rate: samples a second that the model takes.

    Raises:
        InputError: not such a pair, more than one channel, empty, non-finite, or rates with no small common ratio.
    """
    import torch

    samples, given_rate = _pair(audio)
    wave = _scaled(torch.as_tensor(samples))
    if wave.dim() == 2 and wave.shape[0] == 1:
        wave = wave[0]
    if not wave.numel():
        raise InputError(f"the audio has shape {tuple(wave.shape)}: it is empty; give at least one sample")
    if wave.dim() != 1:
        raise InputError(
            f"the audio has shape {tuple(wave.shape)}; expected one channel of samples: average the channels first"
        )
    if not bool(wave.isfinite().all()):
        raise InputError("the audio holds samples that are not finite numbers; expected samples from -1 to 1")
    if float(wave.abs().max()) > LOUDEST:
        raise InputError(
            f"the audio has samples up to {float(wave.abs().max()):.6g}; expected -1 to 1: divide by their full scale (32768 for "
            "what was of 16 bits), or give the integers as int16"
        )
    return wave if given_rate == rate else resample(wave, given_rate, rate)


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


def duration(audio: object) -> float:
    """How many seconds a clip lasts, in any form that :func:`clip` takes.

    Raises:
        InputError: it is no such pair.
    """
    samples, rate = _pair(audio)
    return np.asarray(samples).shape[-1] / rate


def resample(wave: Float[Tensor, " samples"], rate: int, wanted: int) -> Float[Tensor, " resampled"]:
    """``wave`` at ``wanted`` instead of ``rate`` samples a second, by a windowed sinc; ceil(samples · wanted / rate).

    Raises:
        InputError: the rates have no small common ratio, so that a filter would be very long.
    """
    from torch.nn import functional

    common = math.gcd(rate, wanted)
    down, up = rate // common, wanted // common
    if max(up, down) > LARGEST_STEP:
        raise InputError(
            f"the audio has {rate} samples a second and the model takes {wanted}, rates with no small common ratio; "
            f"resample it to {wanted} first"
        )
    kernel, width = _kernel(down, up)
    padded = functional.pad(wave, (width, width + down))[None, None]
    phases = functional.conv1d(padded, kernel[:, None], stride=down)  # (1, up, steps): output sample step · up + phase
    return phases[0].T.reshape(-1)[: math.ceil(len(wave) * up / down)]


def _kernel(down: int, up: int) -> tuple[Float[Tensor, "up taps"], int]:
    """For each of the ``up`` output samples between two strides, the weights of the input samples around it."""
    import torch

    cutoff = ROLL_OFF * min(1.0, up / down)
    width = math.ceil(ZERO_CROSSINGS / cutoff)
    phase = torch.arange(up, dtype=torch.float64)[:, None] * down / up
    distance = torch.arange(-width, width + down, dtype=torch.float64)[None] - phase
    scaled = (distance * cutoff).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = torch.cos(scaled * math.pi / (2 * ZERO_CROSSINGS)) ** 2
    return (torch.sinc(scaled) * window * cutoff).to(torch.float32), width


def _scaled(samples: Tensor) -> Float[Tensor, ...]:
    """Samples from -1 to 1: integers by the full scale of their type; bytes are around 128, as in a file."""
    import torch

    if samples.dtype in (torch.int8, torch.int16, torch.int32):
        return (samples.to(torch.float64) / -torch.iinfo(samples.dtype).min).to(torch.float32)
    if samples.dtype == torch.uint8:
        return (samples.to(torch.float32) - 128) / 128
    if not samples.is_floating_point():
        raise InputError(
            f"the audio holds {samples.dtype} samples, of no known full scale; give int16, or floats from -1 to 1"
        )
    return samples.to(torch.float32)


def _pair(audio: object) -> tuple[Array | Sequence[float], int]:
    pair: object = audio
    if isinstance(audio, Mapping):
        pair = (audio.get("array", audio.get("raw")), audio.get("sampling_rate"))
    if isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], (int, float, np.number)):
        pair = pair[::-1]
    if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], (int, float, np.number))) or isinstance(
        pair[0], (int, float, str, type(None))
    ):
        raise InputError(
            f"the audio is a {type(audio).__name__}; expected a pair (samples, sampling_rate), such as (array, 16000)"
        )
    samples, rate = pair
    if rate < 1 or not float(rate).is_integer():
        raise InputError(f"the audio's sampling rate is {rate}; expected a whole number of samples a second")
    return samples, int(rate)


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
