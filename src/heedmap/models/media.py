"""Pictures, sounds and boxes, read from whatever holds them: files, arrays, pairs; every failure says what was expected."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING
from wave import Error as WaveError
from wave import open as open_wave

import numpy as np
from numpy.typing import NDArray

from heedmap.datasets.files import picture, upright_rgb
from heedmap.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from PIL.Image import Image
    from torch import Tensor

    from heedmap.types import Array


FULL_SCALE = 32768.0


def read_image(path: Path) -> Image:
    """An image file as a person sees it, RGB, upright; of an animation the first frame.

    Raises:
        InputError: no such file, no image, a damaged one, or more pixels than Pillow considers safe.
    """
    _check_file(path, "image")
    return picture(path, path)


def read_boxes(path: Path | bytes, name: object = None) -> dict[str, NDArray[np.float32]]:
    """Precomputed object boxes: ``features``, (N, d), and, where the file has them, ``boxes``, (N, 4), float32.

    Args:
        path: the file, or what would be in it.
        name: what messages call it; None: its path.

    Raises:
        InputError: no such file, no ``.npz``, or arrays of other names or shapes.
    """
    _check_file(path, "boxes")
    name = path if name is None else name
    try:
        with _opened(path) as file, np.load(file, allow_pickle=False) as archive:
            arrays = {
                key: np.asarray(archive[key], dtype=np.float32) for key in ("features", "boxes") if key in archive
            }
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{name} cannot be read ({error}); expected an .npz file with an array 'features'") from error
    features, boxes = arrays.get("features"), arrays.get("boxes")
    if features is None or features.ndim != 2:
        instead = "none" if features is None else f"one of shape {features.shape}"
        raise InputError(f"{name} needs an array 'features' of shape (N, d), and has {instead}")
    if boxes is not None and boxes.shape != (len(features), 4):
        raise InputError(f"{name}: 'boxes' has shape {boxes.shape}; expected ({len(features)}, 4), one a feature")
    return arrays


def read_audio(path: Path | bytes, name: object = None) -> tuple[NDArray[np.float32], int]:
    """A 16-bit PCM ``.wav`` file as (samples, rate): float32 in [-1, 1), channels mixed to one.

    Args:
        path: the file, or what would be in it.
        name: what messages call it; None: its path.

    Raises:
        InputError: no such file, another format, or no sound in it.
    """
    _check_file(path, "audio")
    name = path if name is None else name
    try:
        with _opened(path) as file, open_wave(file, "rb") as sound:
            width, channels, rate = sound.getsampwidth(), sound.getnchannels(), sound.getframerate()
            data = sound.readframes(sound.getnframes())
    except (OSError, EOFError, WaveError) as error:
        raise InputError(f"{name} cannot be read ({error or 'cut off'}); expected a 16-bit PCM .wav file") from error
    if width != 2:
        raise InputError(f"{name} has {8 * width}-bit samples; expected a 16-bit PCM .wav file")
    samples = np.frombuffer(data[: len(data) // (2 * channels) * 2 * channels], dtype="<i2")
    if not samples.size:
        raise InputError(f"{name} holds no sound")
    return (samples.reshape(-1, channels).mean(1) / FULL_SCALE).astype(np.float32), rate


def _opened(path: Path | bytes) -> IO[bytes]:
    return io.BytesIO(path) if isinstance(path, bytes) else path.open("rb")


def _check_file(path: Path | bytes, what: str) -> None:
    if isinstance(path, bytes):
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file of it, or the folder to `heedmap explain`")
    if not path.is_file():
        raise InputError(f"there is no {what} file {path}")


# -- pictures ---------------------------------------------------------------------------------------------------------

CHANNELS = (1, 3, 4)


def rgb(image: object) -> Image:
    """A picture as a person sees it, RGB: the same for a file, however it is given.

    Args:
        image: a PIL image; the path of a file; or an array or tensor of one picture, (rows, columns), (rows, columns, channels)
            or (channels, rows, columns), of 1, 3 or 4 channels: bytes, or floats from 0 to 1.

    Raises:
        InputError: anything else, or a file that is no image.
    """
    from PIL import Image

    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return upright_rgb(image)
    shape, dtype = getattr(image, "shape", None), str(getattr(image, "dtype", ""))
    if shape is not None:
        array = _picture_bytes(np.asarray(image.detach().cpu() if hasattr(image, "detach") else image))
        if array is not None:
            return upright_rgb(Image.fromarray(array))
    what = type(image).__name__ + ("" if shape is None else f" of shape {tuple(shape)} and type {dtype}")
    raise InputError(
        f"the image is a {what}; expected a PIL image, a path, or an array of one picture, (rows, columns, 3), of uint8 or of "
        "floats from 0 to 1"
    )


def _picture_bytes(array: np.ndarray) -> np.ndarray | None:
    """(rows, columns) or (rows, columns, 3 or 4) of bytes; None where it is not clear what the array is."""
    if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or not array.size:
        return None
    if array.ndim == 3 and array.shape[-1] not in CHANNELS and array.shape[0] in CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[-1] not in CHANNELS:
        return None
    return np.ascontiguousarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)


# -- sounds -----------------------------------------------------------------------------------------------------------

ZERO_CROSSINGS = 16
ROLL_OFF = 0.97
LARGEST_STEP = 1000
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

    samples, given_rate = _samples_and_rate(audio)
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


def duration(audio: object) -> float:
    """How many seconds a clip lasts, in any form that :func:`clip` takes.

    Raises:
        InputError: it is no such pair.
    """
    samples, rate = _samples_and_rate(audio)
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
    kernel, width = _sinc_kernel(down, up)
    padded = functional.pad(wave, (width, width + down))[None, None]
    phases = functional.conv1d(padded, kernel[:, None], stride=down)  # (1, up, steps): output sample step · up + phase
    return phases[0].T.reshape(-1)[: math.ceil(len(wave) * up / down)]


def _sinc_kernel(down: int, up: int) -> tuple[Float[Tensor, "up taps"], int]:
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


def _samples_and_rate(audio: object) -> tuple[Array | Sequence[float], int]:
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
