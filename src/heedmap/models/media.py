"""Image, audio and box files, read into what a Model takes; every failure says what was expected."""

from __future__ import annotations

import io
import wave
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heedmap.datasets.files import picture
from heedmap.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

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
        with _opened(path) as file, wave.open(file, "rb") as sound:
            width, channels, rate = sound.getsampwidth(), sound.getnchannels(), sound.getframerate()
            data = sound.readframes(sound.getnframes())
    except (OSError, EOFError, wave.Error) as error:
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
